"""Performer attention beside softmax attention, over the length of the clip.

    python -m benchmarks.performer [--seconds-of-audio S] [--json FILE] [--plot FILE] [--seconds S]

Both layers hold the same projections; ours attends through random features (`hf_vits.layers.performer`), the other by
PyTorch's `scaled_dot_product_attention`. They have the sizes of Audiomer's first layer, in which every second of sound
is 4096 frames that attend to 2048 others, with two heads of 32 channels and 110 random features. On the CPU in
float32, for one clip. A row per mode and length:

    mode, seconds              what was run; seconds of audio
    ours_ms, peers_ms          median milliseconds per step, {"sdpa": milliseconds}
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

from hf_vits.layers.performer import PerformerAttention

from .audio_peers import SoftmaxAttention
from .memory import peak_of, start_children
from .rounds import interleave, summarize
from .speed import write
from .steps import MODES, Step

LENGTHS = (1, 2, 4, 8, 16)
QUERIES_PER_SECOND, KEYS_PER_SECOND = 4096, 2048
CHANNELS, HEADS, HEAD_DIM, FEATURES = 4, 2, 32, 110
MIN_ROUNDS = 3


CONTESTANTS = ("ours", "sdpa")


def make_layer(contestant: str) -> nn.Module:
    torch.manual_seed(0)
    layer = PerformerAttention(CHANNELS, HEADS, HEAD_DIM, FEATURES)
    return layer if contestant == "ours" else SoftmaxAttention(layer)


def make_layer_step(contestant: str, seconds: int, mode: str) -> Step:
    """What repeats a forward pass, or for training one forward and backward, on fixed random frames."""
    layer = make_layer(contestant)
    sizes = (QUERIES_PER_SECOND * seconds, KEYS_PER_SECOND * seconds)
    inputs = [torch.randn(1, size, CHANNELS, requires_grad=mode == "training") for size in sizes]
    return partial(infer if mode == "inference" else train, layer, inputs)


@torch.inference_mode()
def infer(layer: nn.Module, inputs: list[torch.Tensor]) -> None:
    layer(*inputs)


def train(layer: nn.Module, inputs: list[torch.Tensor]) -> None:
    layer.zero_grad()
    for states in inputs:
        states.grad = None
    layer(*inputs).mean().backward()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performer", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds-of-audio", type=int, action="append", metavar="S", help=f"repeatable; default: {LENGTHS}"
    )
    parser.add_argument("--mode", choices=MODES, action="append", help="repeatable; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file as they come")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time and memory over the length")
    parser.add_argument("--seconds", type=float, default=10, help="of timing per row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    return parser.parse_args(arguments)


def measure(mode: str, length: int, seconds: float, children: ProcessPoolExecutor) -> dict:
    """One row."""
    steps = {name: partial(make_layer_step, name, length, mode) for name in CONTESTANTS}
    row = summarize(interleave({name: step() for name, step in steps.items()}, seconds, MIN_ROUNDS))
    threads = torch.get_num_threads()
    mib = {name: children.submit(peak_of, step, threads).result() for name, step in steps.items()}
    return {"mode": mode, "seconds": length} | row | {"ours_mib": mib.pop("ours"), "peers_mib": mib}


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows, with a progress bar, and keep the JSON file up to date."""
    torch.set_num_threads(arguments.threads)
    cases = list(itertools.product(arguments.mode or MODES, arguments.seconds_of_audio or LENGTHS))
    rows = []
    with start_children() as children, Progress(console=console) as progress:
        task = progress.add_task("", total=len(cases))
        for mode, length in cases:
            progress.update(task, description=f"{mode}, {length} s")
            rows.append(measure(mode, length, arguments.seconds, children))
            progress.advance(task)
            if arguments.json:
                write(rows, arguments.json)
    return rows


def table(rows: list[dict]) -> Table:
    """Milliseconds, also per second of audio, which stay the same where cost is linear; and MiB."""
    result = Table(title=f"CPU, float32, {torch.get_num_threads()} threads, Audiomer's first layer, one clip")
    result.add_column("mode")
    titles = ("seconds", "ours ms", "sdpa ms", "ours ms/s", "sdpa ms/s", "ratio", "quartiles", "ours MiB", "sdpa MiB")
    for title in titles:
        result.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        low, high = row["ratio_quartiles"]
        times = [row["ours_ms"], row["peers_ms"]["sdpa"]]
        times += [time / row["seconds"] for time in times]
        memory = (f"{row['ours_mib']:.0f}", f"{row['peers_mib']['sdpa']:.0f}")
        shown = [f"{time:.1f}" for time in times]
        result.add_row(
            row["mode"], str(row["seconds"]), *shown, f"{row['ratio']:.3f}", f"{low:.3f} {high:.3f}", *memory
        )
    return result


def plot(rows: list[dict], path: Path) -> None:
    """Draw milliseconds and MiB over the length of the clip: a line per contestant, a row of panels per mode."""
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    figure = Figure(figsize=(10, 4 * len(modes)), layout="constrained")
    panels = figure.subplots(len(modes), 2, squeeze=False)
    for mode, pair in zip(modes, panels, strict=True):
        of_mode = [row for row in rows if row["mode"] == mode]
        for axes, unit, title in zip(pair, ("ms", "mib"), ("median time", "peak memory"), strict=True):
            draw(axes, of_mode, unit)
            axes.set_title(f"{mode}: {title}")
    figure.savefig(path)


def draw(axes, rows: list[dict], unit: str) -> None:
    """Lines of `unit`, "ms" or "mib", and what growth with the length and with its square would look like."""
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
