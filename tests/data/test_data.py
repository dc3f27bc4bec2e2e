"""Data sources, their splits and faults, and what makes up a batch."""

import gzip
import struct
from itertools import product

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2 as transforms

from hf_vits.data.checks import find_unreadable
from hf_vits.data.images import IMAGES, SOURCES, ArrayImages
from hf_vits.data.images.sources.fashion_mnist import read_idx
from hf_vits.data.splits import Split, load_classes, readable, without_unreadable
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.recipe import AffineRecipe, AugmentationRecipe, DataRecipe, RandAugmentRecipe
from hf_vits.training.examples.batches import GlobalBatches
from hf_vits.training.examples.image_augmentation import (
    ClippedResizedCrop,
    Normalization,
    ResizedCrop,
    three_augment,
    training_transform,
)
from hf_vits.training.examples.images import EvaluationImages, TrainingCollator, TrainingImages
from hf_vits.training.examples.randaugment import RandAugment


def picture(seed, size=(20, 16)):
    pixels = np.random.RandomState(seed).randint(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def fill(directory, counts, ending=".png"):
    """A directory per class with so many images each."""
    for name, count in counts.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(number).save(directory / name / f"{number}{ending}")
    return directory


def load_images(recipe):
    return load_classes(recipe, SOURCES)


def folder(path, **settings):
    return load_images(DataRecipe(source="folder", path=str(path), **settings))


# digits and idx files


def test_digits_are_split_the_same_every_time_with_all_classes_everywhere():
    recipe = DataRecipe(source="digits", test_fraction=0.2, validation_fraction=0.1)
    splits, again = load_images(recipe), load_images(recipe)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [1293, 144, 360]
    for split, same in zip(
        (splits.train, splits.validation, splits.test), (again.train, again.validation, again.test), strict=True
    ):
        assert np.array_equal(split.labels, same.labels)
        shares = np.bincount(split.labels) / len(split)
        assert shares.min() > 0.08
        assert shares.max() < 0.12
    originals = {i for s in (splits.train, splits.validation, splits.test) for i in original_indices(s)}
    assert originals == set(range(1797))
    image = splits.test.inputs[0]
    assert (image.mode, image.size) == ("L", (8, 8))
    other = load_images(DataRecipe(source="digits", test_fraction=0.2, split_seed=1))
    assert not np.array_equal(original_indices(other.test), original_indices(splits.test))


def original_indices(split):
    """Numbers, in the whole source, of the images of a held-out split."""
    images, indices = split.inputs, np.arange(len(split))
    while hasattr(images, "indices"):
        images, indices = images.inputs, images.indices[indices]
    return indices.tolist()


def test_a_source_without_held_out_images_is_refused():
    with pytest.raises(ValueError, match=r"hold some out by data.validation_fraction or data.test_fraction"):
        load_images(DataRecipe(source="digits", validation_fraction=0.0))


def test_too_small_a_share_for_every_class_is_refused():
    with pytest.raises(ValueError, match="cannot hold out 0% of 1797 examples with some of every class"):
        load_images(DataRecipe(source="digits", validation_fraction=0.001))


def test_an_unexpected_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"has 10 classes, data.num_classes expects 12: 0, 1, 2"):
        load_images(DataRecipe(source="digits", num_classes=12))


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 99), st.booleans())
def test_idx_files_read_back(tmp_path_factory, shape, seed, zipped):
    array = np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if zipped else "a")
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    assert np.array_equal(read_idx(path), array)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.booleans())
def test_a_truncated_idx_file_is_refused(tmp_path_factory, data, zipped):
    content = idx(np.arange(60, dtype=np.uint8).reshape(5, 4, 3))
    content = gzip.compress(content) if zipped else content
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if zipped else "a")
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(OSError, match=str(path)):
        read_idx(path)


