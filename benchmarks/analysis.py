"""CKA of two models' layers, beside the code of vit_analysis.

    python -m benchmarks.analysis --originals DIR [--layers L] [--tokens T] [--channels C] [--json FILE] [--seconds S]

DIR has a clone of the original, DIR/mwalmer-umd/vit_analysis. A step compares all pairs of layers of two models on
given features of 8 batches of 8 images, the original's batch size; 5,000 images are 78 such steps. The estimate is the
same in both, with each Gram matrix scaled to values from 0 to 1. Rows as in `benchmarks.pretraining`, without a
method.
"""

import argparse
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from rich.console import Console
from torch import Tensor, nn

from hf_vits.analysis.representation import MinibatchCKA

from . import commands
from .memory import start_children
from .originals import definitions
from .steps import Step

BATCH, BATCHES = 8, 8


class Stored(nn.Module):
    """A layer that returns given features, of the batch whose number is its input."""

    def __init__(self, features: Tensor):
        super().__init__()
        self.features = features

    def forward(self, number: Tensor) -> Tensor:
        return self.features[int(number)]


class Loader(list):
    """Batches, with the data set that the original asks for."""

    dataset = "random"


def features(layers: int, tokens: int, channels: int, seed: int) -> list[Tensor]:
    """Return random features (batches, images, tokens, channels) of each layer."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(BATCHES, BATCH, tokens, channels, generator=generator) for _ in range(layers)]


def ours(*sizes: int) -> Step:
    """Return the step of `MinibatchCKA`."""
    sides = [features(*sizes, seed) for seed in (0, 1)]

    def step() -> None:
        similarity = MinibatchCKA("range")
        for number in range(BATCHES):
            similarity.update(*([layer[number] for layer in side] for side in sides))
        similarity.compute()

    return step


def original(*sizes: int, clone: Path) -> Step:
    """Return the step of `CKA.compare` in cka/cka_main.py."""
    code = definitions(
        clone, "cka/cka_main.py", tqdm=lambda batches, **options: batches, add_colorbar=None, display_names=None
    )
    models = []
    for seed in (0, 1):
        model = nn.Module()
        model.layers = nn.ModuleList(Stored(layer) for layer in features(*sizes, seed))
        names = [f"layers.{index}" for index in range(sizes[0])]
        models.append(SimpleNamespace(module=model, names=names, run=partial(run_layers, model)))
    loader = Loader([(torch.tensor(number),) for number in range(BATCHES)])
    first, second = models
    compared = code.CKA(
        first.module, second.module, first.run, second.run, "first", "second", first.names, second.names, "cpu"
    )
    return torch.no_grad()(lambda: compared.compare(loader, loader, mode="all"))


def run_layers(model: nn.Module, number: Tensor) -> None:
    """Run all layers on the number of a batch."""
    for layer in model.layers:
        layer(number)


def main(arguments: list[str] | None = None) -> None:
    parser = commands.make_parser("analysis", __doc__)
    parser.add_argument("--originals", type=Path, metavar="DIR", required=True, help="folder of clones")
    parser.add_argument("--layers", type=int, default=12, help="of each model (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=197, help="of an image (default: %(default)s)")
    parser.add_argument("--channels", type=int, default=384, help="of a token (default: %(default)s)")
    commands.add_timing(parser, seconds=60)
    parsed, console = parser.parse_args(arguments), Console()
    torch.set_num_threads(parsed.threads)
    run(parsed, console)


def run(parsed: argparse.Namespace, console: Console) -> list[dict]:
    """Measure the row."""
    sizes = (parsed.layers, parsed.tokens, parsed.channels)
    clone = (parsed.originals / "mwalmer-umd/vit_analysis").resolve()
    makers = {"ours": partial(ours, *sizes), "original": partial(original, *sizes, clone=clone)}
    with start_children() as children:

        def measure(name, note) -> dict:
            return commands.measure_contestants(makers, parsed.seconds, children, note, "cpu")

        return commands.measure_all(["cka"], measure, str, parsed.json, console)


if __name__ == "__main__":
    main()
