"""transformers' UperNet over a CoaT-Lite backbone, trained on scikit-learn's two photographs; draws what it learned.

    python examples/upernet_coat_photographs.py upernet.png [--steps 60]

The masks come from a classical method: k-means on the smoothed colours gives two regions, and the one that fills most
of the upper edge is the background. Crops from the left of each photograph train, the rest to the right tests. The
last line printed is `upernet: loss=<first>-><last> iou=<of the foreground, in the part that tests> picture=<path>`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageFilter
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_images
from torch.nn.utils import clip_grad_norm_
from torchvision.transforms.v2.functional import normalize, pil_to_tensor
from tqdm import trange
from transformers import UperNetConfig, UperNetForSemanticSegmentation
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_vits import CoatConfig

SIZE = (320, 213)  # width and height of the photographs in pixels
TRAINING_PART = 0.7  # of the width
CROP = 96
BATCH = 4


class Example(NamedTuple):
    """A photograph, its pixel values (3, height, width) and its mask (height, width): 1 on the foreground, else 0."""

    photograph: Image.Image
    pixel_values: torch.Tensor
    mask: torch.Tensor


def load_examples() -> list[Example]:
    examples = []
    for pixels in load_sample_images().images:
        photograph = Image.fromarray(pixels).resize(SIZE, Image.Resampling.LANCZOS)
        pixel_values = normalize(pil_to_tensor(photograph) / 255, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        examples.append(Example(photograph, pixel_values, foreground_mask(photograph)))
    return examples


def foreground_mask(photograph: Image.Image) -> torch.Tensor:
    """(height, width) of 0 on the region of similar colour that fills most of the upper edge, 1 elsewhere."""
    colours = np.asarray(photograph.filter(ImageFilter.GaussianBlur(3)), dtype=np.float32)
    height, width, _ = colours.shape
    regions = KMeans(2, n_init=4, random_state=0).fit_predict(colours.reshape(-1, 3)).reshape(height, width)
    return torch.from_numpy(regions != round(regions[0].mean())).long()


def make_model() -> UperNetForSemanticSegmentation:
    backbone = CoatConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    return UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=backbone, hidden_size=64, num_labels=2, use_auxiliary_head=False)
    )


def random_batch(examples: Sequence[Example], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of the parts that train, half of them mirrored, with their masks."""
    images, masks = [], []
    for index in range(BATCH):
        _, pixel_values, mask = examples[index % len(examples)]
        height, width = mask.shape[0], int(TRAINING_PART * mask.shape[1])
        top, left = (int(torch.randint(side - CROP + 1, (), generator=generator)) for side in (height, width))
        place = (..., slice(top, top + CROP), slice(left, left + CROP))
        mirrored = [-1] if torch.rand((), generator=generator) < 0.5 else []
        images.append(pixel_values[place].flip(mirrored))
        masks.append(mask[place].flip(mirrored))
    return torch.stack(images), torch.stack(masks)


def train(model: UperNetForSemanticSegmentation, examples: Sequence[Example], steps: int) -> list[float]:
    """The loss of every step."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    losses = []
    model.train()
    for _ in trange(steps, desc="training"):
        images, masks = random_batch(examples, generator)
        loss = model(images, labels=masks).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def predict(model: UperNetForSemanticSegmentation, example: Example) -> torch.Tensor:
    """The mask (height, width) of the whole photograph, whose sides are no multiples of 32."""
    return model.eval()(example.pixel_values[None]).logits[0].argmax(dim=0)


def intersection_over_union(predicted: Sequence[torch.Tensor], examples: Sequence[Example]) -> float:
    """Of the foreground, in the parts of all photographs that test."""
    first = int(TRAINING_PART * SIZE[0])
    found = torch.cat([mask[:, first:].flatten() for mask in predicted]).bool()
    wanted = torch.cat([example.mask[:, first:].flatten() for example in examples]).bool()
    return ((found & wanted).sum() / (found | wanted).sum()).item()


def draw(examples: Sequence[Example], predicted: Sequence[torch.Tensor], losses: Sequence[float], path: Path) -> None:
    """A row per photograph, a line where the part that tests begins: itself, its mask, the prediction; the loss."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    titles = ("photograph", "k-means mask", "UperNet over CoaT-Lite")
    grid = [[f"{row}{title}" for title in titles] for row in range(len(examples))]
    panels = figure.subplot_mosaic([*grid, ["loss"] * len(titles)])
    for row, example, mask in zip(grid, examples, predicted, strict=True):
        for name, title, picture in zip(row, titles, (example.photograph, example.mask, mask), strict=True):
            panels[name].imshow(np.asarray(picture), cmap="gray")
            panels[name].axvline(TRAINING_PART * SIZE[0], color="tab:red", linestyle="--")
            panels[name].set(title=title, xticks=[], yticks=[])
    panels["loss"].plot(range(1, len(losses) + 1), losses)
    panels["loss"].set(title="loss", xlabel="step", ylim=(0, None))
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> tuple[list[float], float]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="image file to write")
    parser.add_argument("--steps", type=int, default=60, help="of training")
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    examples, model = load_examples(), make_model()
    losses = train(model, examples, args.steps)
    predicted = [predict(model, example) for example in examples]
    iou = intersection_over_union(predicted, examples)
    draw(examples, predicted, losses, args.picture)
    print(f"upernet: loss={losses[0]:.3f}->{losses[-1]:.3f} iou={iou:.3f} picture={args.picture}")
    return losses, iou


if __name__ == "__main__":
    main()
