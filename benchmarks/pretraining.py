"""A training step of self-supervised methods beside the original's own code.

    python -m benchmarks.pretraining --originals DIR [--only METHOD] [--local-views N] [--device DEVICE]
        [--dtype DTYPE] [--json FILE] [--seconds S]

DIR holds clones of the originals, DIR/facebookresearch/dino and so on; a method whose clone is not there is measured
beside what else there is, or left out. At ViT-S/16 and 224 pixels (EsViT: Swin-T); on the CPU in float32 unless the
command line says otherwise, bfloat16 being autocast's. A step is forward, backward, clipping of each parameter where
the method clips, fused AdamW, and the teacher's update; the optimizer is the same for all, the rest each one's own.
Views and masks have the same sizes for all. Contestants run in interleaved rounds in this process; their peak memory
is measured in child processes. The last row is MAE's encoder alone, on the visible quarter of the patches beside all
of them. Rows:

    method                      what was run
    ours_ms, peers_ms           median milliseconds per step, of the peers {peer: milliseconds}
    ratio                       ours over the fastest peer's
    ratio_quartiles, rounds     first and third quartile of that over the rounds, and how many there were
    ours_mib, peers_mib         peak memory in MiB (see `benchmarks.memory`)
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .memory import peak_of, start_children
from .pretraining_steps import METHODS, Method, Sizes
from .rounds import interleave, summarize
from .speed import write
from .steps import Step


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pretraining",
        description=__doc__.splitlines()[0],
        epilog=f"METHOD: {', '.join(METHODS)}",
    )
    choose = {"action": "append", "metavar": "METHOD", "choices": METHODS}
    parser.add_argument("--originals", type=Path, metavar="DIR", help="folder of clones: DIR/<owner>/<name>")
    parser.add_argument("--only", help="run this alone; repeatable", **choose)
    parser.add_argument("--batch", type=int, default=8, help="images (default: %(default)s)")
    parser.add_argument(
        "--local-views", type=int, default=2, metavar="N", help="of 96 pixels; papers: 8, 10 (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file as they come")
    parser.add_argument("--seconds", type=float, default=15, help="of timing per row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    return parser.parse_args(arguments)


def make_on(device: str, dtype: torch.dtype, make: Callable[[], Step]) -> Step:
    """The step that `make` makes on a device, computed in `dtype`, which ends when the device has done it."""
    with torch.device(device):
        step = make()

    def run() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def measure(
    method: Method,
    sizes: Sizes,
    originals: Path | None,
    device: str,
    dtype: torch.dtype,
    seconds: float,
    children: ProcessPoolExecutor,
) -> dict | None:
    """One row; None where there is nobody to compare with."""
    makers = {name: partial(make_on, device, dtype, make) for name, make in method.makers(sizes, originals).items()}
    if len(makers) < 2:
        return None
    row = summarize(interleave({name: make() for name, make in makers.items()}, seconds))
    threads = torch.get_num_threads()
    mib = {name: children.submit(peak_of, make, threads, device).result() for name, make in makers.items()}
    return row | {"ours_mib": mib.pop("ours"), "peers_mib": mib}


def run(arguments: argparse.Namespace, console: Console, sizes: Sizes | None = None) -> list[dict]:
    """Measure all rows, with a progress bar, and keep the JSON file up to date."""
    torch.set_num_threads(arguments.threads)
    sizes = sizes or Sizes(arguments.batch, arguments.local_views)
    rows = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with start_children() as children, Progress(*columns, console=console) as progress:
        todo = arguments.only or list(METHODS)
        task = progress.add_task("", total=len(todo))
        for name in todo:
            progress.update(task, description=name)
            dtype = getattr(torch, arguments.dtype)
            row = measure(
                METHODS[name], sizes, arguments.originals, arguments.device, dtype, arguments.seconds, children
            )
            progress.advance(task)
            if row is None:
                console.print(f"{name}: left out, as {METHODS[name].clone} is not in --originals")
                continue
            rows.append({"method": name} | row)
            if not console.is_terminal:
                console.print(f"{name}: ratio {row['ratio']:.3f}")
            if arguments.json:
                write(rows, arguments.json)
    return rows


def table(rows: list[dict], title: str) -> Table:
    """Milliseconds and MiB per contestant."""
    result = Table(title=title)
    result.add_column("method")
    for column in ("ours", "peers", "ratio", "quartiles", "rounds", "memory ratio"):
        result.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        peers = row["peers_ms"]
        shown = ", ".join(f"{name} {ms:.0f} ms {row['peers_mib'][name]:.0f}M" for name, ms in peers.items())
        memory = row["ours_mib"] / row["peers_mib"][min(peers, key=peers.get)]
        low, high = row["ratio_quartiles"]
        times = (f"{row['ratio']:.3f}", f"{low:.3f} {high:.3f}", str(row["rounds"]), f"{memory:.2f}")
        result.add_row(row["method"], f"{row['ours_ms']:.0f} ms {row['ours_mib']:.0f}M", shown, *times)
    return result


def main(arguments: list[str] | None = None) -> None:
    console, parsed = Console(), parse_arguments(arguments)
    rows = run(parsed, console)
    sizes = f"batch {parsed.batch}, 2 views of 224 and {parsed.local_views} of 96 pixels where there are views"
    threads = f"{torch.get_num_threads()} threads"
    where = threads if parsed.device == "cpu" else torch.cuda.get_device_name()
    title = f"A training step, {sizes}; {parsed.device}, {parsed.dtype}, {where}"
    (console if console.is_terminal else Console(width=160)).print(table(rows, title))


if __name__ == "__main__":
    main()
