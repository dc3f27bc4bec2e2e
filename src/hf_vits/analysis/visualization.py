"""What neurons of a ViT respond to: activation maximisation, inversion, most activating images, token isolation.

Ghiasi, Kazemi et al., "What do Vision Transformers Learn? A Visual Exploration", arXiv 2212.06727. Neurons are the
hidden units of a block's MLP, after its activation function. Images are in [0, 1]; `ImageModel` normalises them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hf_vits.configuration import pair

from .taps import count_prefix_tokens, find_blocks, is_attention, tapped, vision_encoder

SCORE_SCALE = 10_000
Augmentation = Callable[[Tensor], Tensor]


class ImageModel(nn.Module):
    """A model that takes images in [0, 1] of any size: it resizes them bilinearly and normalises them.

    Args:
        model: takes pixel_values.
        size: (height, width) in pixels, or one number for both.
        mean, std: of each channel.
    """

    def __init__(
        self, model: nn.Module, size: int | tuple[int, int], mean: Sequence[float] = (0.5,) * 3, std=(0.5,) * 3
    ):
        super().__init__()
        self.model, self.size = model, pair(size)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    @property
    def config(self) -> Any:
        return getattr(self.model, "config", None)

    @classmethod
    def from_processor(cls, model: nn.Module, processor: Any) -> "ImageModel":
        """Take mean and standard deviation from an image processor and the size from the model or the processor."""
        size = getattr(getattr(model, "config", None), "image_size", None)
        if size is None:
            crop = getattr(processor, "crop_size", None) or processor.size
            size = (crop["height"], crop["width"]) if "height" in crop else crop["shortest_edge"]
        return cls(model, size, processor.image_mean, processor.image_std)

    def forward(self, images: Tensor) -> Any:
        resized = nn.functional.interpolate(images, size=self.size, mode="bilinear", align_corners=False)
        return self.model((resized - self.mean) / self.std)


class _Stop(Exception):
    """Ends a forward pass after the last block that is wanted."""


def output_projection(block: nn.Module) -> nn.Module:
    """Return the last linear layer of a block's MLP; ValueError where a block has none."""
    inside = {part for module in block.modules() if is_attention(module) for part in module.modules()}
    linear = [module for module in block.modules() if isinstance(module, nn.Linear) and module not in inside]
    if not linear:
        raise ValueError(f"a {type(block).__name__} has no MLP of linear layers, whose hidden units are the neurons")
    return linear[-1]


def neurons(
    model: nn.Module, images: Tensor, layers: Sequence[int] | None = None, gradients: bool = False
) -> list[Tensor]:
    """Return the activations of the MLPs' hidden units, (batch, tokens, units) for each block.

    The model runs in evaluation mode and only as far as the last wanted block.

    Args:
        model: takes `images` alone, such as an `ImageModel`.
        layers: indices of blocks, negative ones from the end; None for all.
        gradients: whether gradients can flow back from the activations.

    Raises:
        ValueError: a layer that does not exist, or a model without blocks with MLPs.
    """
    blocks = find_blocks(model)
    chosen = list(range(len(blocks)) if layers is None else layers)
    if out := [layer for layer in chosen if not -len(blocks) <= layer < len(blocks)]:
        raise ValueError(f"the model has blocks 0 to {len(blocks) - 1}, got {out}")
    chosen = [layer % len(blocks) for layer in chosen]
    found: dict[int, Tensor] = {}

    def hook(layer: int) -> Callable:
        def keep(module, arguments, output):
            found[layer] = arguments[0]
            if len(found) == len(set(chosen)):
                raise _Stop

        return keep

    handles = [output_projection(blocks[layer]).register_forward_hook(hook(layer)) for layer in set(chosen)]
    was_training = model.training
    try:
        with torch.set_grad_enabled(gradients):
            model.eval()(images)
    except _Stop:
        pass
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return [found[layer] for layer in chosen]


def patch_means(model: nn.Module, activations: Tensor) -> Tensor:
    """Return the mean over patches of activations (batch, tokens, units): (batch, units)."""
    return activations[:, count_prefix_tokens(model) :].mean(dim=1)


def activation_term(values: Tensor, unit: int) -> Tensor:
    """Return the negative activation of one unit, as published: its sum over the batch divided by the batch squared.

    Args:
        values: means over patches, (batch, units).
    """
    count = min(values.shape)
    return -values[:count, unit].sum() / count**2


