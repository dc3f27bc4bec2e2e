"""COCO's JSON files: data.path is a directory with annotations/instances_<split>.json and the images in <split>/, or
with a directory for each split that holds its images and _annotations.coco.json.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from hf_vits.files import read_json
from hf_vits.recipe import DataRecipe

from ...checks import find_missing, report
from ...images import IMAGES, FileImages
from ...sources import required_path
from ...splits import Loaded, Split, choose_splits
from .. import as_labels

READS = ("path", "splits", "skip_unreadable")
_START, _BESIDE = "instances_", "_annotations.coco.json"


def load(recipe: DataRecipe) -> Loaded:
    """Load the names of the images and their objects.

    Names such as train2017 count as train. The splits must have the same categories, which are numbered in the order
    of their ids. Images without an annotation stay, as images without objects.

    Raises:
        ValueError: a file is damaged, or an annotation names no image or category.
        OSError: files are missing; images may be with data.skip_unreadable.
    """
    folder = required_path(recipe, "a directory with COCO's JSON files")
    files = find_files(folder)
    if not files:
        raise FileNotFoundError(
            f"{folder} has neither annotations/{_START}<split>.json nor directories with {_BESIDE}"
        )
    chosen = choose_splits(recipe, files)
    if not chosen:
        raise ValueError(f"{folder} has the splits {', '.join(files)}: name those to use by data.splits")
    splits, names = {}, {}
    for kind, (file, images) in chosen.items():
        names[kind], splits[kind] = read_split(file, images)
        report(find_missing(splits[kind].inputs.paths), IMAGES, recipe.skip_unreadable)
    if any(other != names["train"] for other in names.values()):
        raise ValueError(f"the splits of {folder} have different categories: {names}")
    return Loaded(folder.name, names["train"], splits)


def find_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return {split: (JSON file, directory of its images)}."""
    files = {path.parent.name: (path, path.parent) for path in sorted(folder.glob(f"*/{_BESIDE}"))}
    for path in sorted(folder.glob(f"annotations/{_START}*.json")):
        name = path.stem.removeprefix(_START)
        places = [folder / name, folder / "images" / name, folder / "images", folder]
        files[name.rstrip("0123456789") or name] = path, next(place for place in places if place.is_dir())
    return files


def read_split(file: Path, folder: Path) -> tuple[list[str], Split]:
    """Return the names of the categories, and the images of a JSON file with their objects."""
    tree: Any = read_json(file)
    for name in ("images", "categories", "annotations"):
        if not isinstance(tree, dict) or not isinstance(tree.get(name), list):
            raise ValueError(f"{file} must hold the lists images, categories and annotations, has no {name}")
    try:
        categories = {item["id"]: item["name"] for item in sorted(tree["categories"], key=lambda item: item["id"])}
        paths = {item["id"]: folder / item["file_name"] for item in tree["images"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: an image needs id and file_name, a category id and name: {error}") from error
    numbers, objects = {key: index for index, key in enumerate(categories)}, defaultdict(list)
    for item in tree["annotations"]:
        for name, known in (("image_id", paths), ("category_id", numbers)):
            if not isinstance(item, dict) or item.get(name) not in known:
                raise ValueError(f"{file}: an annotation names no {name} of the file: {item!r:.150}")
        objects[item["image_id"]].append({**item, "category_id": numbers[item["category_id"]]})
    labels = [{"image_id": index, "annotations": objects[key]} for index, key in enumerate(paths)]
    return list(categories.values()), Split(FileImages(list(paths.values())), as_labels(labels))
