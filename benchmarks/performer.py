"""Performer attention beside softmax attention, over the length of the clip.

    python -m benchmarks.performer [--seconds-of-audio S] [--json FILE] [--plot FILE] [--seconds S]

Both layers have the same projections; ours attends by random features (`hf_vits.layers.performer`), the other by
PyTorch's `scaled_dot_product_attention`. They have the sizes of Audiomer's first layer, in which every second of audio
has 4096 frames that attend to 2048 others, with two heads of 32 channels and 110 random features. On the CPU in
float32, for one clip. A row per mode and length:

    mode, seconds              the case; seconds of audio
    ours_ms, peers_ms          median milliseconds per step, {"sdpa": milliseconds}
    ratio, ratio_quartiles     our time divided by the other's, and the quartiles of this over the rounds
    rounds                     number of rounds
    ours_mib, peers_mib        peak memory in MiB (see `benchmarks.memory`)
"""

import argparse
import itertools
from functools import partial
from pathlib import Path

import torch
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table
from torch import nn

from hf_vits.layers.performer import PerformerAttention

from . import commands
from .audio_peers import SoftmaxAttention
from .memory import start_children
from .steps import MODES, Step, make_layer_step

LENGTHS = (1, 2, 4, 8, 16)
QUERIES_PER_SECOND, KEYS_PER_SECOND = 4096, 2048
CHANNELS, HEADS, HEAD_DIM, FEATURES = 4, 2, 32, 110
MIN_ROUNDS = 3


CONTESTANTS = ("ours", "sdpa")


def make_layer(contestant: str) -> nn.Module:
    torch.manual_seed(0)
    layer = PerformerAttention(CHANNELS, HEADS, HEAD_DIM, FEATURES)
    return layer if contestant == "ours" else SoftmaxAttention(layer)


def make_step(contestant: str, seconds: int, mode: str) -> Step:
    """Return the step of a contestant on fixed random frames."""
    sizes = (QUERIES_PER_SECOND * seconds, KEYS_PER_SECOND * seconds)
    return make_layer_step(make_layer(contestant), [torch.randn(1, size, CHANNELS) for size in sizes], mode)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = commands.make_parser("performer", __doc__)
    parser.add_argument(
        "--seconds-of-audio", type=int, action="append", metavar="S", help=f"repeatable; default: {LENGTHS}"
    )
    commands.add_mode(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time and memory over the length")
    commands.add_timing(parser, seconds=10)
    return parser.parse_args(arguments)


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows."""
    torch.set_num_threads(arguments.threads)
    cases = list(itertools.product(arguments.mode or MODES, arguments.seconds_of_audio or LENGTHS))

    def measure(case, note) -> dict:
        mode, length = case
        makers = {name: partial(make_step, name, length, mode) for name in CONTESTANTS}
        measured = commands.measure_contestants(makers, arguments.seconds, children, note, min_rounds=MIN_ROUNDS)
        return {"mode": mode, "seconds": length} | measured

    with start_children() as children:
        return commands.measure_all(cases, measure, lambda case: "{}, {} s".format(*case), arguments.json, console)


def table(rows: list[dict]) -> Table:
    """Return a table of MiB and milliseconds, also per second of audio, which are constant if cost is linear."""
    title = f"CPU, float32, {torch.get_num_threads()} threads, Audiomer's first layer, one clip"
    times = ("ours ms", "sdpa ms", "ours ms/s", "sdpa ms/s")
    columns = ("seconds", *times, "ratio", "quartiles", "rounds", "ours MiB", "sdpa MiB")
    result = commands.make_table(title, ("mode",), columns)
    for row in rows:
        times = [row["ours_ms"], row["peers_ms"]["sdpa"]]
        times += [time / row["seconds"] for time in times]
        memory = (f"{row['ours_mib']:.0f}", f"{row['peers_mib']['sdpa']:.0f}")
        shown = [f"{time:.1f}" for time in times]
        result.add_row(row["mode"], str(row["seconds"]), *shown, *commands.ratio_cells(row), *memory)
    return result


def draw(axes: Axes, rows: list[dict], unit: str) -> None:
    """Draw a line per contestant over the length, beside linear and quadratic growth."""
    lengths = [row["seconds"] for row in rows]
    ours = [row[f"ours_{unit}"] for row in rows]
    theirs = [row[f"peers_{unit}"]["sdpa"] for row in rows]
    axes.plot(lengths, ours, "o-", label="Performer attention")
    axes.plot(lengths, theirs, "s--", label="softmax attention (sdpa)")
    for power, style in ((1, ":"), (2, "-.")):
        line = [ours[0] * (length / lengths[0]) ** power for length in lengths]
        axes.plot(lengths, line, style, color="grey", linewidth=1, label=f"length to the power of {power}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xlabel("seconds of audio")


def main(arguments: list[str] | None = None) -> None:
    parsed, console = parse_arguments(arguments), Console()
    rows = run(parsed, console)
    commands.show(table(rows), console)
    if parsed.plot:
        commands.plot_time_and_memory(rows, parsed.plot, draw)


if __name__ == "__main__":
    main()
