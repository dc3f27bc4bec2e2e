"""Local attention of learned queries beside the same computed on windows that are cut out (unfolded).

    python -m benchmarks.local_attention [--kernel K] [--map SIZE] [--json FILE] [--plot FILE] [--seconds S]

Both layers hold the same parameters and compute the same, on the CPU in float32. Ours is
`hf_vits.models.qna.attention_qna.LearnedQueryAttention`, whose memory should not grow with the kernel; the other
needs a copy of the map for every position of the kernel. A row per mode, side of the map and side of the kernel:

    mode, map, kernel          what was run
    ours_ms, peers_ms          median milliseconds per step, {"unfold": milliseconds}
    ratio, ratio_quartiles     ours over the other's, and its quartiles over the rounds
    rounds                     how many rounds there were
    ours_mib, peers_mib        peak memory in MiB (see `benchmarks.memory`)
"""

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn

from hf_vits.models.qna.attention_qna import LearnedQueryAttention

from .memory import peak_of, start_children
from .rounds import interleave, summarize
from .speed import write
from .steps import MODES, Step

KERNELS = (3, 5, 7, 11)
MAPS = (28, 56)
BATCH = 4
CHANNELS = 64
HEADS = 8


class UnfoldedQueryAttention(LearnedQueryAttention):
    """The same attention, on windows that are cut out of the map."""

    def attend(self, scores: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """As in the base class: (batch, height, width, queries * heads) and values to the attended map."""
        heads = (self.num_queries, self.num_heads)
        # Axes: batch, query, head, position in the window, place.
        scores = self.windows(scores, value=float("-inf")).unflatten(1, heads)
        bias = (self.position_bias * self.position_bias_scale).flatten(2).unsqueeze(-1)
        probabilities = (scores + bias).softmax(dim=3)
        scale = self.weigh(torch.ones_like(self.position_kernel())).view(*heads, -1, 1)
        # Axes of the values: batch, head, channel of the head, position in the window, place.
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
        """(batch, height, width, channels) to (batch, channels, positions in a window, places)."""
        down, right = self.padding
        padded = nn.functional.pad(hidden_states.permute(0, 3, 1, 2), (right, right, down, down), value=value)
        unfolded = nn.functional.unfold(padded, self.kernel_size, stride=self.stride)
        return unfolded.unflatten(1, (hidden_states.shape[-1], -1))


CONTESTANTS = {"ours": LearnedQueryAttention, "unfold": UnfoldedQueryAttention}


def make_layer(contestant: str, kernel_size: int, **options) -> LearnedQueryAttention:
    """A layer with random weights, the same for both contestants."""
    torch.manual_seed(0)
    layer = CONTESTANTS[contestant](CHANNELS, CHANNELS, HEADS, kernel_size, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=CHANNELS**-0.5)
    return layer


def make_layer_step(contestant: str, kernel_size: int, map_size: int, mode: str, batch: int = BATCH) -> Step:
    """What repeats a forward pass, or for training one forward and backward, on a fixed random map."""
    layer = make_layer(contestant, kernel_size)
    hidden_states = torch.randn(batch, map_size, map_size, CHANNELS, requires_grad=mode == "training")
    return partial(infer if mode == "inference" else train, layer, hidden_states)


@torch.inference_mode()
def infer(layer: nn.Module, hidden_states: torch.Tensor) -> None:
    layer(hidden_states)


def train(layer: nn.Module, hidden_states: torch.Tensor) -> None:
    layer.zero_grad()
    hidden_states.grad = None
    layer(hidden_states).mean().backward()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_attention", description=__doc__.splitlines()[0])
    repeatable = {"type": int, "action": "append"}
    parser.add_argument("--kernel", metavar="K", help=f"side; repeatable; default: {KERNELS}", **repeatable)
    parser.add_argument("--map", metavar="SIZE", help=f"side; repeatable; default: {MAPS}", **repeatable)
    parser.add_argument("--mode", choices=MODES, action="append", help="repeatable; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file as they come")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time and memory over the kernel's side")
    parser.add_argument("--seconds", type=float, default=10, help="of timing per row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    return parser.parse_args(arguments)


def measure(mode: str, map_size: int, kernel: int, seconds: float, children: ProcessPoolExecutor) -> dict:
    """One row."""
    steps = {name: partial(make_layer_step, name, kernel, map_size, mode) for name in CONTESTANTS}
    row = summarize(interleave({name: step() for name, step in steps.items()}, seconds))
    threads = torch.get_num_threads()
    mib = {name: children.submit(peak_of, step, threads).result() for name, step in steps.items()}
    row |= {"ours_mib": mib.pop("ours"), "peers_mib": mib}
    return {"mode": mode, "map": map_size, "kernel": kernel} | row


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows, with a progress bar, and keep the JSON file up to date."""
    torch.set_num_threads(arguments.threads)
    cases = list(itertools.product(arguments.mode or MODES, arguments.map or MAPS, arguments.kernel or KERNELS))
    rows = []
    with start_children() as children, Progress(console=console) as progress:
        task = progress.add_task("", total=len(cases))
        for mode, map_size, kernel in cases:
            progress.update(task, description=f"{mode}, map {map_size}, kernel {kernel}")
            rows.append(measure(mode, map_size, kernel, arguments.seconds, children))
            progress.advance(task)
            if arguments.json:
                write(rows, arguments.json)
    return rows


def table(rows: list[dict]) -> Table:
    result = Table(title=f"CPU, float32, {torch.get_num_threads()} threads, batch {BATCH}, {CHANNELS} channels")
    result.add_column("mode")
    for title in ("map", "kernel", "ours ms", "unfold ms", "ratio", "quartiles", "rounds", "ours MiB", "unfold MiB"):
        result.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        low, high = row["ratio_quartiles"]
        times = (f"{row['ours_ms']:.1f}", f"{row['peers_ms']['unfold']:.1f}", f"{row['ratio']:.3f}")
        memory = (f"{row['ours_mib']:.0f}", f"{row['peers_mib']['unfold']:.0f}")
        sizes = (str(row["map"]), str(row["kernel"]))
        result.add_row(row["mode"], *sizes, *times, f"{low:.3f} {high:.3f}", str(row["rounds"]), *memory)
    return result


def plot(rows: list[dict], path: Path) -> None:
    """Draw milliseconds and MiB over the kernel's side: a line per contestant and map, a row of panels per mode."""
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    figure = Figure(figsize=(10, 4 * len(modes)), layout="constrained")
    panels = figure.subplots(len(modes), 2, squeeze=False)
    for (mode, pair), (unit, column) in itertools.product(zip(modes, panels, strict=True), (("ms", 0), ("mib", 1))):
        draw(pair[column], [row for row in rows if row["mode"] == mode], unit)
        pair[column].set_title(f"{mode}: {'median time' if unit == 'ms' else 'peak memory'}")
    figure.savefig(path)


def draw(axes, rows: list[dict], unit: str) -> None:
    """Lines of `unit`, "ms" or "mib"."""
    for index, map_size in enumerate(dict.fromkeys(row["map"] for row in rows)):
        of_map = sorted((row for row in rows if row["map"] == map_size), key=lambda row: row["kernel"])
        kernels = [row["kernel"] for row in of_map]
        for name, style in (("ours", "o-"), ("unfold", "s--")):
            values = [row[f"ours_{unit}"] if name == "ours" else row[f"peers_{unit}"][name] for row in of_map]
            axes.plot(kernels, values, style, color=f"C{index}", label=f"{name}, map {map_size}x{map_size}")
    axes.set_yscale("log")
    axes.set_xticks(kernels)
    axes.set_xlabel("side of the kernel")
    axes.set_ylabel({"ms": "milliseconds", "mib": "MiB"}[unit])
    axes.legend()


def main(arguments: list[str] | None = None) -> None:
    parsed = parse_arguments(arguments)
    console = Console()
    rows = run(parsed, console)
    # A file or a pipe has no width of its own.
    (console if console.is_terminal else Console(width=160)).print(table(rows))
    if parsed.plot:
        plot(rows, parsed.plot)


if __name__ == "__main__":
    main()
