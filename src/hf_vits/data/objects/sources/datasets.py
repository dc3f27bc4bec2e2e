"""A dataset that `datasets.load_dataset` loads, with a column of images and one of objects.

The column of objects has for each image a list of objects, or lists of their values: `bbox`, four numbers as
data.box_format says, and `category` (or `label`, `category_id`), the class. `area`, `iscrowd` and `segmentation` are
read where they are there.
"""

from collections.abc import Mapping
from typing import Any

import datasets

from hf_vits.recipe import DataRecipe

from ...columns import input_column, load_dataset_splits
from ...splits import ColumnInputs, Loaded, Split
from ...tables import column_name, sorted_classes
from .. import as_labels
from ..files import Objects, check_objects, refuse

READS = ("path", "config", "splits", "box_format", "columns.image", "columns.objects")
_BOXES, _CLASSES = ("bbox", "boxes", "bboxes", "box"), ("category", "label", "category_id", "labels", "categories")
_OTHERS = ("area", "iscrowd", "segmentation")


def load(recipe: DataRecipe) -> Loaded:
    """Load the dataset data.path, a name on the Hub or a local directory.

    The classes are those of the class labels, or else the words or numbers of the training split in their order.

    Raises:
        ValueError: columns are missing, or objects have odd boxes or classes, with their number and the first of them.
    """
    loaded = load_dataset_splits(recipe)
    columns = {kind: column_name(recipe, data.features, "objects", ("objects",)) for kind, data in loaded.items()}
    inputs = {
        kind: ColumnInputs(data, input_column(recipe, data, "image", datasets.Image)) for kind, data in loaded.items()
    }
    feature = fields_of(loaded["train"].features[columns["train"]])
    box, label = (find(feature, names, f"{recipe.path}, {columns['train']}") for names in (_BOXES, _CLASSES))
    rows = {kind: [as_objects(value) for value in data[columns[kind]]] for kind, data in loaded.items()}
    inner = getattr(feature[label], "feature", feature[label])
    if isinstance(inner, datasets.ClassLabel):
        class_names, numbers = list(inner.names), {number: number for number in range(len(inner.names))}
    else:
        values = {item.get(label) for items in rows["train"] for item in items} - {None}
        class_names = sorted_classes(map(str, values))
        numbers = {value: class_names.index(str(value)) for value in values}
    splits = {}
    for kind, items in rows.items():
        name = f"{recipe.path}, {kind}"
        splits[kind] = Split(inputs[kind], as_labels(read_rows(name, items, box, label, numbers, recipe.box_format)))
    return Loaded(str(recipe.path), class_names, splits)


def fields_of(feature: Any) -> Mapping[str, Any]:
    """Return the fields of the objects of a column: of a list of dicts, or of a dict of lists."""
    feature = getattr(feature, "feature", feature)
    return feature if isinstance(feature, Mapping) else {}


def find(fields: Mapping[str, Any], names: tuple[str, ...], column: str) -> str:
    """Return the first of these names that the objects have."""
    for name in names:
        if name in fields:
            return name
    raise ValueError(
        f"{column}: objects need one of {', '.join(names)}, have {', '.join(fields) or 'no fields'}; name the column "
        "by data.columns.objects"
    )


def as_objects(value: Any) -> Objects:
    """Return the objects of a row as dicts; of lists of unequal lengths, what is missing is None."""
    if isinstance(value, Mapping):
        count = max((len(part) for part in value.values() if part is not None), default=0)
        padded = {name: [*(part or []), *[None] * count][:count] for name, part in value.items()}
        return [dict(zip(padded, parts, strict=True)) for parts in zip(*padded.values(), strict=True)]
    return list(value or [])


def read_rows(
    name: str, rows: list[Objects], box: str, label: str, numbers: Mapping[Any, int], box_format: str
) -> list[dict[str, Any]]:
    """Return the labels of images; `box` and `label` are the fields of box and class, `numbers` those of classes."""
    images, wrong = {}, []
    for row, items in enumerate(rows):
        images[f"row {row}"] = objects = []
        for number, item in enumerate(items, start=1):
            if item.get(label) not in numbers:
                wrong.append(f"row {row}, object {number}: {label} is {item.get(label)!r}, no class of training")
                continue
            others = {key: item[key] for key in _OTHERS if item.get(key) is not None}
            sides = item.get(box)
            if box_format == "xyxy" and isinstance(sides, list | tuple) and len(sides) == 4 and None not in sides:
                sides = [sides[0], sides[1], sides[2] - sides[0], sides[3] - sides[1]]
            objects.append({"bbox": sides, "category_id": numbers[item[label]], **others})
    refuse(name, wrong)
    return check_objects(name, images, {})
