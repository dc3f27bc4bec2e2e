"""Sources of images with objects: COCO's files, YOLO's and Pascal VOC's folders, datasets, and scenes made here."""

import json
import logging

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_vits.data.objects import SOURCES
from hf_vits.data.objects.sources.coco import read_split
from hf_vits.data.synthetic.scenes import ObjectScenes
from hf_vits.recipe import DataRecipe

OBJECT = {"image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4]}
CATEGORIES = [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}]


def write(folder, file, annotations=None, **changes):
    """Write two images and a JSON file with an object in the first."""
    folder.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(folder / name)
    tree = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "categories": CATEGORIES,
        "annotations": [{"id": 0, "image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4]}]
        if annotations is None
        else annotations,
    }
    file.write_text(json.dumps(tree | changes))


@pytest.mark.parametrize("layout", ["coco", "beside"])
def test_both_layouts_of_coco_are_read(tmp_path, layout):
    for split in ("train", "val"):
        if layout == "coco":
            write(tmp_path / f"{split}2017", tmp_path / "annotations" / f"instances_{split}2017.json")
        else:
            write(tmp_path / split, tmp_path / split / "_annotations.coco.json")
    _, class_names, splits = SOURCES.load(DataRecipe(source="coco", path=str(tmp_path)))
    assert class_names == ["cat", "dog"]
    assert splits.keys() == {"train", "validation"}
    first, second = splits["train"].labels
    assert first["annotations"][0]["category_id"] == 1
    assert second["annotations"] == []
    assert splits["train"].inputs[1].size == (10, 8)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"annotations": [{"image_id": 8, "category_id": 5}]}, ValueError, "names no image_id"),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, ValueError, "names no category_id"),
        ({"categories": None}, ValueError, "has no categories"),
        ({"categories": [{"id": 1}]}, ValueError, "a category id and name"),
        ({"images": [{"id": 7, "file_name": "c.png"}]}, OSError, "No such file"),
        ({"annotations": [{"image_id": 7, "category_id": 5, "bbox": [1, 2, 3]}] * 7}, ValueError, "7 bad annotation"),
        (
            {"annotations": [OBJECT | {"segmentation": {"size": [2, 2], "counts": [3]}}]},
            ValueError,
            r"size \[2, 2\] has 3 pixels",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, changes, error, message):
    write(tmp_path, tmp_path / "x.json", **changes)
    with pytest.raises(error, match=message):
        read_split(tmp_path / "x.json", tmp_path)


def test_unreadable_images_can_be_left_out(tmp_path):
    write(tmp_path, tmp_path / "x.json")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(OSError, match="1 image file"):
        read_split(tmp_path / "x.json", tmp_path)
    assert len(read_split(tmp_path / "x.json", tmp_path, skip_unreadable=True)[1]) == 1


def test_a_directory_without_files_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"_annotations\.coco\.json"):
        SOURCES.load(DataRecipe(source="coco", path=str(tmp_path)))


def test_boxes_without_area_in_their_image_are_left_out_counted_and_named(tmp_path, caplog):
    boxes = [[1, 2, 3, 4], [1, 2, 0, 4], [10, 0, 5, 5], [-4, 0, 5, 5]]
    write(tmp_path, tmp_path / "x.json", [OBJECT | {"bbox": box} for box in boxes])
    with caplog.at_level(logging.WARNING):
        _, split = read_split(tmp_path / "x.json", tmp_path)
    assert [item["bbox"] for item in split.labels[0]["annotations"]] == [boxes[0], boxes[3]]
    assert "2 objects without area" in caplog.text
    assert "a.png, object 3" in caplog.text


# YOLO's folders


