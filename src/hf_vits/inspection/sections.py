"""The sections of a report, one function each: it looks at the study's models and adds what it finds to `Findings`.

A function raises `LeftOut`, or a ValueError for a model, where a section does not fit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from hf_vits.analysis.attention import (
    aligned_attention,
    attention_distance,
    attention_on_tokens,
    offset_heads,
    plot_attention_distance,
    rollout,
)
from hf_vits.analysis.branches import norm_ratio, plot_norm_ratios
from hf_vits.analysis.descriptors import (
    Descriptors,
    best_buddies,
    components_to_rgb,
    descriptor_components,
    descriptors,
    find_patch_projection,
    interleave,
    well_spread,
)
from hf_vits.analysis.representation import (
    MinibatchCKA,
    accuracy,
    best_layers,
    plot_similarity,
    ridge_probe,
    select_tokens,
)
from hf_vits.analysis.robustness.corruptions import IMAGENET_C
from hf_vits.analysis.robustness.scores import corruption_accuracy, loss_curve, occlusions, shuffles
from hf_vits.analysis.visualization import ImageModel, maximise_neurons, most_activating
from hf_vits.configuration import pair
from hf_vits.data.label_groups import class_probabilities, most_probable
from hf_vits.figures import inspection as draw
from hf_vits.figures.grid import save_figure
from hf_vits.figures.robustness import draw_corruption_accuracy, draw_curves
from hf_vits.figures.runs import Prediction, draw_predictions

from .findings import Findings, LeftOut
from .study import BATCH, Study, Subject

SHOWN = 4  # images in pictures of every block
LISTED = 24  # predictions that are drawn
MEASURED = 32  # images that attention is averaged over
BACKWARD = 3  # a forward and a backward pass take about as long as three forward passes
SEVERITIES = (1, 3, 5)
CORRUPTION = 0.05  # seconds for an image of 224 x 224, averaged over corruptions
NEURONS, STEPS, REPEATS = 4, 60, 4
FEW = 4  # images that the unbiased CKA needs


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        explains: what is seen, for the reader of the page.
        run: adds to `Findings` what it finds in a `Study`.
        seconds: that it takes, roughly.
        needs_labels: whether images without labels leave it out.
    """

    name: str
    title: str
    explains: str
    run: Callable[[Study, Findings], None]
    seconds: Callable[[Study], float]
    needs_labels: bool = False


def models(study: Study, found: Findings) -> None:
    """List the models and the images."""

    def facts(subject: Subject) -> list:
        blocks = count_or_none(lambda: subject.num_blocks)
        parameters = sum(parameter.numel() for parameter in subject.model.parameters())
        height, width = subject.size
        return [type(subject.model).__name__, parameters, f"{height} x {width}", blocks, subject.prefix]

    rows = [[name, *row] for name, row in found.of_each(study, facts).items()]
    found.table("Models", ["model", "class", "parameters", "image size", "blocks", "prefix tokens"], rows)
    images = study.images
    if images.left_out:
        found.table("Files left out", ["file", "why"], list(map(list, images.left_out.items())))


def count_or_none(count: Callable[[], int]) -> int | None:
    """Return a count, None where a model has nothing to count."""
    try:
        return count()
    except ValueError:
        return None