def write_fashion_mnist(directory, images=30):
    for prefix, count in (("train", images), ("t10k", 10)):
        pixels = np.random.RandomState(0).randint(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (directory / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (directory / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))


def test_fashion_mnist(tmp_path):
    write_fashion_mnist(tmp_path)
    splits = load_images(DataRecipe(source="fashion_mnist", path=str(tmp_path), validation_fraction=0.0))
    assert (len(splits.train), len(splits.test), splits.validation is splits.test) == (30, 10, True)
    assert splits.class_names[splits.train.labels[9]] == "Ankle boot"
    assert splits.train.inputs[0].size == (28, 28)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no t10k-labels-idx1-ubyte\[.gz\]"):
        load_images(DataRecipe(source="fashion_mnist", path=str(tmp_path)))
    write_fashion_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(29, np.uint8)))
    with pytest.raises(ValueError, match="train has 30 images and 29 labels"):
        load_images(DataRecipe(source="fashion_mnist", path=str(tmp_path)))


# image folders


def test_folder_with_splits_and_nested_files(tmp_path):
    fill(tmp_path / "train", {"cat": 3, "dog": 2})
    fill(tmp_path / "train" / "dog" / "2021", {"summer": 2}, ".JPEG")
    fill(tmp_path / "val", {"dog": 2})
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    splits = folder(tmp_path)
    assert splits.class_names == ["cat", "dog"]
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert splits.validation.labels.tolist() == [1, 1]
    assert splits.test is splits.validation
    assert splits.validation.inputs[1].size == (16, 20)


def test_folder_without_splits_holds_some_out_of_every_class(tmp_path):
    fill(tmp_path, {"a": 8, "b [odd]": 8})
    splits = folder(tmp_path, validation_fraction=0.25, test_fraction=0.25)
    assert [np.bincount(s.labels).tolist() for s in (splits.train, splits.validation, splits.test)] == [
        [4, 4],
        [2, 2],
        [2, 2],
    ] or sorted(len(s) for s in (splits.train, splits.validation, splits.test)) == [3, 4, 9]


def test_folder_with_splits_of_other_names(tmp_path):
    fill(tmp_path / "lots", {"a": 2, "b": 2})
    fill(tmp_path / "few", {"a": 1, "b": 1})
    splits = folder(tmp_path, splits={"train": "lots", "test": "few"}, validation_fraction=0.0)
    assert (len(splits.train), len(splits.test)) == (4, 2)
    with pytest.raises(ValueError, match="has no split 'many', only few, lots"):
        folder(tmp_path, splits={"train": "many"})


def whole(splits):
    """The training split before some of it was held out."""
    inputs = splits.train.inputs.inputs
    return Split(inputs, np.zeros(len(inputs.paths), dtype=int))


