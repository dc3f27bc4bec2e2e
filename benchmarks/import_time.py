"""What `import hf_vits` adds to `import torch, transformers`, in seconds.

    python -m benchmarks.import_time [--rounds N]

Each round is a new interpreter, which imports torch and transformers first and times what comes after.
"""

import argparse
import statistics
import subprocess
import sys

LIMIT = 0.3  # seconds

PROGRAM = """
import time
import torch, transformers
start = time.perf_counter()
import hf_vits
print(time.perf_counter() - start)
"""


def import_seconds() -> float:
    """Seconds that `import hf_vits` takes in a new interpreter that has imported torch and transformers."""
    return float(subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_time", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11, help="default: %(default)s")
    rounds = parser.parse_args(arguments).rounds
    import_seconds()  # so that bytecode is written and files are cached
    seconds = sorted(import_seconds() for _ in range(rounds))
    median = statistics.median(seconds)
    print(f"import hf_vits: median {median:.3f} s of {rounds}, {seconds[0]:.3f} to {seconds[-1]:.3f}; limit {LIMIT} s")
    sys.exit(median > LIMIT)


if __name__ == "__main__":
    main()
