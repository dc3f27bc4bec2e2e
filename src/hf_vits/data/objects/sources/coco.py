"""COCO's JSON files: data.path is a directory with annotations/instances_<split>.json and the images in <split>/, or
with a directory for each split that holds its images and _annotations.coco.json.
"""

from collections import defaultdict
from collections.abc import Container, Hashable
from pathlib import Path
from typing import Any

from hf_vits.files import read_json
from hf_vits.recipe import DataRecipe

from ...sources import required_path
from ...splits import Loaded, Split, choose_splits
from ..files import common_names, file_split, refuse

READS = ("path", "splits", "skip_unreadable")
_START, _BESIDE = "instances_", "_annotations.coco.json"


def load(recipe: DataRecipe) -> Loaded:
    """Load images and objects; each image is decoded once to find unreadable ones.

    Names such as train2017 count as train. The splits must have the same categories, which are numbered in the order
    of their ids. Images without an annotation stay, as images without objects.

    Raises:
        ValueError: a file is damaged, or annotations name no image or category or have odd boxes or segmentations,
            with their number and the first of them.
        OSError: files are missing or cannot be decoded.
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
        names[kind], splits[kind] = read_split(file, images, recipe.skip_unreadable)
    return Loaded(folder.name, common_names(str(folder), names), splits)


def find_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return {split: (JSON file, directory of its images)}."""
    files = {path.parent.name: (path, path.parent) for path in sorted(folder.glob(f"*/{_BESIDE}"))}
    for path in sorted(folder.glob(f"annotations/{_START}*.json")):
        name = path.stem.removeprefix(_START)
        places = [folder / name, folder / "images" / name, folder / "images", folder]
        files[name.rstrip("0123456789") or name] = path, next(place for place in places if place.is_dir())
    return files


def read_split(file: Path, folder: Path, skip_unreadable: bool = False) -> tuple[list[str], Split]:
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
    numbers, objects, wrong = {key: index for index, key in enumerate(categories)}, defaultdict(list), []
    for item in tree["annotations"]:
        known = {"image_id": paths, "category_id": numbers}
        unknown = [name for name in known if not names_one(item, name, known[name])]
        if unknown:
            wrong.append(f"an annotation names no {unknown[0]} of the file: {item!r:.150}")
        else:
            objects[item["image_id"]].append({**item, "category_id": numbers[item["category_id"]]})
    refuse(str(file), wrong)
    found = [objects[key] for key in paths]
    return list(categories.values()), file_split(list(paths.values()), found, skip_unreadable, str(file))


def names_one(item: Any, name: str, known: Container) -> bool:
    """Return whether an annotation names one of the known images or categories."""
    return isinstance(item, dict) and isinstance(item.get(name), Hashable) and item.get(name) in known