def break_some(directory):
    """Truncate, empty and disguise three of the images."""
    picture(0, (300, 300)).save(directory / "a" / "cut.jpg")
    content = (directory / "a" / "cut.jpg").read_bytes()
    (directory / "a" / "cut.jpg").write_bytes(content[: len(content) // 2])
    (directory / "a" / "empty.png").write_bytes(b"")
    (directory / "b" / "text.webp").write_text("not an image")


def test_unreadable_files_are_counted_and_named(tmp_path):
    fill(tmp_path, {"a": 6, "b": 6})
    break_some(tmp_path)
    splits = folder(tmp_path)  # opens none of them
    with pytest.raises(OSError, match=r"3 image file\(s\) cannot be read") as error:
        without_unreadable(whole(splits), DataRecipe(source="folder"))
    for name in ("cut.jpg: image file is truncated", "empty.png: cannot identify", "text.webp: cannot identify"):
        assert name in str(error.value)
    assert "data.skip_unreadable: true" in str(error.value)


def test_unreadable_files_are_skipped_only_if_asked(tmp_path, caplog):
    fill(tmp_path, {"a": 6, "b": 6})
    break_some(tmp_path)
    recipe = DataRecipe(source="folder", path=str(tmp_path), skip_unreadable=True, validation_fraction=0.5)
    splits = load_images(recipe)
    kept = readable(splits, recipe)
    assert len(kept.train) == len(splits.train)  # there they are replaced when they are met
    assert len(kept.validation) < 8 == len(splits.validation)
    assert kept.test is kept.validation
    assert all(kept.validation.inputs[index].size == (16, 20) for index in range(len(kept.validation)))
    assert "skipping:" in caplog.text


def test_many_unreadable_files_are_not_all_listed(tmp_path):
    fill(tmp_path, {"a": 1, "b": 4})
    for number in range(15):
        (tmp_path / "a" / f"bad{number:02}.png").write_bytes(b"")
    with pytest.raises(OSError, match="15 image file") as error:
        without_unreadable(whole(folder(tmp_path)), DataRecipe(source="folder"))
    assert "bad09.png" in str(error.value)
    assert "bad10.png" not in str(error.value)
    assert "and 5 more" in str(error.value)


def test_files_that_a_check_found_are_refused_before_training_until_they_change(tmp_path):
    fill(tmp_path, {"a": 6, "b": 6})
    break_some(tmp_path)
    recipe = DataRecipe(source="folder", path=str(tmp_path))
    splits = load_images(recipe)
    assert readable(splits, recipe) is splits  # nothing is known of them
    assert len(find_unreadable(whole(splits).inputs.paths, IMAGES, tmp_path)) == 3
    with pytest.raises(OSError, match=r"3 image file\(s\) cannot be read(?s:.*)data.skip_unreadable: true"):
        readable(splits, recipe)
    for name in ("a/cut.jpg", "a/empty.png", "b/text.webp"):
        picture(0).save(tmp_path / name)
    assert readable(splits, recipe) is splits


def test_a_check_decodes_only_files_that_changed(tmp_path):
    fill(tmp_path, {"a": 6, "b": 6})
    paths, decoded = whole(folder(tmp_path)).inputs.paths, []
    media = IMAGES._replace(problem=lambda path: decoded.append(path.name))
    assert find_unreadable(paths, media, tmp_path) == {}
    assert len(decoded) == 12
    (tmp_path / "a" / "1.png").write_bytes(b"another")
    find_unreadable(paths, media, tmp_path)
    assert decoded[12:] == ["1.png"]


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ({}, FileNotFoundError, "has no directories; each class needs one"),
        ({"a": 0, "b": 0}, FileNotFoundError, "has no image files"),
        ({"a": 2, "b": 0}, FileNotFoundError, "of 1 classes: b"),
        ({"a": 2}, ValueError, "has 1 class.* a classifier needs two or more"),
    ],
)
def test_empty_folders(tmp_path, counts, error, message):
    fill(tmp_path, counts)
    with pytest.raises(error, match=message):
        folder(tmp_path)


def test_no_such_folder_and_strange_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no directory"):
        folder(tmp_path / "nowhere")
    fill(tmp_path / "train", {"a": 1, "b": 1})
    fill(tmp_path / "test", {"a": 1, "bee": 1})
    with pytest.raises(ValueError, match="test has classes that the training images lack: bee"):
        folder(tmp_path)
    fill(tmp_path / "elsewhere" / "validation", {"a": 1, "b": 1})
    with pytest.raises(ValueError, match=r"no training split, only \['validation'\]"):
        folder(tmp_path / "elsewhere")


# the datasets library


def write_dataset(directory, **splits):
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    for name, labels in splits.items():
        rows = {"img": [picture(i) for i in range(len(labels))], "label": labels}
        dataset = datasets.Dataset.from_dict(rows, features=features)
        dataset.to_parquet(directory / f"{name}-00000-of-00001.parquet")
    return str(directory)


@pytest.fixture
def datasets_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.mark.usefixtures("datasets_cache")
def test_a_datasets_dataset(tmp_path):
    path = write_dataset(tmp_path, train=[0, 1, 1, 0], validation=[1, 0], test=[0, 1, 1])
    splits = load_images(DataRecipe(source="datasets", path=path))
    assert splits.class_names == ["no", "yes"]
    assert [s.labels.tolist() for s in (splits.train, splits.validation, splits.test)] == [
        [0, 1, 1, 0],
        [1, 0],
        [0, 1, 1],
    ]
    assert np.array_equal(np.asarray(splits.train.inputs[2]), np.asarray(picture(2)))
    only = load_images(
        DataRecipe(
            source="datasets", path=path, splits={"train": "train", "test": "validation"}, validation_fraction=0.0
        )
    )
    assert only.validation is only.test
    assert len(only.test) == 2


def write_columns(directory, **kinds):
    """A dataset of 8 images beside the columns in `kinds`, {name: (type, values)}."""
    features = datasets.Features({"photo": datasets.Image()} | {name: kind for name, (kind, _) in kinds.items()})
    rows = {"photo": [picture(i) for i in range(8)]} | {name: values for name, (_, values) in kinds.items()}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(directory / "train-00000-of-00001.parquet")
    return str(directory)


