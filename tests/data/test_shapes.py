"""Own data in usual shapes: stored datasets, parquet, metadata.csv; what is left out is named."""

import io
import tarfile

import datasets
import numpy as np
import pytest
from PIL import Image, features

from hf_vits.data.images import SOURCES
from hf_vits.data.splits import load_classes
from hf_vits.recipe import DataRecipe


def images(count):
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(count)]


def loaded_from(path):
    return load_classes(DataRecipe(source="datasets", path=str(path), validation_fraction=0.25), SOURCES)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("shape", ["dataset", "dict", "parquet"])
def test_datasets_in_files(tmp_path, shape):
    stored = datasets.Dataset.from_dict(
        {"image": images(8), "label": ["10", "9"] * 4},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")}),
    )
    path = tmp_path / ("stored.parquet" if shape == "parquet" else "stored")
    if shape == "parquet":
        stored.to_parquet(path)
    elif shape == "dict":
        datasets.DatasetDict(train=stored, test=stored).save_to_disk(path)
    else:
        stored.save_to_disk(path)
    found = loaded_from(path)
    assert found.class_names == ["9", "10"]  # numbers in their order
    assert len(found.train) == 6
    assert found.train.inputs[0].size == (8, 8)
    assert len(found.test) == (8 if shape == "dict" else 2)


def test_metadata_beside_the_files(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["file_name,label"]
    for number, image in enumerate(images(8)):
        image.save(folder / f"{number}.png")
        rows.append(f"{number}.png,{['cat', 'dog'][number % 2]}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    found = loaded_from(folder)
    assert found.class_names == ["cat", "dog"]
    assert len(found.train) == 6


def test_chosen_files_of_a_dataset(tmp_path, monkeypatch):
    def found(path=None, **chosen):
        data = DataRecipe(source="datasets", path=path, validation_fraction=0.25, **chosen)
        return load_classes(data, SOURCES)

    monkeypatch.chdir(tmp_path)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    for name in ("a", "b", "c"):
        stored = datasets.Dataset.from_dict({"image": images(8), "label": ["cat", "dog"] * 4}, features=features)
        stored.to_parquet(tmp_path / "shards" / f"{name}.parquet")
    assert len(found(data_files="shards/*.parquet").train) == 18
    assert len(found(data_files=["shards/a.parquet", "shards/b.parquet"]).train) == 12
    assert len(found("shards", data_files={"train": "a.parquet", "test": ["b.parquet", "c.parquet"]}).test) == 16
    for name in ("cat", "dog"):
        (tmp_path / "photos" / "new" / name).mkdir(parents=True)
        for number, image in enumerate(images(4)):
            image.save(tmp_path / "photos" / "new" / name / f"{number}.png")
    assert found("imagefolder", data_dir="photos/new").class_names == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"data\.data_files photos/new/cat/\*\.png: a file of a dataset ends in"):
        found(data_files="photos/new/cat/*.png")
    with pytest.raises(FileNotFoundError, match=r"no file matches nothing/\*\.parquet"):
        found(data_files="nothing/*.parquet")


def test_webdataset_files(tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for number, image in enumerate(images(8)):
            picture = io.BytesIO()
            image.save(picture, "png")
            for ending, content in (("png", picture.getvalue()), ("cls", b"%d" % (number % 2))):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    recipe = DataRecipe(source="datasets", data_files=str(tmp_path / "*.tar"), validation_fraction=0.25)
    found = load_classes(recipe, SOURCES)
    assert found.class_names == ["0", "1"]
    assert len(found.train) == 6
    recipe.columns["label"] = "name"
    with pytest.raises(ValueError, match=r"data\.data_files has no column name, only png, cls"):
        load_classes(recipe, SOURCES)


def test_a_dataset_that_cannot_be_read_names_the_cause(tmp_path):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(OSError, match=r"broken\.parquet cannot be loaded: ArrowInvalid: .*[Pp]arquet"):
        loaded_from(broken)
    (tmp_path / "table.xls").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a file of a dataset ends in \.parquet, \.arrow, \.tar"):
        loaded_from(tmp_path / "table.xls")


def test_files_left_out_are_counted_by_ending(tmp_path, caplog):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number, image in enumerate(images(4)):
            image.save(tmp_path / name / f"{number}.png")
        (tmp_path / name / "photo.raw").touch()
    (tmp_path / "cat" / "notes.txt").touch()
    load_classes(DataRecipe(source="folder", path=str(tmp_path), validation_fraction=0.25), SOURCES)
    assert "3 files are left out, since images end in .jpg" in caplog.text
    assert caplog.text.rstrip().endswith("2 .raw, 1 .txt")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number, image in enumerate(images(4)):
            image.save(tmp_path / name / f"{number}.avif")
    found = load_classes(DataRecipe(source="folder", path=str(tmp_path), validation_fraction=0.25), SOURCES)
    assert len(found.train) == 6
