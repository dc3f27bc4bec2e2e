"""Speed and memory of our models, beside the same models of transformers, timm and torchvision.

    python -m benchmarks.speed [--only NAME] [--json FILE] [--seconds S] [--threads N]

A row is an architecture, mode (inference, training step), batch size and engine (eager, `torch.compile`), on the CPU
in float32. The contestants of a row are timed in interleaved rounds in this process; their peak memory is measured in
child processes. The JSON file is a list of rows, written after each:

    name, mode, batch, engine  the case
    ours_ms, peers_ms          median milliseconds per step, of the peers {peer: milliseconds}
    ratio                      our time divided by the fastest peer's
    ratio_quartiles            first and third quartile of this over the rounds
    rounds                     number of rounds
    ours_mib, peers_mib        peak memory in MiB (see `benchmarks.memory`)
    peak_share                 our floating-point operations per second as a fraction of a large matrix product's
"""

import argparse
import itertools
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from . import commands
from .contestants import SUBJECTS
from .memory import start_children
from .rounds import matmul_peak
from .steps import ENGINES, MODES, count_flops, make_step

BATCHES = (1, 8)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = commands.make_parser("speed", __doc__, epilog=f"NAME: {', '.join(SUBJECTS)}")
    choose = {"action": "append", "metavar": "NAME"}
    parser.add_argument("--only", choices=SUBJECTS, help="run only this architecture; repeatable", **choose)
    commands.add_mode(parser)
    parser.add_argument("--engine", choices=ENGINES, action="append", help="repeatable; default: all")
    parser.add_argument("--batch", type=int, action="append", help="repeatable; default: 1 and 8")
    commands.add_timing(parser, seconds=20)
    return parser.parse_args(arguments)


def cases(arguments: argparse.Namespace) -> list[tuple[str, str, int, str]]:
    """Return (name, mode, batch, engine) of every row, fast ones first."""
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


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows."""
    torch.set_num_threads(arguments.threads)
    console.print("measuring the peak of matrix products")
    peak = matmul_peak()

    def measure(case, note) -> dict:
        name, mode, batch, engine = case
        torch.compiler.reset()
        subject = SUBJECTS[name]
        makers = {
            who: partial(make_step, build, subject, mode, batch, engine) for who, build in subject.builders.items()
        }
        row = {"name": name, "mode": mode, "batch": batch, "engine": engine}
        row |= commands.measure_contestants(makers, arguments.seconds, children, note)
        return row | {"peak_share": count_flops(subject, mode, batch) / (1e-3 * row["ours_ms"]) / peak}

    with start_children() as children:
        return commands.measure_all(
            cases(arguments), measure, lambda case: "{} {} batch {} {}".format(*case), arguments.json, console
        )


def table(rows: list[dict]) -> Table:
    """Return a table of milliseconds and MiB per contestant, ours first; the fastest peer's are bold."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["peers_ms"]))
    title = f"CPU, float32, {torch.get_num_threads()} threads: median ms per step, peak MiB"
    columns = ("ours", *peers, "ratio", "quartiles", "rounds", "of peak")
    result = commands.make_table(title, ("architecture", "mode", "batch", "engine"), columns)
    for row in rows:
        result.add_row(*cells(row, peers))
    return result


def cells(row: dict, peers: list[str]) -> list[str]:
    """Return the cells of a row of the table."""
    fastest = min(row["peers_ms"].values())
    shown = [f"{row['ours_ms']:.1f} {row['ours_mib']:.0f}M"]
    for peer in peers:
        if peer not in row["peers_ms"]:
            shown.append("")
            continue
        ms, mib = row["peers_ms"][peer], row["peers_mib"][peer]
        shown.append(f"[bold]{ms:.1f}[/] {mib:.0f}M" if ms == fastest else f"{ms:.1f} {mib:.0f}M")
    measures = (*commands.ratio_cells(row), f"{row['peak_share']:.0%}")
    return [row["name"], row["mode"], str(row["batch"]), row["engine"], *shown, *measures]


def main(arguments: list[str] | None = None) -> None:
    parsed, console = parse_arguments(arguments), Console()
    commands.show(table(run(parsed, console)), console)


if __name__ == "__main__":
    main()