def diagonal_term(values: Tensor) -> Tensor:
    """Return the negative mean of unit i in image i, for values (batch, units)."""
    count = min(values.shape)
    return -values[:count, :count].diagonal().mean()


def head_term(values: Tensor, head: int, num_heads: int) -> Tensor:
    """Return the negative mean of a head's channels, for values (batch, channels)."""
    return -values.unflatten(1, (num_heads, -1))[:, head].mean()


def score_term(attention: Tensor, head: int) -> Tensor:
    """Return the negative attention from the left half's patches to the right half's, times 10,000.

    Args:
        attention: probabilities among a square of patches, (batch, heads, patches, patches).
    """
    side = math.isqrt(attention.shape[-1])
    grids = attention[:, head].unflatten(2, (side, side)).unflatten(1, (side, side))
    return -grids[:, :, : side // 2, :, side // 2 :].mean() * SCORE_SCALE


def total_variation(images: Tensor, p: float = 2) -> Tensor:
    """Return the mean over images and channels of the p-norms of differences in four directions.

    Args:
        images: (batch, channels, height, width).
    """
    return variations(images, p).mean()


def variations(images: Tensor, p: float = 2) -> Tensor:
    """Return the p-norms of the differences in four directions, added: (batch, channels)."""
    differences = (
        images[..., 1:] - images[..., :-1],
        images[..., 1:, :] - images[..., :-1, :],
        images[..., 1:, 1:] - images[..., :-1, :-1],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )
    return torch.stack([torch.linalg.vector_norm(each, p, dim=(-2, -1)) for each in differences]).sum(dim=0)


def normal_variation(images: Tensor, p: float = 2) -> Tensor:
    """Return the total variation of images less their common mean, each divided by its standard deviation."""
    deviation = images.flatten(1).std(dim=1).view(-1, 1, 1, 1)
    return total_variation((images - images.mean()) / (deviation + 1e-4), p)


def color_variation(images: Tensor, p: float = 2) -> Tensor:
    """Return the total variation of the differences between neighbouring channels."""
    return total_variation(images - images.roll(1, dims=-3), p)


def mean_norm(images: Tensor, p: float) -> Tensor:
    """Return the mean over images of their p-norms."""
    return torch.linalg.vector_norm(images.flatten(1), p, dim=1).mean()


def per_area(value: Tensor, images: Tensor, size: int) -> Tensor:
    """Return a regulariser times height * width of the images / `size` squared."""
    return value * (images.shape[-2] * images.shape[-1] / size**2)


class Draws:
    """Random numbers of the augmentations, from one seed."""

    def __init__(self, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers from 0 to 1."""
        return torch.rand(shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))


class ColorJitter:
    """Shift and scale of each image and channel by random numbers, called ColorShift in the paper.

    Args:
        mean: largest shift, in either direction.
        std: largest logarithm of the scale, in either direction.
        reverse: whether to compute x * scale + shift instead of (x - shift) / scale.
        fixed: whether all calls use the same numbers.
    """

    def __init__(self, draws: Draws, mean: float = 1.0, std: float = 1.0, reverse: bool = False, fixed: bool = False):
        self.draws, self.mean, self.std, self.reverse, self.fixed = draws, mean, std, reverse, fixed
        self.drawn: tuple[Tensor, Tensor] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        if self.drawn is None or not self.fixed:
            shape = (*images.shape[:2], 1, 1)
            shift, scale = ((2 * self.draws.uniform(*shape) - 1) * limit for limit in (self.mean, self.std))
            self.drawn = shift, scale.exp()
        shift, scale = (value.to(images.device, images.dtype) for value in self.drawn)
        return images * scale + shift if self.reverse else (images - shift) / scale


class GaussianNoise:
    """One normal number added to each channel of each image, smaller from call to call.

    Args:
        std: standard deviation at the start.
        steps: calls after which the deviation starts again.
    """

    def __init__(self, draws: Draws, std: float = 0.5, steps: int = 400):
        self.draws, self.std, self.steps = draws, std, steps
        self.remaining = steps - 2

    def __call__(self, images: Tensor) -> Tensor:
        noise = self.draws.normal(*images.shape[:2], 1, 1) * (self.remaining % self.steps) * self.std / self.steps
        self.remaining -= 1
        return images + noise.to(images.device, images.dtype)


class Jitter:
    """Roll of all images by random numbers of rows and columns up to `limit`, in either direction."""

    def __init__(self, draws: Draws, limit: int = 32):
        self.draws, self.limit = draws, limit

    def __call__(self, images: Tensor) -> Tensor:
        rows, columns = (self.draws.integer(-self.limit, self.limit) for _ in range(2))
        return images.roll((rows, columns), dims=(2, 3))


class Flip:
    """Mirror images of all images with a probability."""

    def __init__(self, draws: Draws, probability: float = 0.5):
        self.draws, self.probability = draws, probability

    def __call__(self, images: Tensor) -> Tensor:
        return images.flip(3) if self.draws.uniform(1).item() < self.probability else images


class Centering:
    """Crop of `size` pixels around the centre, displaced by at most `std` pixels."""

    def __init__(self, draws: Draws, size: int, std: float):
        self.draws, self.size, self.std = draws, size, std

    def __call__(self, images: Tensor) -> Tensor:
        offsets = (2 * self.draws.uniform(2) - 1) * self.std
        starts = [
            int(float(offset) + side // 2 - self.size // 2)
            for offset, side in zip(offsets, images.shape[-2:], strict=True)
        ]
        y, x = (min(max(start, 0), side - self.size) for start, side in zip(starts, images.shape[-2:], strict=True))
        return images[:, :, y : y + self.size, x : x + self.size]


def zoom(images: Tensor, size: int) -> Tensor:
    """Resize images bilinearly to a square."""
    return nn.functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


def tile(images: Tensor, count: int) -> Tensor:
    """Repeat each image `count` times in both directions."""
    return images.repeat(1, 1, count, count)


def clip(images: Tensor) -> Tensor:
    """Clip images to [0, 1]."""
    return images.clamp(0, 1)


def clip_deviation(images: Tensor, inflate: float = 1.0, per_image: bool = True) -> Tensor:
    """Map two standard deviations around the mean to [0, 1] and clip, per image or over the batch."""
    flat = images.flatten(1) if per_image else images.reshape(1, -1)
    mean, deviation = (value.view(-1, 1, 1, 1) for value in (flat.mean(dim=1), flat.std(dim=1)))
    return (inflate * (images - mean) / (2 * deviation)).clamp(-0.5, 0.5) + 0.5


def clip_linf(images: Tensor, original: Tensor, radius: float = 16 / 255) -> Tensor:
    """Move images towards the originals by at most `radius` per pixel."""
    return images + (original - images).clamp(-radius, radius)


def clip_l2(images: Tensor, original: Tensor, radius: float = 16 / 255) -> Tensor:
    """Move images towards the originals by a step whose length over the whole batch is at most `radius`."""
    step = original - images
    length = step.norm()
    return images + (radius * step / length if length > radius else step)


def chain(*augmentations: Augmentation) -> Augmentation:
    """Return the augmentations one after the other."""

    def augment(images: Tensor) -> Tensor:
        for augmentation in augmentations:
            images = augmentation(images)
        return images

    return augment


def shift_set(image: Tensor, count: int = 4, step: int = 4) -> Tensor:
    """Return count**2 copies of an image (1, channels, height, width), copy i * count + j rolled by (i, j) * step."""
    return torch.cat([image.roll((i * step, j * step), dims=(2, 3)) for i in range(count) for j in range(count)])


class Optimised(NamedTuple):
    """Images that an optimisation found.

    Attributes:
        images: (images, channels, height, width) in [0, 1].
        losses: (steps + 1, terms): the total, then the terms without weights.
    """

    images: Tensor
    losses: Tensor


def optimise(
    images: Tensor,
    loss: Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]],
    augmentation: Augmentation | None = None,
    projection: Augmentation = clip,
    steps: int = 400,
    learning_rate: float = 0.1,
    betas: tuple[float, float] = (0.5, 0.99),
    eps: float = 1e-8,
    description: str = "Visualisation",
    each_step: Callable[[Tensor], None] | None = None,
) -> Optimised:
    """Optimise images by Adam with cosine annealing, with a progress bar; there are steps + 1 updates, as published.

    Args:
        images: where to start; not changed.
        loss: maps augmented images to the total loss and its terms.
        projection: applied to the images after each update.
        each_step: called with the images before each update.
    """
    images = images.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([images], lr=learning_rate, betas=betas, eps=eps)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 0.0)
    losses = []
    with torch.enable_grad():
        for _ in (progress := tqdm(range(steps + 1), desc=description, unit="step", leave=False)):
            if each_step is not None:
                each_step(images.detach().clone())
            total, terms = loss(images if augmentation is None else augmentation(images))
            optimizer.zero_grad()
            (images.grad,) = torch.autograd.grad(total, images)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                images.copy_(projection(images))
            losses.append(torch.stack([total.detach(), *(term.detach() for term in terms)]))
            if len(losses) % 20 == 1:
                progress.set_postfix(loss=f"{losses[-1][0].item():.3g}")
    return Optimised(images.detach(), torch.stack(losses))


def published_augmentation(
    draws: Draws,
    repeats: int = 8,
    noise: tuple[float, int] = (0.5, 400),
    jitter: int = 32,
    tiles: int = 1,
) -> Augmentation:
    """Return the paper's augmentation: copies of each image, ColorJitter, GaussianNoise, tiles, Jitter.

    Args:
        repeats: copies of each image, which follow one another.
        noise: standard deviation and steps of `GaussianNoise`.
    """
    return chain(
        lambda images: images.repeat_interleave(repeats, dim=0),
        ColorJitter(draws),
        GaussianNoise(draws, *noise),
        lambda images: tile(images, tiles),
        Jitter(draws, jitter),
    )


def neuron_loss(
    model: nn.Module, layer: int, units: Sequence[int], size: int, tv_coefficient: float = 5e-5
) -> Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]]:
    """Return the paper's loss of images that each maximise one neuron.

    The augmented images of a neuron follow one another. Losses of different neurons are added, so each image gets the
    gradient that it gets alone.

    Args:
        layer: index of the block.
        units: of the block's MLP, one for each image.
        size: side of the model's images in pixels.
        tv_coefficient: of the total variation; published: 0.0005 times 0.1.
    """

    def loss(images: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        values = patch_means(model, neurons(model, images, [layer], gradients=True)[0])
        groups = values.unflatten(0, (len(units), -1))
        activation = torch.stack([activation_term(group, unit) for group, unit in zip(groups, units, strict=True)])
        variation = per_area(variations(images).unflatten(0, (len(units), -1)).mean(dim=(1, 2)), images, size)
        return (activation + tv_coefficient * variation).sum(), (activation.sum(), variation.sum())

    return loss


def maximise_neurons(
    model: ImageModel,
    layer: int,
    units: Sequence[int],
    tv_coefficient: float = 5e-5,
    repeats: int = 8,
    steps: int = 400,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> Optimised:
    """Make images that neurons respond to most, all neurons in one batch, with a progress bar.

    Example: `maximise_neurons(ImageModel.from_processor(model, processor), layer=4, units=range(8)).images`.

    Args:
        layer: index of the block; units: of its MLP.
        tv_coefficient: see `neuron_loss`.
        repeats: augmented copies of each image in every step.
        seed: of the first images and the augmentations.

    Raises:
        ValueError: a layer or unit that does not exist.
    """
    units = list(units)
    projection: Any = output_projection(find_blocks(model)[layer])
    if not units or (out := [unit for unit in units if not 0 <= unit < projection.in_features]):
        raise ValueError(f"expected units 0 to {projection.in_features - 1} of block {layer}, got {out or units}")
    draws = Draws(seed)
    height, width = model.size
    start = draws.uniform(len(units), 3, height, width).to(next(model.parameters()).device)
    size = round(math.sqrt(height * width))
    loss = neuron_loss(model, layer, units, size, tv_coefficient)
    augmentation = published_augmentation(draws, repeats)
    return optimise(start, loss, augmentation, steps=steps, learning_rate=learning_rate, description="Neurons")


def inversion_loss(model: nn.Module, targets: Tensor, layer: int) -> Callable[[Tensor], Tensor]:
    """Return the distance of images to targets in a block's neurons, over all tokens and images."""
    reference = neurons(model, targets, [layer])[0]
    return lambda images: (neurons(model, images, [layer], gradients=True)[0] - reference).norm()


def invert_features(
    model: ImageModel,
    targets: Tensor,
    layer: int,
    tv_coefficient: float = 1.0,
    steps: int = 400,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> Optimised:
    """Make images whose neurons in a block equal those of target images, from random images, with a progress bar.

    Args:
        targets: (images, 3, height, width) in [0, 1].
        layer: index of the block.
    """
    distance = inversion_loss(model, targets, layer)
    size = round(math.sqrt(math.prod(model.size)))

    def loss(images: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        terms = distance(images), per_area(total_variation(images), images, size)
        return terms[0] + tv_coefficient * terms[1], terms

    start = Draws(seed).uniform(len(targets), 3, *model.size).to(targets.device)
    return optimise(start, loss, steps=steps, learning_rate=learning_rate, description="Inversion")


class MostActivating(NamedTuple):
    """The images that activate neurons most.

    Attributes:
        indices: of the images in the order of the batches, (blocks, units, count), the strongest first.
        values: means over patches, of the same shape.
    """

    indices: Tensor
    values: Tensor


def most_activating(
    model: nn.Module, batches: Iterable[Tensor], layers: Sequence[int] | None = None, count: int = 1
) -> MostActivating:
    """Find the images that activate each neuron most, with a progress bar.

    Args:
        model: see `neurons`.
        batches: images (batch, 3, height, width).
        layers: indices of blocks with as many neurons each; None for all.
        count: images per neuron.

    Raises:
        ValueError: fewer images than `count`.
    """
    best: MostActivating | None = None
    seen = 0
    for images in tqdm(batches, desc="Most activating images", unit="batch", leave=False):
        values = torch.stack([patch_means(model, each) for each in neurons(model, images, layers)]).mT
        indices = torch.arange(seen, seen + len(images), device=values.device).expand(values.shape)
        if best is not None:
            values, indices = torch.cat([best.values, values], -1), torch.cat([best.indices, indices], -1)
        values, order = values.topk(min(count, values.shape[-1]), dim=-1)
        best = MostActivating(indices.gather(-1, order), values)
        seen += len(images)
    if best is None or seen < count:
        raise ValueError(f"expected at least {count} images, got {seen}")
    return best


@contextmanager
def isolated(model: nn.Module, layers: Iterable[int]) -> Iterator[None]:
    """Keep class tokens and patches from attending to each other in the blocks `layers`, inside the context.

    Example: `with isolated(model, range(6)): logits = model(pixel_values).logits`, where class tokens and patches
    meet from block 6 on; with `range(6, 12)` the class token alone passes through the last six blocks.

    Raises:
        ValueError: a layer that does not exist, a model without class token.
    """
    prefix = count_prefix_tokens(model)
    if not prefix:
        raise ValueError(f"{type(model).__name__} has no class token to isolate")

    def isolate(scores: Tensor, layer: int) -> Tensor:
        queries, keys = (torch.arange(side, device=scores.device) < prefix for side in scores.shape[-2:])
        return scores.masked_fill(queries[:, None] != keys, -torch.inf)

    with tapped(model, layers=list(layers), edits={"attention_scores": isolate}):
        yield


def read_out(model: nn.Module, pixel_values: Tensor, tokens: str | int = "class") -> Tensor:
    """Apply a classifier to other tokens than those it was trained on, after the final norm.

    Args:
        model: a classifier on a class token, of hf_vits, transformers or timm.
        tokens: "class", the mean of "all" tokens or of the "patches", or the index of one token.

    Returns:
        (batch, classes).

    Raises:
        ValueError: unknown tokens, or a model without classifier.
    """
    head = next((getattr(model, name) for name in ("classifier", "head", "fc") if hasattr(model, name)), None)
    if head is None:
        raise ValueError(f"{type(model).__name__} has no classifier named classifier, head or fc")
    forward_features: Any = getattr(model, "forward_features", None)  # timm's name
    encoder = vision_encoder(model)
    states = forward_features(pixel_values) if forward_features else encoder(pixel_values).last_hidden_state
    prefix = count_prefix_tokens(model)
    if isinstance(tokens, int):
        value = states[:, tokens]
    elif tokens in ("class", "all", "patches"):
        value = {"class": states[:, :1], "all": states, "patches": states[:, prefix:]}[tokens].mean(dim=1)
    else:
        raise ValueError(f'tokens must be "class", "all", "patches" or an index, got {tokens!r}')
    represent: Any = getattr(getattr(encoder, "pooler", None), "represent", None)
    return head(represent(value) if represent else value)
