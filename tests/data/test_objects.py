"""Sources of images with objects: COCO's files, in both layouts, and scenes made here."""

import json

import numpy as np
import pytest
from PIL import Image

from hf_vits.data.objects import SOURCES
from hf_vits.data.objects.sources.coco import read_split
from hf_vits.data.splits import without_unreadable
from hf_vits.data.synthetic.scenes import ObjectScenes
from hf_vits.recipe import DataRecipe

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
    ],
)
def test_damaged_files_are_refused(tmp_path, changes, error, message):
    write(tmp_path, tmp_path / "x.json", **changes)
    with pytest.raises(error, match=message):
        read_split(tmp_path / "x.json", tmp_path)


def test_missing_and_damaged_images(tmp_path):
    write(tmp_path / "train", tmp_path / "train" / "_annotations.coco.json")
    (tmp_path / "train" / "b.png").write_bytes(b"no image")
    recipe = DataRecipe(source="coco", path=str(tmp_path))
    split = SOURCES.load(recipe).splits["train"]
    assert len(without_unreadable(split, DataRecipe(source="coco", path=None, skip_unreadable=True))) == 1
    with pytest.raises(OSError, match=r"(?s)1 image file\(s\) cannot be read.*b\.png: cannot identify"):
        without_unreadable(split, recipe)
    (tmp_path / "train" / "b.png").unlink()
    with pytest.raises(OSError, match=r"(?s)1 image file\(s\) cannot be read.*b\.png: there is no such file"):
        SOURCES.load(recipe)


def test_a_directory_without_files_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"_annotations\.coco\.json"):
        SOURCES.load(DataRecipe(source="coco", path=str(tmp_path)))


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
