"""Pascal VOC folders: data.path is a directory with JPEGImages/, Annotations/ (an XML file for each image) and, where
the images have splits, ImageSets/Main/<split>.txt, which name the images of each.

Corners of boxes are numbers of pixels, counted from 1, and belong to the box. Objects that are marked as difficult
count as COCO's crowds: they are not trained on, and what overlaps them is neither right nor wrong.
"""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from hf_vits.recipe import DataRecipe

from ...images import IMAGES
from ...sources import required_path
from ...splits import Loaded, choose_splits
from ..files import Objects, file_split, refuse

READS = ("path", "splits", "skip_unreadable")
_IMAGES, _ANNOTATIONS, _SETS = "JPEGImages", "Annotations", Path("ImageSets", "Main")
_MOST_BYTES = 16 * 2**20  # of an XML file


def load(recipe: DataRecipe) -> Loaded:
    """Load the names of the images and their objects; of the images only the size is read.

    The classes are those of the training split in alphabetical order. An image of a split without an XML file has no
    objects; without ImageSets every image that has an XML file is for training.

    Raises:
        ValueError: XML files are damaged or have odd values, with their number and the first of them, or another split
            has a class that training lacks.
        OSError: files are missing; images may be with data.skip_unreadable.
    """
    folder = required_path(recipe, f"a directory with {_IMAGES} and {_ANNOTATIONS}")
    for name in (_IMAGES, _ANNOTATIONS):
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"{folder} has no directory {name}, as Pascal VOC's folders have")
    sets = {path.stem: path for path in sorted((folder / _SETS).glob("*.txt"))}
    listed = {kind: names_in(path) for kind, path in choose_splits(recipe, sets).items()}
    if sets and not listed:
        raise ValueError(f"{folder / _SETS} has the splits {', '.join(sets)}: name those to use by data.splits")
    listed = listed or {"train": [path.stem for path in sorted((folder / _ANNOTATIONS).glob("*.xml"))]}
    found = {kind: read_images(folder, names) for kind, names in listed.items()}
    class_names = sorted({item["name"] for _, objects in found["train"] for item in objects})
    if not class_names:
        raise ValueError(f"{folder}: the training images have no objects")
    numbers, splits = {name: number for number, name in enumerate(class_names)}, {}
    for kind, images in found.items():
        if unknown := sorted({item["name"] for _, objects in images for item in objects} - set(class_names)):
            raise ValueError(f"{folder}: the {kind} split has classes that training lacks: {', '.join(unknown)}")
        objects = [
            [{"category_id": numbers[item["name"]]} | {k: v for k, v in item.items() if k != "name"} for item in items]
            for _, items in images
        ]
        name = f"{folder}, {kind}"
        splits[kind] = file_split([path for path, _ in images], objects, recipe.skip_unreadable, name)
    return Loaded(folder.name, class_names, splits)


def names_in(file: Path) -> list[str]:
    """Return the names of images that a file lists, the first word of each line; FileNotFoundError if it has none."""
    names = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise FileNotFoundError(f"{file} names no images")
    return names


def read_images(folder: Path, names: list[str]) -> list[tuple[Path, Objects]]:
    """Return the path of each image and its objects, each with the `name` of its class."""
    files = {path.stem: path for path in sorted((folder / _IMAGES).iterdir()) if is_image(path)}
    images, wrong = [], []
    for name in names:
        file, objects = folder / _ANNOTATIONS / f"{name}.xml", []
        if file.is_file():
            try:
                objects = read_xml(file)
            except ValueError as error:
                wrong.append(f"{file}: {error}")
        images.append((files.get(name, folder / _IMAGES / f"{name}.jpg"), objects))
    refuse(str(folder), wrong)
    return images


def is_image(path: Path) -> bool:
    return path.name.lower().endswith(IMAGES.endings)


def read_xml(file: Path) -> Objects:
    """Return the objects of an XML file, each with the `name` of its class; ValueError that says what is wrong."""
    objects = []
    for number, node in enumerate(parse(file).findall("object"), start=1):
        name, box = (node.findtext("name") or "").strip(), node.find("bndbox")
        if not name or box is None:
            raise ValueError(f"object {number} has no {'bndbox' if name else 'name'}")
        try:
            x0, y0, x1, y1 = (float(box.findtext(side) or "nothing") for side in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError as error:
            raise ValueError(f"object {number}: xmin, ymin, xmax and ymax must be numbers: {error}") from error
        difficult = (node.findtext("difficult") or "0").strip() == "1"
        # The pixels from x0 to x1, counted from 1, reach from x0 - 1 to x1.
        item: dict[str, Any] = {"name": name, "bbox": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]}
        objects.append(item | {"iscrowd": int(difficult)})
    return objects


def parse(file: Path) -> ElementTree.Element:
    """Return the root of an XML file; ValueError if it is damaged, large, or declares a document type or entities."""
    content = file.read_bytes()
    if len(content) > _MOST_BYTES:
        raise ValueError(f"has {len(content):,} bytes, more than {_MOST_BYTES:,}")
    # Entities, which can grow without limit or name other files, can only be declared in a document type.
    reader = expat.ParserCreate()
    reader.StartDoctypeDeclHandler = refuse_document_type
    try:
        reader.Parse(content, True)
        return ElementTree.fromstring(content)
    except (expat.ExpatError, ElementTree.ParseError, LookupError) as error:  # LookupError of unknown encodings
        raise ValueError(f"is not valid XML: {error}") from error


def refuse_document_type(*_: Any) -> None:
    raise ValueError("declares a document type, which annotations have no need of: remove <!DOCTYPE ...>")
