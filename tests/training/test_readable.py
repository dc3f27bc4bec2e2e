"""Samples in the place of unreadable ones: drawn by seed and place alone, counted and named."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from hf_vits.data.checks import decoding
from hf_vits.data.images import FileImages
from hf_vits.data.splits import Split
from hf_vits.training.examples.batches import GlobalBatches
from hf_vits.training.examples.readable import ReadableSamples, unreadable_files

BROKEN = (3, 4, 11)


class Levels(Dataset):
    """The level of each image, read from its file, with the seed of its augmentation."""

    def __init__(self, folder):
        self.inputs = FileImages([folder / f"{number}.png" for number in range(16)])
        self.split = Split(self.inputs, np.zeros(16, int))

    def __len__(self):
        return 16

    def __getitem__(self, key):
        index = getattr(key, "index", key) if isinstance(key, tuple) else key
        with decoding(self.inputs, index):
            return self.inputs[index].getpixel((0, 0)), getattr(key, "seed", 0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(16):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(folder / f"{number}.png")
    for number in BROKEN:
        (folder / f"{number}.png").write_bytes(b"no image")
    return folder


def recipe(folder, skip=True):
    return SimpleNamespace(data=SimpleNamespace(skip_unreadable=skip), output=SimpleNamespace(directory=folder))


def epochs(images, folder, workers=0, first=0, **division):
    """The samples of three epochs of two batches, part by part, from the batch number `first` on."""
    batches, found = GlobalBatches(16, 8, 5, repeats=2, **division), []
    dataset = ReadableSamples(Levels(images), recipe(folder))
    for epoch in range(first // 2, 3):
        batches.set_epoch(epoch)
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=list)
        found += list(loader)[first % 2 if epoch == first // 2 else 0 :]
    return found


def test_replacements_depend_on_seed_and_place_alone(images, tmp_path):
    whole = epochs(images, tmp_path)
    levels = [level for batch in whole for level, _ in batch]
    assert not set(levels) & set(BROKEN)
    assert epochs(images, tmp_path, workers=2) == whole
    assert epochs(images, tmp_path, first=3) == whole[3:]
    halves = [epochs(images, tmp_path, processes=2, process=rank) for rank in range(2)]
    assert [first + second for first, second in zip(*halves, strict=True)] == whole
    # The repeats of an input are replaced by the same one.
    pairs = [sorted(level for level, _ in batch) for batch in whole]
    assert all(found[0::2] == found[1::2] for found in pairs)


def test_every_unreadable_file_is_recorded_once(images, tmp_path):
    list(DataLoader(ReadableSamples(Levels(images), recipe(tmp_path)), num_workers=2, collate_fn=list))
    found = unreadable_files(tmp_path / "unreadable.jsonl")
    assert {file: "cannot identify image file" in problem for file, problem in found.items()} == {
        str(images / f"{number}.png"): True for number in BROKEN
    }
    assert all(json.loads(line)["file"] for line in (tmp_path / "unreadable.jsonl").read_text().splitlines())


def test_without_skipping_the_error_names_the_file_and_the_remedies(images, tmp_path):
    dataset = ReadableSamples(Levels(images), recipe(tmp_path, skip=False))
    assert dataset[0] == (0, 0)
    for workers in (0, 1):
        loader = DataLoader(dataset, num_workers=workers, collate_fn=list)
        with pytest.raises(OSError, match=r"3\.png cannot be read: .*skip_unreadable: true.*`hf-vits check`"):
            list(loader)
    assert not (tmp_path / "unreadable.jsonl").exists()


def test_data_of_which_nothing_can_be_read_end_with_an_error(tmp_path):
    with pytest.raises(OSError, match=r"1000 inputs in a row cannot be read"):
        ReadableSamples(Levels(tmp_path), recipe(tmp_path))[0]


def test_skipped_batches_cost_nothing_and_the_next_are_the_same():
    batches = GlobalBatches(64, 8, 0, accumulation=2)
    batches.set_epoch(1)
    whole = list(batches)
    batches.skip(6)
    assert list(batches) == [[]] * 6 + whole[6:]
    assert list(batches) == whole
