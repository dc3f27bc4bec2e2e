"""A training step of C-Tran beside the original's own code: CPU time and peak memory.

    python -m benchmarks.c_tran_training --original CLONE [--batch N] [--size PIXELS] [--steps N]

CLONE is a clone of github.com/QData/C-Tran. A step is forward, binary cross-entropy of the unknown labels,
backward and Adam, for COCO's 80 labels. Each side runs in processes of its own, in turns; the CPU time of a step
is the smallest of all its steps, the memory the peak of its process. The original's Adam is the one of its
main.py, ours is fused.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from .processes import SIDES, compare, measured

LABELS = 80


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("c_tran_training", description=__doc__.partition("\n")[0])
    parser.add_argument("--original", type=Path, required=True, metavar="CLONE")
    parser.add_argument("--batch", type=int, default=4, help="images (default: %(default)s)")
    parser.add_argument("--size", type=int, default=576, help="side of the images (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="after a first, per process (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each side (default: %(default)s)")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def ours() -> tuple[torch.nn.Module, Any]:
    from hf_vits.models.c_tran.configuration_c_tran import CTranConfig
    from hf_vits.models.c_tran.modeling_c_tran import CTranForImageClassification

    model = CTranForImageClassification(CTranConfig(num_labels=LABELS))
    return model, lambda images, labels, known: model(images, labels, known_labels=known).loss


def original(clone: Path) -> tuple[torch.nn.Module, Any]:
    """Return the original's model, on the CPU and without pretrained weights, and its loss."""
    import torchvision

    resnet = torchvision.models.resnet101
    torchvision.models.resnet101 = lambda pretrained: resnet(weights=None)
    torch.Tensor.cuda = lambda tensor: tensor
    sys.path.insert(0, str(clone))
    from models import CTranModel
    from models.utils import custom_replace

    model = CTranModel(LABELS, True)

    def loss(images, labels, known):
        logits, _, _ = model(images, known)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return (custom_replace(known, 1, 0, 0) * losses).sum()

    return model, loss


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Run the steps of one side in this process."""
    torch.manual_seed(0)
    model, loss_of = ours() if args.child == "ours" else original(args.original)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=args.child == "ours" or None)
    images = torch.randn(args.batch, 3, args.size, args.size)
    labels = torch.randint(2, (args.batch, LABELS)).float()
    known = torch.where(torch.rand(labels.shape) < 0.4, labels, -1.0)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(images, labels, known).backward()
        optimizer.step()

    return measured(step, args.steps)


def main() -> None:
    args = parse_arguments()
    if args.child:
        print(json.dumps(measure(args)))
    else:
        compare("benchmarks.c_tran_training", sys.argv[1:], args.rounds)


if __name__ == "__main__":
    main()
