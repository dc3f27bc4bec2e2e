"""Peak memory of a contestant, each in a process of its own.

PyTorch counts a GPU's, but no peak for the CPU, so there the system's counter is read: the peak of the resident set
while steps run, less what was resident before the model was built. It holds weights, activations, gradients, optimiser
states and what a compiler leaves behind. Linux with glibc only: the counter is set back after the warm-up by way of
/proc, and malloc is told to give freed tensors back to the system, else the figure would mostly tell how its heap
happens to be fragmented.
"""

import ctypes
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import torch
from torch import nn

from .contestants import Subject
from .steps import Step, make_step

MEASURED_STEPS = 3
MIB = 2**20
M_MMAP_THRESHOLD = -3  # malloc.h


def start_children() -> ProcessPoolExecutor:
    """Where measurements run one by one, every one in a new process.

    The processes are forked from a server that has imported everything and run nothing: a child of this process
    would inherit its memory and thread pools, and a new interpreter would take seconds to import all.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.steps", "torch._dynamo", "torch._inductor.compile_fx"])
    return ProcessPoolExecutor(max_workers=1, mp_context=context, max_tasks_per_child=1)


def peak_mib(
    builder: Callable[[], nn.Module], subject: Subject, mode: str, batch: int, engine: str, threads: int
) -> float:
    """Peak memory of a model's step in MiB; to be called in a fresh process."""
    return peak_of(partial(make_step, builder, subject, mode, batch, engine), threads)


def peak_of(make: Callable[[], Step], threads: int, device: str = "cpu") -> float:
    """Peak memory in MiB of the step that `make` makes, and of what it holds; to be called in a fresh process.

    On a GPU, what PyTorch's allocator has given out at most.
    """
    torch.set_num_threads(threads)
    if device != "cpu":
        step = make()
        step()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(MEASURED_STEPS):
            step()
        return torch.cuda.max_memory_allocated() / MIB
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 64 * 1024)
    before = psutil.Process().memory_info().rss
    step = make()
    step()
    forget_peak()
    for _ in range(MEASURED_STEPS):
        step()
    return (peak() - before) / MIB


def forget_peak() -> None:
    """Set the peak of this process's resident set to its present size (5 is what proc(5) calls for this)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Peak of this process's resident set in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM line: peak memory is measured on Linux only")
