"""Images in files with their objects: what every source of files checks, counts and names."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from hf_vits.processing.detection import runs_of
from hf_vits.processing.opening import upright_size

from ..checks import find_missing, report
from ..images import IMAGES, FileImages
from ..splits import Split
from . import as_labels

logger = logging.getLogger(__name__)

_NAMED = 5
Objects = list[dict[str, Any]]


def file_split(
    paths: Sequence[Path],
    objects: Sequence[Objects],
    skip_unreadable: bool,
    name: str,
    sizes: Sequence[tuple[int, int] | None] | None = None,
) -> Split:
    """Return images in files with their objects, checked by `check_objects`; of the images only the size is read.

    Args:
        sizes: of the images, as `size_of` returns them, where they were read before.

    Raises:
        OSError: files are missing, unless `skip_unreadable`.
    """
    report(find_missing(paths), IMAGES, skip_unreadable)
    names = [str(path) for path in paths]
    known = dict(zip(names, map(size_of, paths) if sizes is None else sizes, strict=True))
    checked = check_objects(name, dict(zip(names, objects, strict=True)), known)
    return Split(FileImages(paths), as_labels(checked))


def check_objects(
    name: str, objects: Mapping[str, Objects], sizes: Mapping[str, tuple[int, int] | None]
) -> list[dict[str, Any]]:
    """Return the label of each image, without boxes that have no area inside it, which are logged as a warning.

    Args:
        name: of the data, for messages.
        objects: {name of an image: its objects}.
        sizes: {name of an image: (width, height)}, of the images whose size is known.

    Raises ValueError with the number and the first of those objects that have an odd box or segmentation.
    """
    wrong, empty, labels = [], [], []
    for index, (image, items) in enumerate(objects.items()):
        kept, size = [], sizes.get(image)
        for number, item in enumerate(items, start=1):
            if problem := object_problem(item):
                wrong.append(f"{image}, object {number}: {problem}")
            elif not has_area(item["bbox"], size):
                empty.append(f"{image}, object {number}: {item['bbox']}")
            else:
                kept.append(item)
        labels.append({"image_id": index, "annotations": kept})
    refuse(name, wrong)
    if empty:
        logger.warning("%s: %d objects without area in their image are left out: %s", name, len(empty), listed(empty))
    return labels


def object_problem(item: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an object: a box that is not four finite numbers, or a damaged segmentation."""
    box, segmentation = item.get("bbox"), item.get("segmentation")
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(is_finite, box)):
        return f"bbox must be four finite numbers (x, y, width, height), got {box!r:.80}"
    if isinstance(segmentation, list):
        # COCO's own files have polygons of two points; pycocotools draws them as nothing.
        if not all(
            isinstance(part, list) and len(part) % 2 == 0 and all(map(is_finite, part)) for part in segmentation
        ):
            return f"a polygon must be a list of x and y in turn, got {segmentation!r:.80}"
    elif segmentation is not None:
        try:
            height, width = segmentation["size"]
            runs = runs_of(segmentation)
        except Exception as error:  # of odd values, any type
            return f"segmentation must be polygons or a run-length encoding, got {segmentation!r:.80}: {error}"
        if sum(runs) != height * width or min(runs, default=0) < 0:
            return f"a run-length encoding of size {[height, width]} has {sum(runs)} pixels"
    return None


def has_area(box: Sequence[float], size: tuple[int, int] | None) -> bool:
    """Return whether a box (x, y, width, height) has an area, within an image of `size` (width, height) if known."""
    right, bottom = size or (math.inf, math.inf)
    x, y, width, height = box
    return min(x + width, right) > max(x, 0 if size else x) and min(y + height, bottom) > max(y, 0 if size else y)


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def refuse(name: str, problems: Sequence[str]) -> None:
    """Raise ValueError with the number and the first of the problems, if there are any."""
    if problems:
        raise ValueError(f"{name}: {len(problems)} bad annotation(s): {listed(problems)}. Repair or remove them")


def listed(problems: Sequence[str]) -> str:
    """Return the first problems as a text."""
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return "; ".join(problems[:_NAMED]) + more


def size_of(path: Path) -> tuple[int, int] | None:
    """Return (width, height) of the image in a file, None if it cannot be read."""
    try:
        with path.open("rb") as file, Image.open(file) as image:
            return upright_size(image)
    except Exception:  # damaged bytes make Pillow's readers raise nearly every type
        return None


def common_names(name: str, classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the class names of the training split; ValueError where another split has others."""
    if any(list(other) != list(classes["train"]) for other in classes.values()):
        raise ValueError(f"the splits of {name} have different categories: {dict(classes)}")
    return list(classes["train"])
