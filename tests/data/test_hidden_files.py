"""Folders and files that systems and editors leave behind are neither classes nor inputs nor errors."""

import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from hf_vits.cli.prediction import find_files
from hf_vits.data.audio import CLASS_SOURCES
from hf_vits.data.folders import visible_files
from hf_vits.data.images import IMAGES, SOURCES
from hf_vits.data.splits import load_classes
from hf_vits.recipe import DataRecipe

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X"


def leave_behind(folder, picture):
    """Leave in a folder what notebooks, archives and file managers do; `picture` is a file there."""
    (folder / ".ipynb_checkpoints").mkdir()
    shutil.copy(picture, folder / ".ipynb_checkpoints" / f"copy-checkpoint{picture.suffix}")
    (folder / "__MACOSX" / picture.parent.name).mkdir(parents=True)
    (folder / "__MACOSX" / picture.parent.name / f"._{picture.name}").write_bytes(APPLE_DOUBLE)
    (folder / f"._{picture.name}").write_bytes(APPLE_DOUBLE)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / ".empty").mkdir()


def fill(folder, write, ending, count=4):
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            write(folder / name / f"{number}{ending}", number)


def write_image(path, number):
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def write_sound(path, number):
    soundfile.write(path, np.random.default_rng(number).uniform(-0.5, 0.5, 800), 8000)


@pytest.mark.parametrize(
    ("sources", "write", "ending"), [(SOURCES, write_image, ".png"), (CLASS_SOURCES, write_sound, ".wav")]
)
@pytest.mark.parametrize("splits", [False, True])
def test_hidden_folders_and_files_are_left_alone(tmp_path, sources, write, ending, splits):
    parts = [tmp_path / "train", tmp_path / "test"] if splits else [tmp_path]
    for part in parts:
        fill(part, write, ending)
        for folder in (part, part / "cat"):
            leave_behind(folder, part / "cat" / f"0{ending}")
    if splits:
        leave_behind(tmp_path, parts[0] / "cat" / f"0{ending}")
    loaded = load_classes(DataRecipe(source="folder", path=str(tmp_path), validation_fraction=0.25), sources)
    assert loaded.class_names == ["cat", "dog"]
    assert len(loaded.train) + len(loaded.test) + (splits and len(loaded.validation)) == 8 * len(parts)


def test_a_hidden_class_of_the_test_split_is_no_class_that_training_lacks(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / part, write_image, ".png")
    leave_behind(tmp_path / "test", tmp_path / "test" / "dog" / "1.png")
    recipe = DataRecipe(source="folder", path=str(tmp_path), validation_fraction=0.25)
    assert len(load_classes(recipe, SOURCES).test) == 8


def test_a_hidden_split_that_is_named_is_used(tmp_path):
    for part in ("train", ".held_out"):
        fill(tmp_path / part, write_image, ".png")
    splits = {"train": "train", "test": ".held_out"}
    recipe = DataRecipe(source="folder", path=str(tmp_path), splits=splits, validation_fraction=0.25)
    assert len(load_classes(recipe, SOURCES).test) == 8


def test_a_hidden_directory_that_is_named_is_read(tmp_path):
    fill(tmp_path / ".photos", write_image, ".png")
    recipe = DataRecipe(source="folder", path=str(tmp_path / ".photos"), validation_fraction=0.25)
    assert len(load_classes(recipe, SOURCES).train) == 6


def test_predict_leaves_them_alone_but_for_a_file_that_is_named(tmp_path):
    fill(tmp_path, write_image, ".png", count=1)
    leave_behind(tmp_path, tmp_path / "cat" / "0.png")
    hidden = tmp_path / ".ipynb_checkpoints" / "copy-checkpoint.png"
    files = [tmp_path / "cat" / "0.png", tmp_path / "dog" / "0.png"]
    assert find_files([tmp_path], IMAGES) == files
    assert find_files([tmp_path, hidden], IMAGES) == [*files, hidden]


def test_speech_commands_have_no_apple_double_files(tmp_path):
    for word in ("yes", "no"):
        (tmp_path / word).mkdir()
        for number in range(3):
            write_sound(tmp_path / word / f"{number}.wav", number)
            (tmp_path / word / f"._{number}.wav").write_bytes(APPLE_DOUBLE)
    (tmp_path / "validation_list.txt").write_text("yes/1.wav\nno/1.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/2.wav\nno/2.wav\n")
    loaded = load_classes(DataRecipe(source="speech_commands", path=str(tmp_path)), CLASS_SOURCES)
    assert [path.name for path in loaded.train.inputs.paths] == ["0.wav", "0.wav"]


def test_links_to_folders_are_followed_once(tmp_path):
    fill(tmp_path / "elsewhere", write_image, ".png", count=2)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "cat" / "round").symlink_to(tmp_path / "cat")
    assert [path.name for path in visible_files(tmp_path / "cat")] == ["0.png", "1.png"]
