"""Sources of images with masks, and masks that cannot be used."""

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_vits.data.images.masked import find_splits
from hf_vits.data.masks import SOURCES
from hf_vits.recipe import DataRecipe, load_recipe
from hf_vits.training import tasks

from ..support.training import tiny_recipe

LABELS = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)


def write(folder, labels=LABELS, size=(3, 2), names=("a", "b")):
    """Write images and masks of the same names below a folder of each kind."""
    for kind, image in (("images", Image.new("RGB", size, "red")), ("masks", Image.fromarray(labels))):
        (folder / kind).mkdir(parents=True)
        for name in names:
            image.save(folder / kind / f"{name}.png")


def load(path, **settings):
    return SOURCES.load(DataRecipe(source="folder", path=str(path), **settings))


def test_layouts_of_folders(tmp_path):
    write(tmp_path / "one" / "train")
    write(tmp_path / "one" / "val", names=("c",))
    for kind, other in (("images", "images"), ("masks", "annotations")):
        for split in ("train", "val"):
            target = tmp_path / "two" / other / split
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "one" / split / kind).rename(target)
    write(tmp_path / "three")
    assert find_splits(tmp_path / "two")["val"] == (
        tmp_path / "two" / "images" / "val",
        tmp_path / "two" / "annotations" / "val",
    )
    loaded = load(tmp_path / "two")
    assert {kind: len(split) for kind, split in loaded.splits.items()} == {"train": 2, "validation": 1}
    image, mask = loaded.splits["validation"].inputs[0]
    assert (image.size, mask.tolist(), loaded.class_names) == ((3, 2), LABELS.tolist(), ["0", "1", "2"])
    splits = tasks.load("semantic-segmentation").load_splits(
        DataRecipe(source="folder", path=str(tmp_path / "three"), validation_fraction=0.5)
    )
    assert (len(splits.train), len(splits.test)) == (1, 1)


def test_classes_have_names_from_a_list_or_a_file(tmp_path):
    write(tmp_path / "data")
    (tmp_path / "data" / "classes.txt").write_text("sky\nsea\nsand\n")
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    assert load(tmp_path / "data").class_names == ["sky", "sea", "sand"]
    assert load(tmp_path / "data", classes=["p", "q", "r"]).class_names == ["p", "q", "r"]
    assert load(tmp_path / "data", classes=str(tmp_path / "names.txt")).class_names == ["x", "y", "z"]
    with pytest.raises(FileNotFoundError, match=r"data\.classes: there is no file nowhere\.txt"):
        load(tmp_path / "data", classes="nowhere.txt")
    with pytest.raises(ValueError, match="several classes named 'a'"):
        load(tmp_path / "data", classes=["a", "b", "a"])
    with pytest.raises(ValueError, match=r"has 3 classes, data\.num_classes expects 4"):
        tasks.load("semantic-segmentation").load_splits(
            DataRecipe(source="folder", path=str(tmp_path / "data"), num_classes=4)
        )


def test_masks_may_number_classes_from_one_on(tmp_path):
    write(tmp_path)
    loaded = load(tmp_path, reduce_labels=True)
    assert loaded.splits["train"].inputs[0][1].tolist() == [[255, 0, 1], [255, 1, 0]]
    assert loaded.class_names == ["0", "1"]
    with pytest.raises(ValueError, match=r"has 1 class.* two or more"):
        load(tmp_path, reduce_labels=True, classes=["only"])
    grey(4).save(tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has the label 4, but the classes are 1 to 2, and 255"):
        load(tmp_path, reduce_labels=True, classes=["x", "y"])


def test_datasets_with_a_column_of_masks(tmp_path):
    rows = {"image": [Image.new("RGB", (3, 2))] * 4, "annotation": [Image.fromarray(LABELS)] * 4}
    features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path)
    recipe = DataRecipe(source="datasets", path=str(tmp_path), classes=["a", "b", "c"])
    split = SOURCES.load(recipe).splits["train"]
    assert split.inputs[3][1].tolist() == LABELS.tolist()
    assert split.subset(np.array([1])).inputs[0][0].size == (3, 2)
    with pytest.raises(ValueError, match=r"'image' .* is no second column of images"):
        SOURCES.load(DataRecipe(source="datasets", path=str(tmp_path), columns={"label": "image"}))
    with pytest.raises(ValueError, match="the mask of row 0 has the label 2"):
        SOURCES.load(DataRecipe(source="datasets", path=str(tmp_path), classes=["a", "b"]))


def grey(levels, dtype="uint8"):
    return Image.fromarray(np.full((2, 3), levels, dtype))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("L", (3, 3)), r"a\.png is 3 x 3 pixels, its image 3 x 2: .* resize it to the nearest pixel"),
        (grey(7), r"a\.png has the label 7, but the classes are 0 to 2, and 255 .* name all classes"),
        (grey(255), r"a\.png has only the label 255, where nothing is known: label some of it"),
        (Image.new("RGB", (3, 2)), r"a\.png is an image of mode RGB; .* without colours and alpha"),
        (Image.new("LA", (3, 2)), r"a\.png is an image of mode LA; a mask is a grey or palette PNG of 8 bits"),
        (grey(1, "uint16"), r"a\.png is an image of mode I;16 of 16 bits or more"),
    ],
    ids=["size", "label", "ignored", "colours", "alpha", "16 bits"],
)
def test_masks_that_cannot_be_used_are_named(tmp_path, mask, message):
    write(tmp_path)
    mask.save(tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path, classes=["x", "y", "z"])
    assert str(caught.value).startswith("1 image(s) with masks cannot be used")
    assert len(load(tmp_path, classes=["x", "y", "z"], skip_unreadable=True).splits["train"]) == 1


def test_files_that_are_missing_or_damaged_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "masks" / "a.png").write_bytes(b"no picture")
    with pytest.raises(OSError, match=r"cannot open the mask .*a\.png"):
        load(tmp_path)
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no mask named a, .* \(1 in all lack one\): add the masks, or"):
        load(tmp_path)
    (tmp_path / "masks").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="has no images with masks: they are in <split>/images"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load(tmp_path / "nowhere")


def test_scenes_of_any_number_and_size():
    loaded = SOURCES.load(DataRecipe(source="scenes", config="coarse-10x32"))
    assert loaded.class_names == ["background", "digit"]
    assert {kind: len(split) for kind, split in loaded.splits.items()} == {"train": 8, "test": 2}
    assert loaded.splits["train"].inputs[0][1].shape == (32, 32)
    with pytest.raises(ValueError, match="with or without their number and side"):
        SOURCES.load(DataRecipe(source="scenes", config="10 x 32"))


def test_classes_of_masks_go_with_masks(tmp_path):
    with pytest.raises(ValueError, match=r"data\.classes: the source digits does not read it"):
        tasks.load("image-classification").load_splits(
            load_recipe(tiny_recipe(tmp_path, data__classes=["a", "b"])).data
        )
