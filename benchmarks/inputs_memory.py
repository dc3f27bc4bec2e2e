"""Peak memory of a forward and backward pass over ever more inputs: HiP, transformers' Perceiver, full attention.

Each model encodes the raw pixels of one square image, 3 channels each, in float32 on the CPU. HiP has HiP-256's shape
and learns by masked auto-encoding. The Perceiver has 256 latents of 512 channels and 6 layers, and embeds pixels to 64
channels with learned positions. Full attention is one transformer layer of 64 channels and one head, whose scores are
kept for the backward pass. Measured is what a process holds beyond what it held before the model was built: weights,
gradients, activations.

  python -m benchmarks.inputs_memory                       # measure, and write results/inputs.yaml's rows as JSON
  python -m benchmarks.inputs_memory --draw runs/pictures/inputs_memory.png
"""

import json
import math
from functools import partial
from pathlib import Path

import torch
import yaml
from matplotlib.figure import Figure
from torch import nn
from transformers import PerceiverConfig, PerceiverModel

from hf_vits import HipConfig, HipForPreTraining
from hf_vits.conversion import variants
from hf_vits.figures.grid import save_figure

from .commands import make_parser
from .memory import peak_of, start_children
from .steps import Step

RESULTS = Path(__file__).parent / "results" / "inputs.yaml"
SIDES = (32, 64, 96, 128, 224, 512, 1024)
# Sides of images up to which a model is measured: beyond, it needs more than 12 GiB.
LARGEST = {"hip": 1024, "perceiver": 1024, "full": 128}
TITLES = {"hip": "HiP-256", "perceiver": "transformers' Perceiver", "full": "full attention"}
CHANNELS = 64


class PixelEmbedding(nn.Module):
    """Pixels projected to `CHANNELS`, with learned positions."""

    def __init__(self, count: int):
        super().__init__()
        self.projection = nn.Linear(3, CHANNELS)
        self.positions = nn.Parameter(torch.zeros(1, count, CHANNELS))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (batch, pixels, 3) to (batch, pixels, CHANNELS)."""
        return self.projection(pixels) + self.positions


def hip_step(count: int) -> Step:
    shape = variants("hip")["hip_256"] | {"modalities": {"image": (count, 3)}, "datasets": None}
    model, pixels = HipForPreTraining(HipConfig(**shape)).train(), torch.rand(1, count, 3)

    def step() -> None:
        model.zero_grad()
        model(pixels).loss.backward()

    return step


def perceiver_step(count: int) -> Step:
    config = PerceiverConfig(d_model=CHANNELS, d_latents=512, num_latents=256, num_self_attends_per_block=6)
    model, embedding = PerceiverModel(config).train(), PixelEmbedding(count)
    pixels = torch.rand(1, count, 3)

    def step() -> None:
        model.zero_grad()
        embedding.zero_grad()
        model(embedding(pixels)).last_hidden_state.square().mean().backward()

    return step


def full_step(count: int) -> Step:
    embedding, pixels = PixelEmbedding(count), torch.rand(1, count, 3)
    query, key, value = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))

    def step() -> None:
        tokens = embedding(pixels)
        scores = query(tokens) @ key(tokens).transpose(1, 2) / math.sqrt(CHANNELS)
        (scores.softmax(dim=-1) @ value(tokens)).square().mean().backward()

    return step


STEPS = {"hip": hip_step, "perceiver": perceiver_step, "full": full_step}


def draw(path: Path) -> None:
    """Draw the committed results: memory over the number of inputs, a line for each model."""
    results = yaml.safe_load(RESULTS.read_text(encoding="utf-8"))
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, title in TITLES.items():
        points = [(row["inputs"], row[f"{name}_mib"] / 1024) for row in results["rows"] if f"{name}_mib" in row]
        axes.loglog(*zip(*points, strict=True), marker="o", label=title)
    axes.set(xlabel="inputs (pixels)", ylabel="peak memory in GiB", title="One forward and backward pass")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    save_figure(figure, path)


def main() -> None:
    parser = make_parser("inputs_memory", __doc__)
    parser.add_argument("--side", type=int, action="append", help=f"of the image, repeatable; default: {SIDES}")
    parser.add_argument("--model", action="append", choices=STEPS, help="repeatable; default: all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw results/inputs.yaml, measuring nothing")
    args = parser.parse_args()
    if args.draw:
        draw(args.draw)
        return
    with start_children() as children:
        for side in args.side or SIDES:
            row: dict = {"name": f"{side} x {side}", "inputs": side * side}
            for name in args.model or STEPS:
                if side <= LARGEST[name]:
                    step = partial(STEPS[name], side * side)
                    mib = children.submit(peak_of, step, args.threads, steps=1).result()
                    row[f"{name}_mib"] = round(mib)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