FINE = (datasets.ClassLabel(names=["oak", "pine", "cat", "dog"]), [0, 1, 2, 3] * 2)
COARSE = (datasets.ClassLabel(names=["plant", "animal"]), [0, 0, 1, 1] * 2)


@pytest.mark.usefixtures("datasets_cache")
@pytest.mark.parametrize(
    ("columns", "kinds", "classes", "labels"),
    [
        ({}, {"fine": FINE, "coarse": COARSE}, ["oak", "pine", "cat", "dog"], FINE[1]),
        ({"label": "coarse"}, {"fine": FINE, "coarse": COARSE}, ["plant", "animal"], COARSE[1]),
        (
            {"label": "word"},
            {"fine": FINE, "word": (datasets.Value("string"), ["b", "a"] * 4)},
            ["a", "b"],
            [1, 0] * 4,
        ),
        ({}, {"label": (datasets.Value("int64"), [10, 9] * 4)}, ["9", "10"], [1, 0] * 4),
        ({"image": "photo"}, {"label": COARSE}, ["plant", "animal"], COARSE[1]),
        ({"image": "photo"}, {"first": (datasets.Image(), [picture(9)] * 8), "label": COARSE}, None, COARSE[1]),
    ],
)
def test_columns_of_a_datasets_dataset(tmp_path, columns, kinds, classes, labels):
    recipe = DataRecipe(source="datasets", path=write_columns(tmp_path, **kinds), columns=columns)
    _, class_names, splits = SOURCES.load(recipe)
    assert class_names == (classes or ["plant", "animal"])
    assert splits["train"].labels.tolist() == labels
    assert np.array_equal(np.asarray(splits["train"].inputs[3]), np.asarray(picture(3)))


@pytest.mark.usefixtures("datasets_cache")
@pytest.mark.parametrize(
    ("columns", "kinds", "message"),
    [
        ({"label": "kind"}, {"label": COARSE}, "has no column kind, only photo, label; name it by data.columns.label"),
        ({"label": ["label", "fine"]}, {"label": COARSE, "fine": FINE}, "the source datasets reads one column, got"),
        ({"image": "picture"}, {"label": COARSE}, r"data.columns.image: .* has no column 'picture', only photo"),
        ({"image": "label"}, {"label": COARSE}, "column 'label' of .* is not of type Image"),
        ({}, {"label": (datasets.Value("float32"), [0.5] * 8)}, "column 'label' is of type float32; classes are"),
        ({}, {"label": (datasets.Value("string"), ["a", None] * 4)}, "4 of 8 rows have no value in column 'label'"),
        ({}, {"rank": (datasets.Value("int64"), [1] * 8)}, "has no column label or class .*name it by data.columns"),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path, columns, kinds, message):
    recipe = DataRecipe(source="datasets", path=write_columns(tmp_path, **kinds), columns=columns)
    with pytest.raises(ValueError, match=message):
        load_images(recipe)


@pytest.mark.usefixtures("datasets_cache")
def test_an_unlabelled_split_is_refused(tmp_path):
    path = write_dataset(tmp_path, train=[0, 1, 1, 0], test=[-1, -1, -1])
    with pytest.raises(ValueError, match=r"3 of 3 labels lie outside 0 to 1 .* is this split labelled"):
        load_images(DataRecipe(source="datasets", path=path, validation_fraction=0.0))


# batches


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(24, 90),
    epoch=st.integers(0, 5),
    repeats=st.integers(1, 3),
    sharing=st.sampled_from([(1, 1), (2, 1), (1, 2), (3, 2), (2, 4)]),
    mix=st.booleans(),
)
def test_processes_and_accumulation_share_the_batches_of_one_process(size, epoch, repeats, sharing, mix):
    processes, accumulation = sharing
    common = {"repeats": repeats, "mix_steps": 10**6 if mix else 0}
    (whole,) = make_batches(size, epoch, 1, 1, common)
    shares = make_batches(size, epoch, processes, accumulation, common)
    part = 24 // (processes * accumulation)
    assert len(whole) == size // 24
    for number, batch in enumerate(whole):
        images = batch[1:] if mix else batch
        assert len(images) == 24
        for accumulated in range(accumulation):
            for process in range(processes):
                start = (accumulated * processes + process) * part
                own = shares[process][number * accumulation + accumulated]
                expected = images[start : start + part]
                assert own[mix:] == expected
                if mix:  # preceded by the image that its first one is mixed with
                    assert own[0] == images[start - 1]


