"""Peak memory of a contestant, measured in a process of its own.

On a GPU it is the peak of PyTorch's allocator. On the CPU it is the peak of the resident set while steps run, less the
resident set before the model was built: weights, activations, gradients, optimizer states and compiled code. Linux
with glibc only: the peak is reset after the warm-up through /proc, and malloc is set to return freed tensors to the
system, since otherwise the result would mostly depend on the fragmentation of the heap.
"""

import ctypes
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
import torch

from .steps import Step

MEASURED_STEPS = 3
MIB = 2**20
M_MMAP_THRESHOLD = -3  # malloc.h


def start_children() -> ProcessPoolExecutor:
    """Return an executor that runs measurements one by one, each in a new process.

    The processes are forked from a server that has imported everything and run nothing. A fork of this process would
    inherit its memory and thread pools, and a new interpreter would take seconds to import everything.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.steps", "torch._dynamo", "torch._inductor.compile_fx"])
    return ProcessPoolExecutor(max_workers=1, mp_context=context, max_tasks_per_child=1)


def peak_of(make: Callable[[], Step], threads: int, device: str = "cpu", steps: int = MEASURED_STEPS) -> float:
    """Return the peak memory in MiB of making a step and running it; to be called in a new process.

    Args:
        steps: number of steps after the one that warms up.
    """
    torch.set_num_threads(threads)
    if device != "cpu":
        step = make()
        step()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(steps):
            step()
        return torch.cuda.max_memory_allocated() / MIB
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 64 * 1024)
    before = psutil.Process().memory_info().rss
    step = make()
    step()
    forget_peak()
    for _ in range(steps):
        step()
    return (peak() - before) / MIB


def forget_peak() -> None:
    """Reset the peak of this process's resident set to its present size, by writing 5 (see proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Return the peak of this process's resident set in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM line: peak memory is measured on Linux only")
