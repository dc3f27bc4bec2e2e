"""Interleaved timing: every contestant runs once per round, so that other load on the machine affects all of them."""

import gc
import random
import statistics
import time

import torch

from .steps import Step

WARM_UP_STEPS = 2
MIN_ROUNDS = 5


def interleave(steps: dict[str, Step], seconds: float, min_rounds: int = MIN_ROUNDS) -> dict[str, list[float]]:
    """Time rounds of all steps after a warm-up, each round in a random order.

    The order is random and not rotated, since the time of a step depends on the step before it, through caches and
    freed memory.

    Args:
        seconds: duration of all rounds together; at least `min_rounds` are run.

    Returns:
        {name: milliseconds per round}.
    """
    for step in steps.values():
        for _ in range(WARM_UP_STEPS):
            step()
    times = {name: [] for name in steps}
    shuffler, order = random.Random(0), list(steps)
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        while len(times[order[0]]) < min_rounds or time.perf_counter() < end:
            shuffler.shuffle(order)
            for name in order:
                start = time.perf_counter()
                steps[name]()
                times[name].append(1e3 * (time.perf_counter() - start))
    finally:
        gc.enable()
    return times


def summarize(times: dict[str, list[float]]) -> dict:
    """Return medians, our ratio to the peer with the smallest median, and the quartiles of this ratio over the rounds.

    Args:
        times: {"ours" or peer: milliseconds per round}.
    """
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours_ms, peers_ms = medians["ours"], {name: ms for name, ms in medians.items() if name != "ours"}
    fastest = min(peers_ms, key=peers_ms.get)
    per_round = [ours / peer for ours, peer in zip(times["ours"], times[fastest], strict=True)]
    low, _, high = statistics.quantiles(per_round)
    return {
        "ours_ms": ours_ms,
        "peers_ms": peers_ms,
        "ratio": ours_ms / peers_ms[fastest],
        "ratio_quartiles": [low, high],
        "rounds": len(per_round),
    }


def matmul_peak(size: int = 2048, seconds: float = 2.0) -> float:
    """Return the operations per second of the fastest of many products of two (size, size) float32 matrices."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    torch.mm(left, right)
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(left, right)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * size**3 / fastest
