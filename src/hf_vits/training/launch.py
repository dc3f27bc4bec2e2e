"""Several processes on a machine without accelerators.

There `accelerate launch --num_processes N` silently starts a single process (unless it is given mpirun's hosts), so
the recipe command starts the others itself.
"""

import os
import re
from collections.abc import Sequence

import psutil
import torch
from accelerate.commands.launch import launch_command_parser
from torch.distributed import run as torchrun

# accelerate launch, accelerate-launch, python -m accelerate.commands.launch, python .../accelerate/commands/launch.py
_LAUNCHER = re.compile(r"^launch$|accelerate-launch$|accelerate[./]commands[./]launch(\.py)?$")


def prefer_cpu() -> None:
    """Let accelerate connect processes on a machine without accelerators, which it does only with this variable."""
    if not torch.accelerator.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"


def missing_processes() -> int:
    """Return the number of processes asked of `accelerate launch` if it started only this one; otherwise 0."""
    # accelerate prepares the address of a group, and starts no group.
    alone = "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
    on_cpu = not torch.accelerator.is_available() or os.environ.get("ACCELERATE_USE_CPU") == "True"
    if not alone or not on_cpu:
        return 0
    command = psutil.Process().parent().cmdline()
    launchers = [place for place, word in enumerate(command) if _LAUNCHER.search(word)]
    if not launchers:
        return 0
    asked, _ = launch_command_parser().parse_known_args(command[launchers[0] + 1 :])
    return asked.num_processes or 0


def start_processes(count: int, module: str, arguments: Sequence[str]) -> None:
    """Run `python -m module arguments` in `count` connected processes, and wait for them."""
    torchrun.main(["--standalone", f"--nproc-per-node={count}", "-m", module, *arguments])
