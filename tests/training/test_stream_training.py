"""Runs on streams: exact resume, durations without epochs, pretraining, and what needs inputs by number."""

import io
import tarfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from hf_vits.recipe import load_recipe
from hf_vits.training import train
from hf_vits.training.run import build

from ..support.training import losses, tiny_recipe
from .test_pretraining_runs import NOTHING_BESIDE, tiny


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Three archives of grey images to train on and one to test on: dark ones, class 0, and light ones, class 1."""
    folder = tmp_path_factory.mktemp("archives")
    for number, name in enumerate(["train-0", "train-1", "train-2", "test-0"]):
        random = np.random.default_rng(number)
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            for row in range(24):
                file = io.BytesIO()
                pixels = random.integers(0, 60, (12, 12)) + 150 * (row % 2)
                Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
                add(archive, f"{row:03}.png", file.getvalue())
                add(archive, f"{row:03}.cls", str(row % 2).encode())
    return folder


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def data(archives, **settings):
    return {"source": "webdataset", "path": str(archives), "num_classes": 2, "shuffle_buffer": 8} | settings


def recipe(archives, directory, **changes):
    short = {"data": data(archives), "train__batch_size": 8, "train__length": "9 steps", "train__evaluate_every": None}
    return tiny_recipe(directory, **short | changes)


def test_a_run_on_a_stream_resumes_exactly(archives, tmp_path):
    whole = train(recipe(archives, tmp_path / "whole"))
    assert "train_images" not in whole
    assert whole["test_images"] == 24
    train(recipe(archives, tmp_path / "parts", train__length="5 steps", train__workers=1))
    train(recipe(archives, tmp_path / "parts"))
    assert losses(tmp_path / "parts")[-4:] == losses(tmp_path / "whole")[-4:]


def test_durations_in_epochs_need_the_length_of_one(archives, tmp_path):
    with pytest.raises(ValueError, match=r"train\.length: 2 epochs, but the length .*data\.epoch_inputs"):
        build(load_recipe(recipe(archives, tmp_path, train__length="2 epochs")))
    built = build(
        load_recipe(recipe(archives, tmp_path, train__length="2 epochs", data=data(archives, epoch_inputs=72)))
    )
    assert built.trainer.args.max_steps == 18
    first, second = (epoch(built.trainer.batches, number) for number in range(2))
    assert first == list(range(36))  # each input twice, as augmentation.repeats says
    assert second == list(range(36, 72))


def epoch(batches, number):
    batches.set_epoch(number)
    return sorted({key.index for batch in batches for key in batch})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__sampler": "balanced"}, r"data\.sampler: balanced needs to know all labels"),
        ({"objective__class_weights": "balanced", "augmentation": {}}, r"class_weights: balanced needs all labels"),
        ({"augmentation__repeats": 3}, r"batch_size 8 must be a multiple of augmentation\.repeats 3"),
    ],
)
def test_settings_that_need_all_inputs_are_refused(archives, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        build(load_recipe(recipe(archives, tmp_path, **changes)))


def test_pretraining_on_a_stream(archives, tmp_path):
    changes = NOTHING_BESIDE | {"data": data(archives), "train__length": "3 steps", "train__batch_size": 8}
    assert train(tiny("mae", tmp_path / "mae", **changes))["steps"] == 3
    with pytest.raises(ValueError, match="neighbours and priors need the training images by number"):
        build(load_recipe(tiny("mae", tmp_path, **changes | {"neighbours": {"number": 5, "bank": 20}})))
    with pytest.raises(ValueError, match=r"momentum_teacher: its settings are in epochs, .*data\.epoch_inputs"):
        build(load_recipe(tiny("dino", tmp_path, **changes)))


def test_recordings_in_archives(tmp_path):
    from hf_vits.data.audio import CLASS_SOURCES
    from hf_vits.data.splits import load_classes
    from hf_vits.recipe import DataRecipe
    from hf_vits.training.examples.recordings import read

    for name in ("train-0", "val-0"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for row in range(4):
                file = io.BytesIO()
                soundfile.write(file, np.full(100 + row, 0.25), 8000, format="WAV")
                add(archive, f"{row}.wav", file.getvalue())
                add(archive, f"{row}.json", b'{"word": %d}' % (row % 2))
    settings = {"num_classes": 2, "columns": {"label": "word"}}
    splits = load_classes(DataRecipe(source="webdataset", path=str(tmp_path), **settings), CLASS_SOURCES)
    lengths = [len(read(splits.train, index, 8000)) for index in range(4)]
    assert sorted(lengths) == [100, 101, 102, 103]
    assert [int(splits.train.labels[index]) for index in range(4)] == [length % 2 for length in lengths]
    assert splits.validation.labels.tolist() == [0, 1, 0, 1]
