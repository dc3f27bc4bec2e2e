"""Shared parts of the benchmarks' command lines: arguments, the loop over rows, tables and figures."""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .memory import peak_of
from .rounds import MIN_ROUNDS, interleave, summarize
from .steps import MODES, Step

Row = dict[str, Any]
Case = Any
UNITS = {"ms": ("median time", "milliseconds"), "mib": ("peak memory", "MiB")}


def make_parser(module: str, doc: str, **options: Any) -> argparse.ArgumentParser:
    """Return a parser whose description is the first line of a module's docstring."""
    return argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=doc.splitlines()[0], **options)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file after each row")


def add_timing(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Add --json, --seconds with this default, and --threads."""
    add_json(parser)
    parser.add_argument("--seconds", type=float, default=seconds, help="of timing per row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")


def add_mode(parser: argparse.ArgumentParser) -> None:
    """Add --mode."""
    parser.add_argument("--mode", choices=MODES, action="append", help="repeatable; default: all")


def measure_all(
    cases: Sequence[Case],
    measure: Callable[[Case, Callable[[str], None]], Row | None],
    describe: Callable[[Case], str],
    json_file: Path | None,
    console: Console,
) -> list[Row]:
    """Measure a row per case, with a progress bar, and write the JSON file after each.

    Args:
        measure: takes a case and a function to show what is being done; returns a row, or None to leave it out.
        describe: the text for the progress bar.
    """
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(cases))
        for case in cases:
            text = describe(case)
            progress.update(task, description=text)
            row = measure(case, lambda doing, text=text: progress.update(task, description=f"{text}: {doing}"))
            progress.advance(task)
            if row is None:
                continue
            rows.append(row)
            if not console.is_terminal:
                console.print(f"{text}: ratio {row['ratio']:.3f}")
            if json_file:
                write(rows, json_file)
    return rows


def measure_contestants(
    makers: dict[str, Callable[[], Step]],
    seconds: float,
    children: ProcessPoolExecutor,
    note: Callable[[str], None],
    device: str = "cpu",
    min_rounds: int = MIN_ROUNDS,
) -> Row:
    """Time contestants in interleaved rounds in this process, then measure their memory in child processes.

    Args:
        makers: {"ours" or peer: function that makes its step}; picklable.

    Returns:
        The entries of `summarize`, and ours_mib and peers_mib, peak memory in MiB.
    """
    note("warm-up and rounds")
    row = summarize(interleave({name: make() for name, make in makers.items()}, seconds, min_rounds))
    mib = {}
    for name, make in makers.items():
        note(f"memory, {name}")
        mib[name] = children.submit(peak_of, make, torch.get_num_threads(), device).result()
    return row | {"ours_mib": mib.pop("ours"), "peers_mib": mib}


def ratio_cells(row: Row) -> tuple[str, str, str]:
    """Return the cells of a table for the ratio, its quartiles and the number of rounds."""
    low, high = row["ratio_quartiles"]
    return f"{row['ratio']:.3f}", f"{low:.3f} {high:.3f}", str(row["rounds"])


def make_table(title: str, left: Iterable[str], right: Iterable[str]) -> Table:
    """Return a table with columns aligned left and right."""
    table = Table(title=title)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def show(table: Table, console: Console) -> None:
    """Print a table; to a file or a pipe, which has no width, with 160 characters."""
    (console if console.is_terminal else Console(width=160)).print(table)


def plot_time_and_memory(rows: list[Row], path: Path, draw: Callable[[Axes, list[Row], str], None]) -> None:
    """Draw a row of two panels per mode; `draw` draws the rows of a mode in a unit, "ms" or "mib"."""
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    figure = Figure(figsize=(10, 4 * len(modes)), layout="constrained")
    for mode, panels in zip(modes, figure.subplots(len(modes), 2, squeeze=False), strict=True):
        for axes, (unit, (title, label)) in zip(panels, UNITS.items(), strict=True):
            draw(axes, [row for row in rows if row["mode"] == mode], unit)
            axes.set(title=f"{mode}: {title}", ylabel=label)
            axes.legend()
    figure.savefig(path)


def write(rows: list[Row], path: Path) -> None:
    """Write rows as JSON, replacing the file at once."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(rows, indent=2) + "\n")
    os.replace(temporary, path)