def write_yolo(folder, lines: str = "", yaml: str = "train: images/train\nval: images/val\nnames: [cat, dog]\n"):
    """Write an image of 20 x 10 pixels for each split, and the labels of the first."""
    for kind in ("train", "val"):
        (folder / "images" / kind).mkdir(parents=True)
        Image.new("RGB", (20, 10)).save(folder / "images" / kind / "a.png")
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text(lines)
    (folder / "data.yaml").write_text(yaml)
    return DataRecipe(source="yolo", path=str(folder))


@pytest.mark.parametrize(
    "yaml", [None, "path: images\ntrain: ../images/train\nval: val\nnc: 2\nnames: {0: cat, 1: dog}\n"]
)
def test_boxes_and_polygons_of_yolo_are_fractions_of_the_image(tmp_path, yaml):
    lines = "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.6 0.2 0.6 0.8\n"
    name, class_names, splits = SOURCES.load(write_yolo(tmp_path, lines, *([yaml] if yaml else [])))
    assert (name, class_names, splits.keys()) == (tmp_path.name, ["cat", "dog"], {"train", "validation"})
    box, polygon = splits["train"].labels[0]["annotations"]
    assert box == {"category_id": 1, "bbox": pytest.approx([8, 3, 4, 4])}
    assert polygon["bbox"] == pytest.approx([2, 2, 10, 6])
    assert polygon["segmentation"] == [pytest.approx([2, 2, 12, 2, 12, 8])]
    assert splits["validation"].labels[0]["annotations"] == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"lines": "2 0.5 0.5 0.2 0.4\n0 1 2\n1 0.5 0.5 0.2 9\n1 a b c d\n"},
            ValueError,
            r"4 bad .*a\.txt:1: the class",
        ),
        ({"lines": "0 0.5 0.5 0.2\n"}, ValueError, "expected 4 numbers of a box"),
        ({"lines": "0 0.5 0.5 0.2 nan\n"}, ValueError, "0 to 1, got"),
        ({"yaml": "train: images/train\nnames: []\n"}, ValueError, "needs names"),
        ({"yaml": "train: images/train\nnc: 3\nnames: [a]\n"}, ValueError, "as many as nc"),
        ({"yaml": "names: [a]\n"}, ValueError, "names no directory of training images"),
        ({"yaml": "train: pictures\nnames: [a]\n"}, FileNotFoundError, "there is no .*pictures"),
    ],
)
def test_wrong_files_of_yolo_are_refused(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        SOURCES.load(write_yolo(tmp_path, **changes))


# Pascal VOC's folders

CAT = "<name>cat</name><bndbox><xmin>1</xmin><ymin>3</ymin><xmax>10</xmax><ymax>8</ymax></bndbox>"
DOG = CAT.replace("cat", "dog") + "<difficult>1</difficult>"


def write_voc(folder, *objects: str, head: str = "", sets: bool = True):
    """Write an image with objects for training, and one without an XML file for validation."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (20, 10)).save(folder / "JPEGImages" / f"{name}.png")
    found = "".join(f"<object>{text}</object>" for text in objects)
    (folder / "Annotations" / "a.xml").write_text(f"{head}<annotation>{found}</annotation>")
    if sets:
        for kind, name in (("train", "a"), ("val", "b")):
            (folder / "ImageSets" / "Main" / f"{kind}.txt").write_text(f"{name}\n")
    return DataRecipe(source="voc", path=str(folder))


def test_corners_of_pascal_voc_are_counted_from_one(tmp_path):
    _, class_names, splits = SOURCES.load(write_voc(tmp_path, CAT, DOG))
    assert class_names == ["cat", "dog"]
    box = [0, 2, 10, 6]
    cat, dog = splits["train"].labels[0]["annotations"]
    assert cat == {"category_id": 0, "bbox": box, "iscrowd": 0}
    assert dog == {"category_id": 1, "bbox": box, "iscrowd": 1}
    assert splits["validation"].labels[0]["annotations"] == []
    alone = SOURCES.load(write_voc(tmp_path / "alone", CAT, sets=False))
    assert alone.splits.keys() == {"train"}


@pytest.mark.parametrize(
    ("objects", "head", "message"),
    [
        (["<name>cat</name>"], "", "1 bad .*object 1 has no bndbox"),
        ([CAT.replace("<xmin>1", "<xmin>one")], "", "must be numbers"),
        ([CAT, "<name>"], "", "is not valid XML"),
        ([CAT], '<!DOCTYPE x [<!ENTITY e "cat">]>', "declares a document type"),
        ([], "", "no objects"),
    ],
)
def test_wrong_files_of_pascal_voc_are_refused(tmp_path, objects, head, message):
    with pytest.raises(ValueError, match=message):
        SOURCES.load(write_voc(tmp_path, *objects, head=head))


# Datasets with objects


def dataset(folder, objects: list, features=None, **fields) -> DataRecipe:
    images = [Image.new("RGB", (20, 10))] * len(objects)
    kinds = None if features is None else datasets.Features({"image": datasets.Image(), "objects": features})
    made = datasets.Dataset.from_dict({"image": images, "objects": objects}, features=kinds)
    if kinds is None:
        made = made.cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(folder))
    return DataRecipe(source="datasets", path=str(folder), **fields)


def test_lists_of_values_and_lists_of_objects_are_read_alike(tmp_path):
    names = datasets.ClassLabel(names=["cat", "dog"])
    features = {"bbox": datasets.List(datasets.List(datasets.Value("float32"))), "category": datasets.List(names)}
    columns = [{"bbox": [[1, 2, 3, 4], [0, 0, 5, 5]], "category": [1, 0]}, {"bbox": [], "category": []}]
    _, class_names, splits = SOURCES.load(dataset(tmp_path / "a", columns, features))
    assert class_names == ["cat", "dog"]
    expected = [{"bbox": [1, 2, 3, 4], "category_id": 1}, {"bbox": [0, 0, 5, 5], "category_id": 0}]
    assert [label["annotations"] for label in splits["train"].labels] == [expected, []]
    rows = [[{"bbox": [1, 2, 4, 6], "label": "dog"}, {"bbox": [0, 0, 5, 5], "label": "cat"}], []]
    _, class_names, splits = SOURCES.load(dataset(tmp_path / "b", rows, box_format="xyxy"))
    assert class_names == ["cat", "dog"]
    assert [label["annotations"] for label in splits["test"].labels] == [expected, []]
    assert splits["train"].inputs[0].size == (20, 10)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"bbox": [[1, 2, 3, 4]], "category": [None]}, "category is None"),
        ({"bbox": [[1, 2, 3]], "category": ["a"]}, "2 bad annotation.*row 0, object 1: bbox must be four"),
        ({"bbox": [[1, 2, 3, 4]], "category": ["a", "a"]}, "row 1, object 2"),
        ({"bbox": [[1, 2, 3, 4]], "kind": ["a"]}, "one of category, label"),
    ],
)
def test_odd_objects_of_datasets_are_refused(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        SOURCES.load(dataset(tmp_path, [row, row]))


def test_scenes_have_the_boxes_of_their_visible_pixels():
    scenes = ObjectScenes(6, 48)
    for index in range(6):
        image, kinds, masks = scenes.draw(index)
        assert image.shape == (48, 48, 3)
        assert masks.sum(0).max() <= 1
        label = scenes.label(index)
        visible = [number for number, mask in enumerate(masks) if mask.any()]
        assert [item["category_id"] for item in label["annotations"]] == [kinds[number] for number in visible]
        x, y, width, height = label["annotations"][0]["bbox"]
        mask = masks[visible[0]]
        assert mask[y : y + height, x : x + width].sum() == mask.sum() == label["annotations"][0]["area"]
    with pytest.raises(IndexError):
        scenes.draw(6)
    with pytest.raises(ValueError, match=r"data\.config"):
        SOURCES.load(DataRecipe(source="object_scenes", config="many"))
