"""Time of `import hf_vits` after `import torch, transformers`.

    python -m benchmarks.import_time [--rounds N]

Each round is a new process, which imports torch and transformers first and times only the rest.
"""

import statistics
import subprocess
import sys

from .commands import make_parser

LIMIT = 0.3  # seconds

PROGRAM = """
import time
import torch, transformers
start = time.perf_counter()
import hf_vits
print(time.perf_counter() - start)
"""


def import_seconds() -> float:
    """Return the seconds that `import hf_vits` takes in a new process that has imported torch and transformers."""
    return float(subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout)


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("import_time", __doc__)
    parser.add_argument("--rounds", type=int, default=11, help="default: %(default)s")
    rounds = parser.parse_args(arguments).rounds
    import_seconds()  # so that bytecode is written and files are cached
    seconds = sorted(import_seconds() for _ in range(rounds))
    median = statistics.median(seconds)
    print(f"import hf_vits: median {median:.3f} s of {rounds}, {seconds[0]:.3f} to {seconds[-1]:.3f}; limit {LIMIT} s")
    sys.exit(median > LIMIT)


if __name__ == "__main__":
    main()
