"""Multiply-adds of ViViT-B/16x2 by length of the clip, for the paper's four models.

    python -m benchmarks.clip_cost [--model M] [--frames N] [--size PIXELS] [--json FILE] [--plot FILE]

The cost of model 2, the factorised encoder, is nearly proportional to the number of frames; the cost of model 1 grows
with its square when attention dominates (arXiv 2103.15691, section 3.3). Nothing is timed: matrix products and
convolutions are counted on the meta device. A row per model and length:

    model, frames       the case
    gmacs               multiply-adds of one clip, in units of 1e9
    growth              factor from the clip of half the length, if that was counted too
"""

import itertools
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from hf_vits import VivitForVideoClassification
from hf_vits.conversion import variants
from hf_vits.conversion.core import build

from . import commands

FRAMES = (8, 16, 32, 64, 128)
MODELS = {
    "1 spatio-temporal": "vivit_base_k400",
    "2 factorised encoder": "vivit_base_factorised_encoder_k400",
    "3 factorised self-attention": "vivit_base_factorised_self_attention_k400",
    "4 factorised dot product": "vivit_base_factorised_dot_product_k400",
}


def count_gmacs(variant: str, frames: int, **fields) -> float:
    """Count the multiply-adds of one clip, in units of 1e9; `fields` override the variant's configuration."""
    fields = variants("vivit")[variant] | {"num_frames": frames, "attn_implementation": "eager"} | fields
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = build(VivitForVideoClassification, fields)
        clip = torch.empty(1, frames, 3, model.config.image_size, model.config.image_size)
        # Without hidden states, a classifier on the class token skips the other tokens of the last layer.
        model(clip, output_hidden_states=True)
    return counter.get_total_flops() / 2e9


def run(models: list[str], frames: list[int], image_size: int, console: Console) -> list[dict]:
    rows = []
    cases = list(itertools.product(models, sorted(frames)))
    for model, length in track(cases, description="counting", console=console):
        gmacs = count_gmacs(MODELS[model], length, image_size=image_size)
        half = next((row for row in rows if (row["model"], 2 * row["frames"]) == (model, length)), None)
        growth = None if half is None else gmacs / half["gmacs"]
        rows.append({"model": model, "frames": length, "gmacs": gmacs, "growth": growth})
    return rows


def table(rows: list[dict]) -> Table:
    """Return a table with a line per model: multiply-adds, and in brackets the growth from half the length."""
    lengths = list(dict.fromkeys(row["frames"] for row in rows))
    title = "ViViT-B/16x2: 1e9 multiply-adds of a clip, (growth from half the frames)"
    result = commands.make_table(title, ("model",), (f"{length} frames" for length in lengths))
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = (
            f"{row['gmacs']:.1f}" + ("" if row["growth"] is None else f" ({row['growth']:.2f})")
            for row in rows
            if row["model"] == model
        )
        result.add_row(model, *cells)
    return result


def plot(rows: list[dict], path: Path) -> None:
    """Draw multiply-adds over frames, a line per model, beside growth in proportion to the frames."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        lengths = [row["frames"] for row in own]
        (line,) = axes.plot(lengths, [row["gmacs"] for row in own], "o-", label=model)
        proportional = [own[0]["gmacs"] * length / lengths[0] for length in lengths]
        axes.plot(lengths, proportional, ":", color=line.get_color(), linewidth=1)
    axes.plot([], [], ":", color="grey", linewidth=1, label="in proportion to the frames")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, map(str, lengths))
    axes.set_xlabel("frames of the clip")
    axes.set_ylabel("multiply-adds / 1e9")
    axes.set_title("ViViT-B/16x2")
    axes.legend()
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    parser = commands.make_parser("clip_cost", __doc__)
    parser.add_argument(
        "--model", choices=MODELS, action="append", metavar="M", help=f"repeatable: {', '.join(MODELS)}"
    )
    parser.add_argument("--frames", type=int, action="append", metavar="N", help=f"repeatable; default: {FRAMES}")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="default: %(default)s")
    commands.add_json(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw multiply-adds over frames")
    parsed = parser.parse_args(arguments)
    console = Console()
    rows = run(parsed.model or list(MODELS), parsed.frames or list(FRAMES), parsed.size, console)
    commands.show(table(rows), console)
    if parsed.json:
        commands.write(rows, parsed.json)
    if parsed.plot:
        plot(rows, parsed.plot)


if __name__ == "__main__":
    main()