def make_batches(size, epoch, processes, accumulation, common):
    made = []
    for process in range(processes):
        batches = GlobalBatches(
            size, 24, seed=3, processes=processes, process=process, accumulation=accumulation, **common
        )
        batches.set_epoch(epoch)
        made.append(list(batches))
        assert len(made[-1]) == len(batches)
    return made


def test_an_epoch_takes_every_image_once_in_a_new_order_with_new_seeds():
    batches = GlobalBatches(64, 16, seed=0)
    first = [draw for batch in batches for draw in batch]
    batches.set_epoch(1)
    second = [draw for batch in batches for draw in batch]
    assert sorted(d.index for d in first) == sorted(d.index for d in second) == list(range(64))
    assert [d.index for d in first] != [d.index for d in second]
    assert len({d.seed for d in first + second}) == 128


def test_repeats_of_an_image_fill_a_batch_without_being_neighbours():
    batches = list(GlobalBatches(90, 30, seed=0, repeats=3))
    for batch in batches:
        indices = [draw.index for draw in batch]
        assert len(set(indices)) == 10
        assert indices[:10] == indices[10:20] == indices[20:]
    assert len({draw.index for batch in batches for draw in batch}) == 30


def test_mixing_ends_at_its_step():
    batches = GlobalBatches(64, 16, seed=0, mix_steps=6)
    batches.set_epoch(1)
    assert [batch[0].mix_seed is not None for batch in batches] == [True, True, False, False]


# augmentation

FULL = AugmentationRecipe(
    crop_scale=[0.5, 1.0],
    interpolation="random",
    flip=0.5,
    affine=AffineRecipe(degrees=10.0, translate=0.1, scale=0.1, shear=5.0),
    randaugment=RandAugmentRecipe(ops=2, magnitude=9.0, std=0.5),
    three_augment=True,
    color_jitter=0.3,
    erasing=0.5,
    mixup=0.8,
    cutmix=1.0,
)


@pytest.fixture
def processor():
    return VitsImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False)


def split_of(count, channels=3):
    pixels = np.random.RandomState(0).randint(0, 256, (count, 20, 24), dtype=np.uint8)
    return Split(ArrayImages(pixels), np.arange(count) % 4)