def predictions(study: Study, found: Findings) -> None:
    """Draw images with their most probable class, and measure the accuracy where the classes are known."""
    known: dict[str, Tensor] = {}

    def look(subject: Subject) -> list[list]:
        truth = labels_or_none(study, subject, found)
        logits = batched(subject.classifier(), subject)
        probabilities = class_probabilities(subject.config, logits)
        best = [most_probable(subject.config, row, 3) for row in probabilities]
        if truth is not None:
            known[subject.name] = logits.argmax(dim=-1).cpu() == truth
        shown = []
        for index in study.sample(LISTED):
            label = None if truth is None else subject.config.id2label[int(truth[index])]
            top = best[index][0]
            shown.append(Prediction(study.images.open(index), label, top["label"], top["score"]))
        columns = min(8, max(4, len(shown)))
        title = subject.name if len(study.subjects) > 1 else "Predictions"
        found.picture(lambda path: draw_predictions(shown, path, columns), title)
        return [
            [
                subject.name,
                study.images.name(index),
                *(value for top in rows for value in (top["label"], top["score"])),
            ]
            for index, rows in enumerate(best)
        ]

    rows = [row for rows in found.of_each(study, look).values() for row in rows]
    width = max(len(row) for row in rows)
    columns = [f"{what} {place}" for place in range(1, width // 2) for what in ("class", "probability")]
    found.table(
        "Most probable classes", ["model", "image", *columns], [row + [None] * (width - len(row)) for row in rows]
    )
    if known:
        right = [[name, float(hits.double().mean())] for name, hits in known.items()]
        found.table("Accuracy", ["model", "accuracy"], right)


def labels_or_none(study: Study, subject: Subject, found: Findings) -> Tensor | None:
    """Return the classes of the images among the model's, None without labels or, with a note, without a match."""
    if study.images.labels is None:
        return None
    try:
        return study.labels_of(subject)
    except ValueError as error:
        found.notes.append(f"{subject.name}: {error}")
        return None


@torch.no_grad()
def batched(classifier: Callable[[Tensor], Tensor], subject: Subject) -> Tensor:
    """Return the logits (images, classes) of all images."""
    images = subject.unit_images()
    return torch.cat([classifier(part.to(subject.device)).float().cpu() for part in images.split(BATCH)])


def heads(study: Study, found: Findings) -> None:
    """Measure how far heads attend, where around their own place they look, and which look at a fixed neighbour."""
    chosen = study.sample(MEASURED)

    def look(subject: Subject) -> tuple[Tensor, Tensor]:
        distances, aligned = [], []
        for start in range(0, len(chosen), BATCH):
            seen = subject.attention(chosen[start : start + BATCH])
            distances.append(attention_distance(seen).float().cpu())
            aligned.append(aligned_attention(seen).float().cpu())
        return torch.cat(distances).mean(dim=0), torch.cat(aligned).mean(dim=0)

    seen = found.of_each(study, look)
    distances = {name: values for name, (values, _) in seen.items()}
    top = 1.05 * max(float(values.max()) for values in distances.values())
    for name, values in distances.items():
        figure = plot_attention_distance(values)
        figure.axes[0].set_ylim(0, top)
        found.picture(
            lambda path, figure=figure: save_figure(figure, path),
            "Attention distance",
            name,
            caption="A dot for each head; 0 is the patch itself, 1 the side of the image.",
        )
    for name, (_, aligned) in seen.items():
        offsets = offset_heads(aligned)
        marks = " Red frame: it looks at one neighbour at a fixed offset." if offsets else ""
        found.picture(
            lambda path, maps=aligned, offsets=offsets: draw.draw_heads(maps, path, offsets),
            "All heads",
            name,
            caption=f"Attention around the query, which lies in the centre; mean over queries and images.{marks}",
        )
        if offsets:
            columns = ["block", "head", "rows down", "columns right", "fraction of attention"]
            heads = [[head.layer + 1, head.head + 1, *head.offset, head.mass] for head in offsets]
            found.table(f"Offset heads of {name}", columns, heads)
    rows = [
        [name, block, head, value]
        for name, values in distances.items()
        for block, of_heads in enumerate(values.tolist(), start=1)
        for head, value in enumerate(of_heads, start=1)
    ]
    found.table("Attention distance", ["model", "block", "head", "distance"], rows)


def attention(study: Study, found: Findings) -> None:
    """Draw the rollout over images, and block by block what each head attends to."""
    chosen = study.sample(SHOWN)

    def look(subject: Subject) -> None:
        seen = subject.attention(chosen)
        prefix, grid, images = seen.num_prefix_tokens, seen.grid, list(subject.unit_images(chosen))
        queries = "class" if prefix else "all"
        reached = rollout(seen)
        reached = reached[..., 0, prefix:] if prefix else reached.mean(dim=-2)
        of_blocks = reached.movedim(0, 1).unflatten(-1, grid)
        some = [round(place) for place in np.linspace(0, of_blocks.shape[1] - 1, min(3, of_blocks.shape[1]))]
        who = "the class token" if prefix else "the average patch"
        titles = [f"up to block {block + 1}" for block in some]
        found.picture(
            lambda path: draw.draw_overlays(images, of_blocks[:, some], titles, path),
            "Rollout",
            subject.name,
            caption=f"Which patches reach {who} through attention and skip connections.",
        )
        for block, attended in enumerate(seen.attentions):
            maps = attention_on_tokens(attended, queries, prefix)[..., prefix:].unflatten(-1, grid)
            titles = [f"head {head + 1}" for head in range(maps.shape[1])]
            found.picture(
                lambda path, maps=maps, titles=titles: draw.draw_overlays(images, maps, titles, path),
                "Heads of one block",
                subject.name,
                f"block {block + 1}",
                f"What {who} attends to in block {block + 1}.",
            )

    found.of_each(study, look)


def residuals(study: Study, found: Findings) -> None:
    """Compare the norms of skip connections and branches by depth."""
    chosen = study.sample(BATCH)
    lines: dict[str, list[float]] = {}

    def look(subject: Subject) -> None:
        for facet, title in (("attention_branches", "attention"), ("mlp_branches", "MLP")):
            try:
                addends = getattr(subject.record(chosen, facet), facet)
            except ValueError:
                if facet == "attention_branches" and count_attention(subject):
                    raise
                continue
            lines[f"{subject.name}, {title}"] = [float(norm_ratio(pair).mean()) for pair in addends]
        if not any(name.startswith(f"{subject.name}, ") for name in lines):
            raise ValueError(f"{type(subject.model).__name__} adds no branches to skip connections of the same shape")

    found.of_each(study, look)
    figure = plot_norm_ratios({name: torch.tensor(values) for name, values in lines.items()})
    found.picture(
        lambda path: save_figure(figure, path),
        "Skip connections",
        caption="Above the dashed line the skip connection carries more than what the block adds.",
    )
    rows = [[name, block, value] for name, values in lines.items() for block, value in enumerate(values, start=1)]
    found.table("Skip connections", ["branch", "block", "norm of skip / norm of branch"], rows)


def count_attention(subject: Subject) -> bool:
    """Return whether a model's blocks have attention modules."""
    return any("attention" in type(module).__name__.lower() for module in subject.model.modules())


def similarity(study: Study, found: Findings) -> None:
    """Compare layers by CKA, within each model and between the first two.

    With too few images for the unbiased CKA, patches are the samples.
    """
    by_patches = len(study.images.paths) < FEW

    def within(subject: Subject) -> Tensor:
        return cka_of(study, subject, subject, by_patches)

    matrices = found.of_each(study, within)
    pairs = [(name, name, matrix) for name, matrix in matrices.items()]
    one_of = {subject.name: subject for subject in study.subjects}
    names = list(matrices)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            try:
                pairs.append((first, second, cka_of(study, one_of[first], one_of[second], by_patches)))
            except ValueError as error:
                found.notes.append(f"{first} and {second} are not compared: {error}")
    for first, second, matrix in pairs:
        group = "Within each model" if first == second else "Between models"
        labels = ("block", "block") if first == second else (f"block of {first}", f"block of {second}")
        found.picture(
            lambda path, matrix=matrix, labels=labels: save_figure(plot_similarity(matrix, labels), path),
            group,
            first if first == second else "",
            caption="1: the blocks represent the images in the same way, but for a rotation and a scale.",
        )
    if by_patches:
        found.notes.append(f"With fewer than {FEW} images, the patches of all images are the samples.")
    rows = [
        [first, second, row, column, value]
        for first, second, matrix in pairs
        for row, values in enumerate(matrix.tolist(), start=1)
        for column, value in enumerate(values, start=1)
    ]
    found.table("CKA", ["model", "other model", "block", "other block", "CKA"], rows)


def cka_of(study: Study, first: Subject, second: Subject, by_patches: bool) -> Tensor:
    """Return the CKA (blocks, blocks) between two models, or within one, over the images or their patches."""
    total = MinibatchCKA("pairs")
    count = len(study.images.paths)
    # The last batch would be too small where few images are left.
    batches = [list(part) for part in np.array_split(np.arange(count), max(1, count // BATCH))]
    for batch in batches:
        sides = [
            states_of(subject, batch, by_patches) for subject in {first.name: first, second.name: second}.values()
        ]
        if len(sides) == 2 and by_patches and len({len(state) for side in sides for state in side}) > 1:
            raise ValueError("their patches differ in number, and there are too few images to compare these")
        total.update(*sides)
    return total.compute()


def states_of(subject: Subject, indices: list[int], by_patches: bool) -> list[Tensor]:
    """Return the output of each block: (images, features), or (patches of all images, channels)."""
    seen = subject.record(indices, "blocks")
    if not by_patches:
        return [block.float().cpu().flatten(1) for block in seen.blocks]
    states = [block[:, seen.num_prefix_tokens :].float().cpu().flatten(0, 1) for block in seen.blocks]
    if len({len(state) for state in states}) > 1:
        raise ValueError(f"its blocks have grids of different sizes, and CKA over images needs {FEW} images or more")
    return states


def patch_descriptors(study: Study, found: Findings) -> None:
    """Draw components of patch descriptors as colours, and corresponding patches of the first two images."""
    chosen = study.sample(SHOWN)

    def look(subject: Subject) -> str:
        described, what = describe(subject, chosen)
        parts = [Descriptors(values[None], described.grid) for values in described.values.float().cpu()]
        count = min(3, described.values.shape[-1])
        colours = [components_to_rgb(each) for each in descriptor_components(parts, count)]
        images = list(subject.unit_images(chosen))
        found.picture(
            lambda path: draw.draw_beside(images, {"components": colours}, path),
            "Principal components",
            subject.name,
            caption=f"The first three components of {what}, of all images together, as red, green and blue.",
        )
        if len(chosen) > 1:
            first, second = corresponding(described)
            found.picture(
                lambda path: draw.draw_correspondences((images[0], images[1]), first, second, path),
                "Correspondences",
                subject.name,
                caption=f"Patches of two images that are each other's nearest neighbours, by {what}.",
            )
        return what

    rows = [[name, what] for name, what in found.of_each(study, look).items()]
    found.table("Descriptors", ["model", "descriptor"], rows)
    if len(chosen) < 2:
        found.notes.append("Correspondences need two images.")


def describe(subject: Subject, chosen: list[int]) -> tuple[Descriptors, str]:
    """Return descriptors of the patches, and what they are.

    Keys of a block at about 0.8 of the depth, as in the paper, at half the model's stride where it can change; outputs
    of the last block where a model has no keys on all patches.
    """
    layer = int(0.8 * subject.num_blocks)
    what = f"the keys of block {layer + 1}"
    try:
        stride = pair(find_patch_projection(subject.model).stride)
        halved = max(stride[0] // 2, 1), max(stride[1] // 2, 1)
        return descriptors(subject.model, subject.inputs(chosen), layer, "key", halved), what
    except ValueError:
        pass  # the stride cannot change
    try:
        seen = subject.record(chosen, "keys", [layer])
        keys, grid = seen.keys[0][:, :, seen.num_prefix_tokens :], seen.grids[0]
        if grid is not None and keys.shape[-2] == grid[0] * grid[1] and len(keys) == len(chosen):
            return Descriptors(interleave(keys), grid), what
    except ValueError:
        pass  # there are no keys
    seen = subject.record(chosen, "blocks", [-1])
    if seen.grids[0] is None:
        raise ValueError(f"the tokens of {type(subject.model).__name__} are no grid of patches")
    values = select_tokens(seen.blocks[0], "patches", seen.num_prefix_tokens)
    return Descriptors(values, seen.grids[0]), "the outputs of the last block"


def corresponding(described: Descriptors, count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return corresponding points of the first two images as fractions of height and width, each (points, 2)."""
    first, second = described.values[:2].float().cpu()
    buddies = best_buddies(first, second)
    mine = buddies.mutual.nonzero().flatten()
    theirs = buddies.forward[mine]
    both = torch.cat([first[mine], second[theirs]], dim=1).numpy()
    best = well_spread(both, buddies.forward_similarity[mine].numpy(), count)[0]
    rows, columns = described.grid
    return tuple(
        np.stack([(tokens[best] // columns + 0.5) / rows, (tokens[best] % columns + 0.5) / columns], axis=1)
        for tokens in (mine.numpy(), theirs.numpy())
    )


def probes(study: Study, found: Findings) -> None:
    """Measure in which block the labels can be read off by a linear probe, in two-fold cross-validation."""
    labels = torch.tensor(study.images.labels)
    order = torch.zeros_like(labels)
    for label in labels.unique():
        order[labels == label] = torch.arange(int((labels == label).sum()))
    if order.max() < 1 or len(labels.unique()) < 2:
        raise LeftOut("a probe needs two classes, and two images of each")
    halves = order % 2 == 0, order % 2 == 1

    def look(subject: Subject) -> list[float]:
        parts = []
        for start in range(0, len(labels), BATCH):
            seen = subject.record(range(start, min(start + BATCH, len(labels))), "blocks")
            means = [select_tokens(block, "patch_mean", seen.num_prefix_tokens) for block in seen.blocks]
            parts.append([mean.float().cpu() for mean in means])
        count = int(labels.max()) + 1
        scores = []
        for features in map(torch.cat, zip(*parts, strict=True)):
            folds = [
                accuracy(ridge_probe(features[train], labels[train], features[test], count), labels[test])
                for train, test in (halves, halves[::-1])
            ]
            scores.append(sum(folds) / 2)
        return scores

    scores = found.of_each(study, look)
    lines = {name: (range(1, len(values) + 1), values) for name, values in scores.items()}
    chance = float(labels.bincount().max() / len(labels))
    found.picture(
        lambda path: draw.draw_lines(lines, path, "block", "accuracy", (0, 1.03), level=chance),
        "Linear probes",
        caption="Accuracy on the half of the images that the probe was not fitted to. Dashed: always the same class.",
    )
    rows = [[name, block, value] for name, values in scores.items() for block, value in enumerate(values, start=1)]
    found.table("Linear probes", ["model", "block", "accuracy"], rows)
    best = [list(row.values()) for row in best_layers(scores)]
    found.table("Best block", ["model", "best block", "blocks", "accuracy"], best)


class Judged(NamedTuple):
    """Images in [0, 1] in batches, with the class that a classifier should keep, and what this class is."""

    batches: list[tuple[Tensor, Tensor]]
    measure: str


def judged(study: Study, subject: Subject, found: Findings, images: Tensor) -> Judged:
    """Return images with their true class, or with the class that the model sees in the clean image."""
    truth = labels_or_none(study, subject, found)
    classes = batched(subject.classifier(), subject).argmax(dim=-1) if truth is None else truth
    batches = [
        (part.to(subject.device), own.to(subject.device))
        for part, own in zip(images.split(BATCH), classes.split(BATCH), strict=True)
    ]
    return Judged(batches, "same class as for the clean image" if truth is None else "accuracy")


def occlusion(study: Study, found: Findings) -> None:
    """Measure what a classifier still knows of images with patches removed, and with patches shuffled."""
    examples: dict[str, tuple[list[Tensor], list[str]]] = {}

    def look(subject: Subject) -> dict:
        images, cell = even_images(subject)
        height, width = images.shape[-2:]
        grid = height // cell, width // cell
        data = judged(study, subject, found, images)
        generator = Generator().manual_seed(study.seed)
        removals = occlusions(grid, generator=generator)
        grids = [(n, n) for n in (2, 4, 8, 16) if height % n == 0 and width % n == 0 and n <= min(height, width) // 2]
        pieces = shuffles(grids, generator)
        curves = {
            "removed": loss_curve(subject.classifier(), data.batches, removals),
            "shuffled": loss_curve(subject.classifier(), data.batches, pieces),
            "measure": data.measure,
        }
        if not examples:
            lost = list(removals.items())[1::2]
            mixed = list(pieces.items())
            examples["removed"] = applied(images, lost), [f"{level:.0%} removed" for level, _ in lost]
            examples["shuffled"] = (
                applied(images, mixed),
                ["whole", *(f"{level:.0f} pieces" for level, _ in mixed[1:])],
            )
        return curves

    curves = found.of_each(study, look)
    labels = {"removed": "fraction of the image removed", "shuffled": "number of shuffled pieces"}
    for kind, lost in labels.items():
        lines = {name: curve[kind] for name, curve in curves.items()}
        title = {"removed": "Occlusion", "shuffled": "Shuffled patches"}[kind]
        known = all(curve["measure"] == "accuracy" for curve in curves.values())
        found.picture(
            lambda path, lines=lines, lost=lost, kind=kind, known=known: draw_curves(
                lines, path, lost, known=known, logarithmic=kind == "shuffled"
            ),
            title,
        )
        found.picture(
            lambda path, kind=kind: draw.draw_row(*examples[kind], path),
            title,
            caption="The first image, for example.",
        )
    rows = [
        [name, kind, level, right if curve["measure"] == "accuracy" else None, same]
        for name, curve in curves.items()
        for kind in labels
        for level, right, same in zip(
            curve[kind]["levels"], curve[kind]["accuracy"], curve[kind]["agreement_with_clean"], strict=True
        )
    ]
    found.table("Loss of information", ["model", "kind", "level", "accuracy", "same class as clean"], rows)


def applied(images: Tensor, changes: Sequence[tuple[float, Callable[[Tensor], Tensor]]]) -> list[Tensor]:
    """Return the first image after each change."""
    return [change(images[:1])[0] for _, change in changes]


def even_images(subject: Subject) -> tuple[Tensor, int]:
    """Return images in [0, 1] and the side in pixels of cells, about a fourteenth of them, that fill them."""
    images = subject.unit_images()
    height, width = images.shape[-2:]
    sides = [side for side in range(1, min(height, width) + 1) if height % side == 0 and width % side == 0]
    return images, min(sides, key=lambda side: abs(min(height, width) / side - 14))


def corruptions(study: Study, found: Findings) -> None:
    """Measure a classifier under the 15 corruptions of ImageNet-C."""
    measures = set()

    def look(subject: Subject) -> Tensor:
        images = subject.unit_images()
        if images.shape[1] != 3:
            raise ValueError("corruptions need images of three channels")
        data = judged(study, subject, found, images)
        measures.add(data.measure)
        generator = Generator().manual_seed(study.seed)
        return corruption_accuracy(subject.classifier(), data.batches, IMAGENET_C, SEVERITIES, generator)

    found_accuracy = found.of_each(study, look)
    measure = "accuracy" if measures == {"accuracy"} else "same class as for the clean image"
    found.picture(
        lambda path: draw_corruption_accuracy(found_accuracy, path, measure=measure),
        "Corruptions",
        caption=f"Bar: mean over the severities {', '.join(map(str, SEVERITIES))}; dot: each of them.",
    )
    rows = [
        [name, corruption, severity, value]
        for name, values in found_accuracy.items()
        for corruption, row in zip(IMAGENET_C, values.tolist(), strict=True)
        for severity, value in zip(SEVERITIES, row, strict=True)
    ]
    found.table("Corruptions", ["model", "corruption", "severity", measure], rows)


def neurons(study: Study, found: Findings) -> None:
    """Make images for a few neurons of a middle and of the last block, beside images that activate them most."""

    def look(subject: Subject) -> None:
        if subject.pixel_values.shape[1] != 3:
            raise ValueError("images for neurons are made in three channels")
        model = ImageModel(subject.model, subject.size, subject.mean, subject.std).to(subject.device)
        last = subject.num_blocks - 1
        images = subject.unit_images()
        count = min(3, len(images))
        for block, place in {last: "last block", last // 2: "middle block"}.items():
            batches = [part.to(subject.device) for part in images.split(BATCH)]
            strongest = most_activating(model, batches, [block], count)
            units = strongest.values[0, :, 0].topk(NEURONS).indices.tolist()
            made = maximise_neurons(model, block, units, repeats=REPEATS, steps=STEPS, seed=study.seed).images
            rows = {
                f"neuron {unit}": [made[index].cpu(), *images[strongest.indices[0, unit].cpu()]]
                for index, unit in enumerate(units)
            }
            found.picture(
                lambda path, rows=rows: draw.draw_neurons(rows, path),
                "Neurons",
                subject.name,
                place,
                f"Block {block + 1}: {STEPS} steps from noise, beside the images that activate the neuron most.",
            )

    found.of_each(study, look)


def passes(factor: float, most: int | None = None, more: float = 0.0) -> Callable[[Study], float]:
    """Return an estimate of seconds: of `factor` forward passes of the images and `more` of one, through all models.

    Args:
        most: number of images that are used.
    """
    return lambda study: (
        study.seconds * (factor * min(len(study.images.paths), most or len(study.images.paths)) + more)
    )


def corruption_seconds(study: Study) -> float:
    """Return an estimate of the time of `corruptions`, most of which goes into the corruptions of large images."""
    count = len(IMAGENET_C) * len(SEVERITIES)
    pixels = sum(subject.size[0] * subject.size[1] for subject in study.subjects)
    return passes(count)(study) + CORRUPTION * count * len(study.images.paths) * pixels / 224**2


# From cheap to dear.
SECTIONS = (
    Section(
        "models",
        "Models",
        "What is compared, and on which images.",
        models,
        passes(0),
    ),
    Section(
        "predictions",
        "Predictions",
        "The most probable class of each image.",
        predictions,
        passes(1),
    ),
    Section(
        "heads",
        "Heads by block",
        "How far each attention head looks. In many vision transformers some heads of the first blocks look near, and "
        "those of the last blocks far.",
        heads,
        passes(2, MEASURED),
    ),
    Section(
        "attention",
        "Attention over images",
        "Which patches matter to the final representation, and what the heads of a block look at.",
        attention,
        passes(2, SHOWN),
    ),
    Section(
        "skip-connections",
        "Skip connections",
        "Whether blocks pass on what they receive, or replace it.",
        residuals,
        passes(2, BATCH),
    ),
    Section(
        "similarity",
        "Similarity of layers",
        "How alike the representations of two blocks are (centred kernel alignment, CKA).",
        similarity,
        passes(2),
    ),
    Section(
        "descriptors",
        "Patch descriptors",
        "Whether patches of the same kind have the same features. Patches of similar colour have similar features.",
        patch_descriptors,
        passes(12, SHOWN),
    ),
    Section(
        "probes",
        "Linear probes",
        "In which block the labels are easiest to read off.",
        probes,
        passes(1),
        needs_labels=True,
    ),
    Section(
        "occlusion",
        "Occlusion and shuffling",
        "How much of an image may be lost, or mixed up, before the class changes.",
        occlusion,
        passes(16),
    ),
    Section(
        "corruptions",
        "Corruptions",
        "What noise, blur, weather and compression do to the classifier, as in ImageNet-C.",
        corruptions,
        corruption_seconds,
    ),
    Section(
        "neurons",
        "Neurons",
        "What hidden units of the MLPs respond to.",
        neurons,
        passes(2, more=2 * BACKWARD * NEURONS * REPEATS * STEPS),
    ),
)
