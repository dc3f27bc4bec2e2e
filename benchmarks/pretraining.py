"""A training step of self-supervised methods, beside the original's own code.

    python -m benchmarks.pretraining --originals DIR [--only METHOD] [--local-views N] [--device DEVICE]
        [--dtype DTYPE] [--json FILE] [--seconds S]

DIR has clones of the originals, as DIR/facebookresearch/dino. A method without a clone is measured beside its other
peers, or left out. Models are ViT-S/16 at 224 pixels (EsViT: Swin-T, SFC: ResNet-18), by default on the CPU in
float32; bfloat16 is by autocast. A step is forward, backward, clipping of each gradient if the method clips, fused
AdamW, and the update of the teacher. All use the same optimizer and the same sizes of views and masks. Contestants run
in interleaved rounds in this process; their peak memory is measured in child processes. The last row is the encoder of
MAE, on the visible quarter of the patches beside all patches. Rows:

    method                      the case
    ours_ms, peers_ms           median milliseconds per step, of the peers {peer: milliseconds}
    ratio                       our time divided by the fastest peer's
    ratio_quartiles, rounds     first and third quartile of this over the rounds, and the number of rounds
    ours_mib, peers_mib         peak memory in MiB (see `benchmarks.memory`)
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from . import commands
from .memory import start_children
from .pretraining_steps import METHODS, Sizes
from .steps import Step


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = commands.make_parser("pretraining", __doc__, epilog=f"METHOD: {', '.join(METHODS)}")
    choose = {"action": "append", "metavar": "METHOD", "choices": METHODS}
    parser.add_argument("--originals", type=Path, metavar="DIR", help="folder of clones: DIR/<owner>/<name>")
    parser.add_argument("--only", help="run only this; repeatable", **choose)
    parser.add_argument("--batch", type=int, default=8, help="images (default: %(default)s)")
    parser.add_argument(
        "--local-views", type=int, default=2, metavar="N", help="of 96 pixels; papers: 8, 10 (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
    commands.add_timing(parser, seconds=15)
    return parser.parse_args(arguments)


def make_on(device: str, dtype: torch.dtype, make: Callable[[], Step]) -> Step:
    """Return the step that `make` makes, on a device and in `dtype`; it returns when the device has finished."""
    with torch.device(device):
        step = make()

    def run() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def run(arguments: argparse.Namespace, console: Console, sizes: Sizes | None = None) -> list[dict]:
    """Measure all rows; a method without a contestant beside ours is left out."""
    torch.set_num_threads(arguments.threads)
    sizes = sizes or Sizes(arguments.batch, arguments.local_views)
    device, dtype = arguments.device, getattr(torch, arguments.dtype)

    def measure(name, note) -> dict | None:
        makers = METHODS[name].makers(sizes, arguments.originals)
        if len(makers) < 2:
            console.print(f"{name}: left out, as {METHODS[name].clone} is not in --originals")
            return None
        makers = {contestant: partial(make_on, device, dtype, make) for contestant, make in makers.items()}
        measured = commands.measure_contestants(makers, arguments.seconds, children, note, device)
        return {"method": name} | measured

    with start_children() as children:
        return commands.measure_all(arguments.only or list(METHODS), measure, str, arguments.json, console)


def table(rows: list[dict], title: str) -> Table:
    """Return a table of milliseconds and MiB per contestant."""
    result = commands.make_table(title, ("method",), ("ours", "peers", "ratio", "quartiles", "rounds", "memory ratio"))
    for row in rows:
        peers = row["peers_ms"]
        shown = ", ".join(f"{name} {ms:.0f} ms {row['peers_mib'][name]:.0f}M" for name, ms in peers.items())
        memory = row["ours_mib"] / row["peers_mib"][min(peers, key=peers.get)]
        ours = f"{row['ours_ms']:.0f} ms {row['ours_mib']:.0f}M"
        result.add_row(row["method"], ours, shown, *commands.ratio_cells(row), f"{memory:.2f}")
    return result


def main(arguments: list[str] | None = None) -> None:
    console, parsed = Console(), parse_arguments(arguments)
    rows = run(parsed, console)
    sizes = f"batch {parsed.batch}, 2 views of 224 and {parsed.local_views} of 96 pixels where there are views"
    threads = f"{torch.get_num_threads()} threads"
    where = threads if parsed.device == "cpu" else torch.cuda.get_device_name()
    title = f"A training step, {sizes}; {parsed.device}, {parsed.dtype}, {where}"
    commands.show(table(rows, title), console)


if __name__ == "__main__":
    main()
