"""Linear probes on features that are computed once: fast, without augmentation.

A recipe with `model.probe` trains the same classifier on random crops, as the originals do, and saves a model.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hf_vits.evaluation.neighbours import top_accuracy
from hf_vits.optim.optimizers import OPTIMIZERS
from hf_vits.optim.schedules import learning_rate
from hf_vits.pretraining.linear_probe.modeling_linear_probe import EPSILON
from hf_vits.recipe import ScheduleRecipe

SMALLEST_EPOCH = 10  # steps; with few images batches are made smaller to reach it


@dataclass(frozen=True)
class ProbeSettings:
    """Training settings of a probe. Momentum is 0.9, weight decay 0, and the learning rate falls to 0 along a cosine.

    Attributes:
        learning_rate: for a batch of 256 images; it is scaled in proportion to the batch size.
        warmup_epochs: number of first epochs in which the learning rate rises from 0.
        batch_norm: whether a batch norm without parameters precedes the classifier.
    """

    optimizer: Literal["lars", "sgd"]
    learning_rate: float
    epochs: int
    warmup_epochs: int
    batch_size: int
    batch_norm: bool


SETTINGS = {
    # facebookresearch/mae, main_linprobe.py and FINETUNE.md
    "mae": ProbeSettings("lars", 0.1, epochs=90, warmup_epochs=10, batch_size=16384, batch_norm=True),
    # facebookresearch/dino, eval_linear.py, on eight devices; iBOT and EsViT likewise
    "dino": ProbeSettings("sgd", 0.001, epochs=100, warmup_epochs=0, batch_size=1024, batch_norm=False),
}


def train_probe(
    features: Tensor, labels: Tensor, num_classes: int, settings: ProbeSettings, seed: int = 0
) -> nn.Sequential:
    """Train a linear classifier of features, with a progress bar, and return it in evaluation mode.

    Example: `probe = train_probe(features, labels, num_classes=10, settings=SETTINGS["dino"])`.

    Args:
        features: (images, channels).
        labels: (images,), from 0 to `num_classes` - 1.
        seed: of the initial weights and the order of images.
    """
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(features.shape[1], num_classes)
    nn.init.normal_(linear.weight, std=0.01, generator=generator)
    nn.init.zeros_(linear.bias)
    norm = nn.BatchNorm1d(features.shape[1], eps=EPSILON, affine=False) if settings.batch_norm else nn.Identity()
    probe = nn.Sequential(norm, linear).to(features.device).train()
    batch_size = max(min(settings.batch_size, len(features) // SMALLEST_EPOCH), 2)
    steps = len(features) // batch_size
    peak = settings.learning_rate * batch_size / 256
    optimizer = OPTIMIZERS[settings.optimizer](linear.parameters(), lr=peak, momentum=0.9)
    rate = learning_rate(
        ScheduleRecipe(warmup=f"{settings.warmup_epochs} epochs"), peak, settings.epochs * steps, steps
    )
    for epoch in tqdm(range(settings.epochs), desc="Linear probe", unit="epoch", leave=False, disable=None):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        for step, batch in enumerate(order[: steps * batch_size].split(batch_size)):
            optimizer.param_groups[0]["lr"] = rate(epoch * steps + step)
            loss = nn.functional.cross_entropy(probe(features[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return probe.eval()


@torch.no_grad()
def accuracy(probe: nn.Module, features: Tensor, labels: Tensor) -> dict[str, float]:
    """Return loss, top1 and top5 (0 to 1) of a probe on features (images, channels) with labels (images,)."""
    logits = probe(features)
    return {
        "loss": nn.functional.cross_entropy(logits, labels).item(),
        "top1": top_accuracy(logits, labels),
        "top5": top_accuracy(logits, labels, 5),
    }
