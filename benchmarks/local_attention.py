"""Local attention with learned queries, beside the same attention computed on unfolded windows.

    python -m benchmarks.local_attention [--kernel K] [--map SIZE] [--json FILE] [--plot FILE] [--seconds S]

Both layers have the same parameters and compute the same function, on the CPU in float32. Ours is
`hf_vits.models.qna.attention_qna.LearnedQueryAttention`, whose memory should not grow with the kernel; the other
needs a copy of the feature map for every position of the kernel. A row per mode, side of the map and of the kernel:

    mode, map, kernel          the case
    ours_ms, peers_ms          median milliseconds per step, {"unfold": milliseconds}
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

from hf_vits.models.qna.attention_qna import LearnedQueryAttention

from . import commands
from .memory import start_children
from .steps import MODES, Step, make_layer_step

KERNELS = (3, 5, 7, 11)
MAPS = (28, 56)
BATCH = 4
CHANNELS = 64
HEADS = 8


class UnfoldedQueryAttention(LearnedQueryAttention):
    """The same attention, computed on unfolded windows of the feature map."""

    def attend(self, scores: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend as in the base class: scores (batch, height, width, queries * heads) and values to a feature map."""
        heads = (self.num_queries, self.num_heads)
        # Axes: batch, query, head, position in the window, window.
        scores = self.windows(scores, value=float("-inf")).unflatten(1, heads)
        bias = (self.position_bias * self.position_bias_scale).flatten(2).unsqueeze(-1)
        probabilities = (scores + bias).softmax(dim=3)
        scale = self.weigh(torch.ones_like(self.position_kernel())).view(*heads, -1, 1)
        # Axes of the values: batch, head, channel of the head, position in the window, window.
        values = self.windows(value).unflatten(1, (self.num_heads, self.head_dim))
        attended = torch.einsum("bhpl,bhdpl->bhdl", (probabilities * scale).sum(dim=1), values)
        grid = (
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(
                value.shape[1:3], self.padding, self.kernel_size, self.stride, strict=True
            )
        )
        return attended.flatten(1, 2).unflatten(-1, tuple(grid)).permute(0, 2, 3, 1)

    def windows(self, hidden_states: torch.Tensor, value: float = 0.0) -> torch.Tensor:
        """Unfold (batch, height, width, channels) to (batch, channels, positions in a window, windows)."""
        down, right = self.padding
        padded = nn.functional.pad(hidden_states.permute(0, 3, 1, 2), (right, right, down, down), value=value)
        unfolded = nn.functional.unfold(padded, self.kernel_size, stride=self.stride)
        return unfolded.unflatten(1, (hidden_states.shape[-1], -1))


CONTESTANTS = {"ours": LearnedQueryAttention, "unfold": UnfoldedQueryAttention}


def make_layer(contestant: str, kernel_size: int, **options) -> LearnedQueryAttention:
    """Return a layer with random weights, the same for both contestants."""
    torch.manual_seed(0)
    layer = CONTESTANTS[contestant](CHANNELS, CHANNELS, HEADS, kernel_size, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=CHANNELS**-0.5)
    return layer


def make_step(contestant: str, kernel_size: int, map_size: int, mode: str) -> Step:
    """Return the step of a contestant on a fixed random feature map."""
    layer = make_layer(contestant, kernel_size)
    return make_layer_step(layer, [torch.randn(BATCH, map_size, map_size, CHANNELS)], mode)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = commands.make_parser("local_attention", __doc__)
    repeatable = {"type": int, "action": "append"}
    parser.add_argument("--kernel", metavar="K", help=f"side; repeatable; default: {KERNELS}", **repeatable)
    parser.add_argument("--map", metavar="SIZE", help=f"side; repeatable; default: {MAPS}", **repeatable)
    commands.add_mode(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time and memory over the side of the kernel")
    commands.add_timing(parser, seconds=10)
    return parser.parse_args(arguments)


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows."""
    torch.set_num_threads(arguments.threads)
    cases = list(itertools.product(arguments.mode or MODES, arguments.map or MAPS, arguments.kernel or KERNELS))

    def measure(case, note) -> dict:
        mode, map_size, kernel = case
        makers = {name: partial(make_step, name, kernel, map_size, mode) for name in CONTESTANTS}
        measured = commands.measure_contestants(makers, arguments.seconds, children, note)
        return {"mode": mode, "map": map_size, "kernel": kernel} | measured

    with start_children() as children:
        return commands.measure_all(
            cases, measure, lambda case: "{}, map {}, kernel {}".format(*case), arguments.json, console
        )


def table(rows: list[dict]) -> Table:
    """Return a table of milliseconds and MiB."""
    title = f"CPU, float32, {torch.get_num_threads()} threads, batch {BATCH}, {CHANNELS} channels"
    columns = ("map", "kernel", "ours ms", "unfold ms", "ratio", "quartiles", "rounds", "ours MiB", "unfold MiB")
    result = commands.make_table(title, ("mode",), columns)
    for row in rows:
        times = (f"{row['ours_ms']:.1f}", f"{row['peers_ms']['unfold']:.1f}")
        memory = (f"{row['ours_mib']:.0f}", f"{row['peers_mib']['unfold']:.0f}")
        sizes = (str(row["map"]), str(row["kernel"]))
        result.add_row(row["mode"], *sizes, *times, *commands.ratio_cells(row), *memory)
    return result


def draw(axes: Axes, rows: list[dict], unit: str) -> None:
    """Draw a line per contestant and map over the side of the kernel."""
    for index, map_size in enumerate(dict.fromkeys(row["map"] for row in rows)):
        of_map = sorted((row for row in rows if row["map"] == map_size), key=lambda row: row["kernel"])
        kernels = [row["kernel"] for row in of_map]
        for name, style in (("ours", "o-"), ("unfold", "s--")):
            values = [row[f"ours_{unit}"] if name == "ours" else row[f"peers_{unit}"][name] for row in of_map]
            axes.plot(kernels, values, style, color=f"C{index}", label=f"{name}, map {map_size}x{map_size}")
    axes.set_yscale("log")
    axes.set_xticks(kernels)
    axes.set_xlabel("side of the kernel")


def main(arguments: list[str] | None = None) -> None:
    parsed, console = parse_arguments(arguments), Console()
    rows = run(parsed, console)
    commands.show(table(rows), console)
    if parsed.plot:
        commands.plot_time_and_memory(rows, parsed.plot, draw)


if __name__ == "__main__":
    main()
