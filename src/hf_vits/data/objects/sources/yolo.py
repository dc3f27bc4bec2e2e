"""YOLO folders: data.path is a data.yaml (or a directory that has one) with the directories of images of each split
and the names of the classes. For images/.../a.jpg, the objects are in labels/.../a.txt, one a line.

A line is the number of a class, then the centre x, centre y, width and height of the box, or the corners x and y of a
polygon, as fractions of the image. An image without a file of labels has no objects.
"""

from pathlib import Path
from typing import Any

from hf_vits.parsing import parse_yaml
from hf_vits.recipe import DataRecipe

from ...folders import visible_files
from ...images import IMAGES
from ...sources import required_path
from ...splits import Loaded, Split, choose_splits
from ..files import file_split, refuse, size_of

READS = ("path", "splits", "skip_unreadable")
_FILE = "data.yaml"
_SPLITS = ("train", "val", "validation", "valid", "test")


def load(recipe: DataRecipe) -> Loaded:
    """Load the names of the images and their objects; of the images only the size is read.

    Raises:
        ValueError: data.yaml lacks something, or lines of labels are wrong, with their number and the first of them.
        OSError: files are missing; images may be with data.skip_unreadable.
    """
    path = required_path(recipe, f"a {_FILE}, or a directory that has one")
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}, the file that names the splits and classes of YOLO folders")
    tree: Any = parse_yaml(file.read_bytes(), str(file))
    class_names = names_of(tree, file)
    found = {name: tree[name] for name in {*_SPLITS, *recipe.splits.values()} if tree.get(name)}
    chosen = choose_splits(recipe, found)
    if not chosen:
        raise ValueError(f"{file} names no directory of training images: it needs train and, if there is one, val")
    splits = {}
    for kind, places in chosen.items():
        images = [image for place in as_list(places) for image in images_of(file, tree, place)]
        splits[kind] = read_split(images, len(class_names), recipe.skip_unreadable, f"{file}, {kind}")
    return Loaded(file.resolve().parent.name, class_names, splits)


def as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def names_of(tree: Any, file: Path) -> list[str]:
    """Return the names of the classes, listed or {number: name}; ValueError where they are not as many as `nc`."""
    names = tree.get("names") if isinstance(tree, dict) else None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or tree.get("nc", len(names)) != len(names):
        raise ValueError(
            f"{file} needs names, a list of the classes or {{0: first, 1: second}}, as many as nc where it has it, "
            f"got {names!r:.100}"
        )
    return [str(name) for name in names]


def images_of(file: Path, tree: dict, place: Any) -> list[Path]:
    """Return the images of a directory, or those that a text file lists, in order.

    The place is relative to `path` of data.yaml, which is relative to its directory. Roboflow's exports begin with a
    "../" that leads out of it, which is left out where nothing is there.
    """
    root = file.parent / str(tree.get("path") or ".")
    candidates = [root / str(place), root / str(place).removeprefix("../")]
    source = next((candidate for candidate in candidates if candidate.exists()), None)
    if source is None:
        raise FileNotFoundError(f"{file} names {place}, but there is no {candidates[0]}")
    if source.is_dir():
        images = [path for path in visible_files(source) if path.name.lower().endswith(IMAGES.endings)]
    else:
        lines = source.read_text(encoding="utf-8").splitlines()
        images = [source.parent / line.strip() for line in lines if line.strip()]
    if not images:
        raise FileNotFoundError(f"{source} has no image files ({' '.join(IMAGES.endings)})")
    return images


def labels_file(image: Path) -> Path:
    """Return the file of an image's objects: in `labels` in place of the last directory `images`, with .txt."""
    parts = list(image.parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_split(images: list[Path], num_classes: int, skip_unreadable: bool, name: str) -> Split:
    """Return the images with their objects."""
    objects, wrong, sizes = [], [], [size_of(image) for image in images]
    for image, size in zip(images, sizes, strict=True):
        file, found = labels_file(image), []
        if size is not None and file.is_file():
            for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
                try:
                    found += [read_line(line, num_classes, *size)] if line.strip() else []
                except ValueError as error:
                    wrong.append(f"{file}:{number}: {error}")
        objects.append(found)
    refuse(name, wrong)
    return file_split(images, objects, skip_unreadable, name, sizes)


def read_line(line: str, num_classes: int, width: int, height: int) -> dict[str, Any]:
    """Return the object of a line, in pixels; ValueError that says what is wrong with it."""
    first, *rest = line.split()
    values = [float(text) for text in rest]
    if not first.isdecimal() or int(first) >= num_classes:
        raise ValueError(f"the class must be a whole number below {num_classes}, got {first!r}")
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"expected 4 numbers of a box, or 6 or more, an even number, of a polygon, got {len(values)}")
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"numbers must be fractions of the image, 0 to 1, got {line.strip()!r:.100}")
    if len(values) == 4:
        x, y, w, h = values
        box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        return {"bbox": box, "category_id": int(first)}
    xs, ys = [value * width for value in values[::2]], [value * height for value in values[1::2]]
    polygon = [side for point in zip(xs, ys, strict=True) for side in point]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"bbox": box, "category_id": int(first), "segmentation": [polygon]}
