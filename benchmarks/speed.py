"""Speed and memory of our models beside the same models of transformers, timm and torchvision.

    python -m benchmarks.speed [--only NAME] [--json FILE] [--seconds S] [--threads N]

Every row is one architecture, mode (inference, training step), batch size and engine (eager, `torch.compile`), on the
CPU in float32. Contestants of a row are timed in interleaved rounds in this process; their peak memory is measured in
child processes. The JSON file is a list of rows, written anew after each:

    name, mode, batch, engine  what was run
    ours_ms, peers_ms          median milliseconds per step, of the peers {peer: milliseconds}
    ratio                      ours over the fastest peer's
    ratio_quartiles            first and third quartile, over the rounds, of our time to that peer's in the same round
    rounds                     how many rounds there were
    ours_mib, peers_mib        peak memory in MiB (see `benchmarks.memory`)
    peak_share                 our floating-point operations per second over what a large matrix product reaches here
"""

import argparse
import itertools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .contestants import SUBJECTS, Subject
from .memory import peak_mib, start_children
from .rounds import interleave, matmul_peak, summarize
from .steps import ENGINES, MODES, count_flops, make_step

BATCHES = (1, 8)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__.splitlines()[0], epilog=f"NAME: {', '.join(SUBJECTS)}"
    )
    choose = {"action": "append", "metavar": "NAME"}
    parser.add_argument("--only", choices=SUBJECTS, help="run this architecture alone; repeatable", **choose)
    parser.add_argument("--mode", choices=MODES, action="append", help="repeatable; default: all")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="repeatable; default: all")
    parser.add_argument("--batch", type=int, action="append", help="repeatable; default: 1 and 8")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file as they come")
    parser.add_argument("--seconds", type=float, default=20, help="of timing per row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    return parser.parse_args(arguments)


def cases(arguments: argparse.Namespace) -> list[tuple[str, str, int, str]]:
    """(name, mode, batch, engine) of every row, quick ones first."""
    axes = (
        arguments.engine or ENGINES,
        arguments.only or SUBJECTS,
        arguments.mode or MODES,
        arguments.batch or BATCHES,
    )
    return [
        (name, mode, batch, engine)
        for engine, name, mode, batch in itertools.product(*axes)
        if mode == "inference" or batch >= SUBJECTS[name].smallest_training_batch
    ]


def measure(
    subject: Subject, mode: str, batch: int, engine: str, seconds: float, children: ProcessPoolExecutor
) -> Iterator[str | dict]:
    """One row: yields what it is about to do, for the progress bar, and last the measurements."""
    yield "warm-up"
    torch.compiler.reset()
    steps = {name: make_step(build, subject, mode, batch, engine) for name, build in subject.builders.items()}
    yield "rounds"
    measured = summarize(interleave(steps, seconds))
    del steps
    mib = {}
    for name, build in subject.builders.items():
        yield f"memory, {name}"
        mib[name] = children.submit(peak_mib, build, subject, mode, batch, engine, torch.get_num_threads()).result()
    yield measured | {"ours_mib": mib.pop("ours"), "peers_mib": mib}


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows, with a progress bar, and keep the JSON file up to date."""
    torch.set_num_threads(arguments.threads)
    rows = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with start_children() as children, Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        todo = cases(arguments)
        task = progress.add_task("matmul peak", total=len(todo))
        peak = matmul_peak()
        for name, mode, batch, engine in todo:
            row = {"name": name, "mode": mode, "batch": batch, "engine": engine}
            for stage in measure(SUBJECTS[name], mode, batch, engine, arguments.seconds, children):
                if isinstance(stage, str):
                    progress.update(task, description=f"{name} {mode} {batch} {engine}: {stage}")
                else:
                    row |= stage
            row["peak_share"] = count_flops(SUBJECTS[name], mode, batch) / (1e-3 * row["ours_ms"]) / peak
            rows.append(row)
            progress.advance(task)
            if not console.is_terminal:
                console.print(f"{name} {mode} batch {batch} {engine}: ratio {row['ratio']:.3f}")
            if arguments.json:
                write(rows, arguments.json)
    return rows


def write(rows: list[dict], path: Path) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(rows, indent=2) + "\n")
    os.replace(temporary, path)


def table(rows: list[dict]) -> Table:
    """Milliseconds and MiB per contestant, ours first; the fastest peer's are bold."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["peers_ms"]))
    result = Table(title=f"CPU, float32, {torch.get_num_threads()} threads: median ms per step, peak MiB")
    for title in ("architecture", "mode", "batch", "engine"):
        result.add_column(title)
    for title in ("ours", *peers, "ratio", "quartiles", "rounds", "of peak"):
        result.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        result.add_row(*cells(row, peers))
    return result


def cells(row: dict, peers: list[str]) -> list[str]:
    fastest = min(row["peers_ms"].values())
    shown = [f"{row['ours_ms']:.1f} {row['ours_mib']:.0f}M"]
    for peer in peers:
        if peer not in row["peers_ms"]:
            shown.append("")
            continue
        ms, mib = row["peers_ms"][peer], row["peers_mib"][peer]
        shown.append(f"[bold]{ms:.1f}[/] {mib:.0f}M" if ms == fastest else f"{ms:.1f} {mib:.0f}M")
    low, high = row["ratio_quartiles"]
    measures = (f"{row['ratio']:.3f}", f"{low:.3f} {high:.3f}", str(row["rounds"]), f"{row['peak_share']:.0%}")
    return [row["name"], row["mode"], str(row["batch"]), row["engine"], *shown, *measures]


def main(arguments: list[str] | None = None) -> None:
    console = Console()
    rows = run(parse_arguments(arguments), console)
    # A file or a pipe has no width of its own.
    (console if console.is_terminal else Console(width=160)).print(table(rows))


if __name__ == "__main__":
    main()
