"""A training step of ours beside the original's own code, each side in processes of its own."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

SIDES = ("original", "ours")


def measured(step: Callable[[], None], steps: int) -> dict[str, float]:
    """Run a step once, then `steps` times in this process; return its least CPU time and the peak memory (MiB)."""
    seconds = []
    for _ in range(steps + 1):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    return {"seconds": min(seconds[1:]), "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def compare(module: str, arguments: list[str], rounds: int) -> None:
    """Run both sides in turns, as `python -m module ... --child SIDE`, and print each result and the ratios as JSON.

    A child prints what `measured` returns as the last line of its output.
    """
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, results in found.items():
            command = [sys.executable, "-m", module, *arguments, "--child", side]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results.append(json.loads(output.splitlines()[-1]))
            print(side, results[-1], flush=True)
    best = {side: {key: min(row[key] for row in rows) for key in rows[0]} for side, rows in found.items()}
    ratios = {key: best["ours"][key] / best["original"][key] for key in best["ours"]}
    print(json.dumps({"best": best, "ratio": ratios}))
