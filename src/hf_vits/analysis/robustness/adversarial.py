"""Adversarial images of small perturbations: FGSM and PGD.

Goodfellow et al., "Explaining and Harnessing Adversarial Examples", arXiv 1412.6572; Madry et al., "Towards Deep
Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083. Perturbations are bounded in [0, 1] before
normalisation, so that bounds mean the same for every model.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

Classifier = Callable[[Tensor], Tensor]


class Normalised:
    """A classifier of images in [0, 1], which normalises them before its model.

    Example: `Normalised(model, processor.image_mean, processor.image_std)(images)`.

    Args:
        model: whose output has `logits`, or is logits.
        mean, std: of each channel.
    """

    def __init__(self, model: Callable, mean: Sequence[float], std: Sequence[float]):
        self.model = model
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (batch, labels) of images (batch, channels, height, width)."""
        outputs = self.model((images - self.mean.to(images)) / self.std.to(images))
        return getattr(outputs, "logits", outputs)


def gradient_of(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy by the images; the model's own gradients stay as they are."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(classifier(images), labels, reduction="sum"), images)[0]


def fgsm(classifier: Classifier, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Return images moved by `epsilon` per pixel in the direction that raises the loss.

    Args:
        classifier: of images in [0, 1], such as `Normalised`; its model in eval mode.
        images: (batch, channels, height, width), from 0 to 1.
        labels: (batch,) true classes.
        epsilon: largest change of a channel of a pixel, such as 4 / 255.
    """
    check_bound("epsilon", epsilon)
    return (images + epsilon * gradient_of(classifier, images, labels).sign()).clamp(0, 1).detach()


def pgd(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    step_size: float,
    steps: int,
    random_start: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    """Return images after several steps of `fgsm`, each followed by a projection to at most `epsilon` of change.

    Args:
        classifier, images, labels, epsilon: as in `fgsm`.
        step_size: change of a channel of a pixel in a step; Madry et al. take a quarter of epsilon.
        random_start: whether the first step begins at a random place within the bound.
        generator: of the random start, on its device; None for torch's own.
    """
    check_bound("epsilon", epsilon)
    check_bound("step_size", step_size)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    moved = images
    if random_start:
        device = images.device if generator is None else generator.device
        noise = torch.rand(images.shape, generator=generator, device=device).to(images)
        moved = torch.clamp(images + epsilon * (2 * noise - 1), low, high)
    for _ in range(steps):
        moved = torch.clamp(moved + step_size * gradient_of(classifier, moved, labels).sign(), low, high)
    return moved.detach()


def check_bound(name: str, value: float) -> None:
    """Raise ValueError unless a change of pixels in [0, 1] lies in the same range."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a change of pixels from 0 to 1, such as 4 / 255, got {value}")


def spatial_grid(images: Tensor, shifts: Sequence[int], angles: Sequence[float]) -> list[Tensor]:
    """Return the images moved and turned in every combination, for the worst case over them (arXiv 1712.02779).

    Args:
        images: (batch, channels, height, width), from 0 to 1; what comes in from outside is black.
        shifts: pixels, both down and right.
        angles: degrees.
    """
    height, width = images.shape[-2:]
    moved = []
    for angle in angles:
        radians = torch.deg2rad(torch.tensor(float(angle)))
        cosine, sine = radians.cos(), radians.sin()
        for down in shifts:
            for right in shifts:
                # `affine_grid` measures in half images, so that rotation must undo their aspect ratio.
                x = torch.stack([cosine, -sine * height / width, torch.tensor(-2.0 * right / width)])
                y = torch.stack([sine * width / height, cosine, torch.tensor(-2.0 * down / height)])
                matrix = torch.stack([x, y]).to(images).expand(len(images), -1, -1)
                grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
                moved.append(F.grid_sample(images, grid, align_corners=False))
    return moved