def test_without_augmentation_training_and_evaluation_see_the_same(processor):
    transform = training_transform(AugmentationRecipe(), processor, (16, 16))
    image = picture(0)
    expected = processor(images=image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(transform(image), expected, rtol=0, atol=1e-6)


def test_one_mean_and_std_stand_for_all_channels():
    one, each = (
        VitsImageProcessor(size={"height": 16, "width": 16}, image_mean=mean, image_std=std)
        for mean, std in ((0.5, 0.25), ([0.5] * 3, [0.25] * 3))
    )
    draws = []
    for processor in (one, each):
        torch.manual_seed(0)
        draws.append(training_transform(FULL, processor, (16, 16))(picture(0)))
    assert torch.equal(*draws)


def test_augmentation_is_a_function_of_the_draw(processor):
    transform = training_transform(FULL, processor, (16, 16))
    images = TrainingImages(split_of(40), transform, "RGB")
    draws = [draw for batch in GlobalBatches(40, 20, seed=0, repeats=2) for draw in batch]
    torch.manual_seed(1)
    first = [images[draw]["pixel_values"] for draw in draws]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = [images[draw]["pixel_values"] for draw in reversed(draws)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(second), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert first[0].shape == (3, 16, 16)
    repeated = [i for i, draw in enumerate(draws) if draw.index == draws[0].index]
    assert len(repeated) == 2
    assert not torch.equal(first[repeated[0]], first[repeated[1]])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "crop", [{"crop_scale": [0.2, 1.0]}, {"crop_scale": [0.2, 1.0], "crop_clipped": True}, {"crop_padding": 2}, {}]
)
def test_every_augmentation_keeps_size_and_channels(mode, crop):
    channels = len(mode) if mode == "RGB" else 1
    processor = VitsImageProcessor(
        image_mean=[0.5] * channels, image_std=[0.5] * channels, do_convert_rgb=channels == 3
    )
    recipe = AugmentationRecipe(flip=0.5, randaugment=RandAugmentRecipe(), three_augment=True, erasing=1.0, **crop)
    transform = training_transform(recipe, processor, (18, 14))
    for seed in range(12):
        torch.manual_seed(seed)
        assert transform(picture(seed).convert(mode)).shape == (channels, 18, 14)


def test_a_clipped_crop_keeps_what_the_image_has_of_it():
    """Of the whole area of a long image it is the whole height and, whatever the ratio, as wide as drawn."""
    image, crop = picture(0, (100, 640)), ClippedResizedCrop(16, scale=[1.0, 1.0], ratio=[0.5, 2.0])
    widths, redrawn = [], transforms.RandomResizedCrop(16, scale=[1.0, 1.0], ratio=[0.5, 2.0])
    for seed in range(50):
        torch.manual_seed(seed)
        drawn = crop.make_params([image])
        assert (drawn["top"], drawn["height"]) == (0, 100)
        assert 0 <= drawn["left"] <= 640 - drawn["width"]
        widths.append(drawn["width"])
        assert redrawn.make_params([image])["width"] == 200  # ten crops did not fit
        assert crop(image).size == (16, 16)
    assert 178 <= min(widths) < 220  # the root of the area halved
    assert 320 < max(widths) <= 358


def test_three_augment_does_one_of_three():
    image, seen = picture(0, (32, 32)), set()
    for seed in range(30):
        torch.manual_seed(seed)
        changed = np.asarray(three_augment()(image)).astype(int)
        grey = np.ptp(changed, axis=2).max() == 0
        solarized = np.isin(changed - np.asarray(image), (0,)).mean() > 0.3
        seen.add("grey" if grey else "solarized" if solarized else "blurred")
    assert seen == {"grey", "solarized", "blurred"}


def test_randaugments_operations_are_those_of_torchvision():
    """Bit for bit, at every magnitude, on a photograph and on images that have few levels or pixels."""
    pictures = [picture(0, (40, 33)), picture(1, (24, 24)).convert("L"), picture(2, (2, 5))]
    pictures += [Image.new("RGB", (8, 8), (5, 5, 7)), picture(3, (9, 9)).point(lambda level: 100 + level // 8)]
    augment = RandAugment(ops=2, magnitude=9.0, std=0.5, fill=[124])
    for image, (name, (magnitudes, signed)) in product(pictures, augment._AUGMENTATION_SPACE.items()):
        values = magnitudes(augment.num_magnitude_bins, image.height, image.width)
        for value in [0.0] if values is None else values[::3].tolist():
            for magnitude in (value, -value) if signed else (value,):
                given = (image, name, magnitude, augment.interpolation, augment._fill)
                expected = transforms.RandAugment._apply_image_or_video_transform(augment, *given)
                changed = augment._apply_image_or_video_transform(*given)
                assert changed.mode == expected.mode
                assert changed.tobytes() == expected.tobytes(), (image.size, name, magnitude)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_resized_crop_is_drawn_as_torchvisions_and_nearly_pillows(mode):
    image, arguments = picture(0, (100, 130)).convert(mode), {"scale": (0.2, 1.0), "interpolation": "bicubic"}
    for seed in range(20):
        crops = []
        for kind in (ResizedCrop, transforms.RandomResizedCrop):
            torch.manual_seed(seed)
            crops.append(np.asarray(kind(48, **arguments)(image)).astype(int))
        assert crops[0].shape == crops[1].shape
        assert np.abs(crops[0] - crops[1]).max() <= 2


@pytest.mark.parametrize("fields", [{}, {"do_normalize": False}, {"do_rescale": False}, {"image_mean": 0.4}])
def test_training_normalizes_like_the_processor(fields):
    processor = VitsImageProcessor(do_resize=False, do_center_crop=False, **fields)
    image = picture(0, (16, 16))
    pixels = torch.from_numpy(np.array(image)).movedim(-1, 0)
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(Normalization(processor)(pixels), expected.float())
    assert pixels.dtype == torch.uint8  # the argument is as it was


def test_randaugment_magnitudes_vary_around_the_mean():
    augment, magnitudes = RandAugment(ops=0, magnitude=9.0, std=0.5), []
    for seed in range(300):
        torch.manual_seed(seed)
        augment(picture(0))
        magnitudes.append(augment.magnitude / 10)
    assert np.mean(magnitudes) == pytest.approx(9, abs=0.1)
    assert np.std(magnitudes) == pytest.approx(0.5, abs=0.1)
    assert max(magnitudes) <= 10


@pytest.mark.parametrize("recipe", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_a_share_is_mixed_as_the_whole_batch_is(processor, recipe):
    recipe = AugmentationRecipe(**recipe)
    images = TrainingImages(split_of(24), training_transform(AugmentationRecipe(), processor, (16, 16)), "RGB")
    collate = TrainingCollator(recipe, num_classes=4)

    def load(**sharing):
        batches = GlobalBatches(24, 24, seed=5, mix_steps=1, **sharing)
        return [collate([images[draw] for draw in batch]) for batch in batches]

    (whole,) = load()
    shares = [load(processes=2, process=p, accumulation=2) for p in range(2)]
    order = [shares[0][0], shares[1][0], shares[0][1], shares[1][1]]
    assert torch.equal(torch.cat([part["pixel_values"] for part in order]), whole["pixel_values"])
    assert torch.equal(torch.cat([part["labels"] for part in order]), whole["labels"])
    assert whole["labels"].shape == (24, 4)
    torch.testing.assert_close(whole["labels"].sum(dim=1), torch.ones(24))


def test_labels_keep_their_form_when_mixing_is_over(processor):
    images = TrainingImages(split_of(24), training_transform(AugmentationRecipe(), processor, (16, 16)), "RGB")
    (batch,) = GlobalBatches(24, 24, seed=5, mix_steps=0)
    items = [images[draw] for draw in batch]
    one_hot = TrainingCollator(AugmentationRecipe(mixup=1.0), num_classes=4)(items)
    plain = TrainingCollator(AugmentationRecipe(), num_classes=4)(items)
    assert torch.equal(one_hot["labels"].argmax(dim=1), plain["labels"])
    assert torch.equal(one_hot["pixel_values"], plain["pixel_values"])


def test_evaluation_images_are_the_processors(processor):
    items = EvaluationImages(split_of(4), processor, "RGB")
    item = items[3]
    for single, of_batch in zip([item, items[1]], items.__getitems__([3, 1]), strict=True):
        assert all(torch.equal(single[name], of_batch[name]) for name in single)
    image = split_of(4).inputs[3].convert("RGB")
    assert torch.equal(item["pixel_values"], processor(images=image, return_tensors="pt")["pixel_values"][0])
    assert item["labels"] == 3


def test_few_training_images_are_of_every_class_alike():
    settings = {"source": "digits", "test_fraction": 0.2, "validation_fraction": 0.1}
    whole, few = load_images(DataRecipe(**settings)), load_images(DataRecipe(**settings, train_inputs=100))
    assert len(few.train) == 100
    assert np.bincount(few.train.labels).tolist() == [10] * 10
    assert np.array_equal(few.test.labels, whole.test.labels)
    assert len(few.validation) == len(whole.validation)
    kept = set(whole.train.inputs.indices.tolist())
    assert {int(whole.train.inputs.indices[index]) for index in few.train.inputs.indices} <= kept
    other = load_images(DataRecipe(**settings, train_inputs=100, split_seed=1))
    assert not np.array_equal(other.train.labels, few.train.labels)
    with pytest.raises(ValueError, match="has 1293 training inputs, got 1294"):
        load_images(DataRecipe(**settings, train_inputs=1294))
    assert len(load_images(DataRecipe(**settings, train_inputs=1293)).train) == 1293
    with pytest.raises(ValueError, match="cannot hold out 5 of 1293 examples with some of every class"):
        load_images(DataRecipe(**settings, train_inputs=5))
