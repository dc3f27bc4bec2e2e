"""Video recipes: sources of videos, clips and their augmentation, whole runs, predictions over time."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2 as transforms
from transformers import (
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    VivitConfig,
    VivitForVideoClassification,
    VivitImageProcessor,
)

from hf_vits.cli import main
from hf_vits.data.splits import load_classes, readable, without_unreadable
from hf_vits.data.synthetic.moving_digits import DIRECTIONS, moving_digits, write_video
from hf_vits.data.videos import SOURCES
from hf_vits.figures.videos import contact_sheet, to_pictures
from hf_vits.processing.decoding import read_frames
from hf_vits.processing.video import VitsVideoProcessor
from hf_vits.processing.views import average_views
from hf_vits.recipe import AugmentationRecipe, DataRecipe, RandAugmentRecipe
from hf_vits.training import train
from hf_vits.training.examples.batches import GlobalBatches
from hf_vits.training.examples.clips import EvaluationClips, TrainingClips
from hf_vits.training.examples.image_augmentation import training_transform
from hf_vits.training.examples.images import TrainingCollator

from ..support.training import losses

SIZE = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
PROCESSOR = VitsVideoProcessor(num_frames=4, sampling_rate=2, **SIZE)
TINY_MVIT = {
    "system": "mvit",
    "variant": "mvitv2_s_16x4_k400",
    "config": {
        "image_size": 32,
        "num_frames": 4,
        "depths": [1, 1],
        "hidden_sizes": [16, 32],
        "num_attention_heads": [1, 2],
        "key_value_stride": 2,
    },
    "processor": {"num_frames": 4, "sampling_rate": 2, **SIZE},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Where 60 videos of moving digits are listed."""
    return moving_digits(tmp_path_factory.mktemp("videos"), count=60)


def rows_of(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def load(source, path, **settings):
    return load_classes(DataRecipe(source=source, path=str(path), **settings), SOURCES)


def recipe_of(table, directory, **sections):
    return {
        "task": "video-classification",
        "model": TINY_MVIT,
        "data": {"source": "csv", "path": str(table), "columns": {"label": "direction"}, "test_fraction": 0.3},
        "augmentation": {
            "crop_scale": [0.7, 1.0],
            "randaugment": {"ops": 1},
            "erasing": 0.2,
            "mixup": 0.4,
            "repeats": 2,
        },
        "optimizer": {"learning_rate": 0.002},
        "train": {"length": "6 steps", "batch_size": 8, "log_every": "1 step"},
        "output": {"directory": str(directory)},
    } | sections


# moving digits


def test_moving_digits_are_the_same_every_time_and_written_once(table, tmp_path):
    again = moving_digits(tmp_path, count=5)
    for row in rows_of(again):
        assert (again.parent / row["path"]).read_bytes() == (table.parent / row["path"]).read_bytes()
    assert rows_of(again) == rows_of(table)[:5]
    before = again.stat().st_mtime_ns
    assert moving_digits(tmp_path, count=5).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["seed0-first5"]  # nothing half-written beside it
    assert rows_of(moving_digits(tmp_path, seed=1, count=5)) != rows_of(again)


def test_digits_move_where_the_table_says(table):
    for row in rows_of(table)[:12]:
        first, later = read_frames(table.parent / row["path"], [0, 4])[..., 0].astype(float)
        down, right = DIRECTIONS[row["direction"]]
        moved = {pixels: np.roll(first, (down * pixels, right * pixels), axis=(0, 1)) for pixels in range(-12, 13)}
        nearest = min(moved, key=lambda pixels: np.abs(moved[pixels] - later).mean())
        assert nearest in (4, 8)


def test_no_single_frame_tells_the_direction(table):
    """Where a digit is has the same distribution whatever the direction: every start is as likely, on a torus."""
    centres = {name: [] for name in DIRECTIONS}
    for row in rows_of(table):
        pixels = read_frames(table.parent / row["path"], [10])[0, ..., 0].astype(float)
        angles = np.exp(2j * np.pi * np.arange(32) / 32)
        centres[row["direction"]].append([np.angle(pixels.sum(axis) @ angles) for axis in (0, 1)])
    assert {len(found) for found in centres.values()} <= set(range(8, 25))
    for found in centres.values():
        assert np.abs(np.exp(1j * np.array(found)).mean(axis=0)).max() < 0.75  # spread over the circle


# sources


@pytest.fixture
def folder(table, tmp_path):
    """Directories train and val with a directory per direction."""
    for number, row in enumerate(rows_of(table)):
        directory = tmp_path / "videos" / ("val" if number % 4 == 0 else "train") / row["direction"]
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(table.parent / row["path"], directory)
    return tmp_path / "videos"


def test_folders_and_tables_give_the_same_videos(table, folder):
    splits = load("folder", folder)
    assert splits.class_names == sorted(DIRECTIONS)
    assert (len(splits.train), len(splits.validation)) == (45, 15)
    listed = {row["path"]: row["direction"] for row in rows_of(table)}
    for split in (splits.train, splits.test):
        for index in range(len(split)):
            assert splits.class_names[split.labels[index]] == listed[split.inputs[index].name]
    whole = load("csv", table, columns={"label": "digit"}, test_fraction=0.2, validation_fraction=0.2)
    assert whole.class_names == [str(digit) for digit in range(10)]
    names = {
        str(split.inputs[i].name) for split in (whole.train, whole.validation, whole.test) for i in range(len(split))
    }
    assert names == set(listed)


def test_tables_by_split(table, tmp_path):
    rows = [{"video": str(table.parent / row["path"]), "label": row["direction"]} for row in rows_of(table)]
    for name, part in (("train", rows[:40]), ("val", rows[40:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    splits = load("jsonl", tmp_path)
    assert (len(splits.train), len(splits.test)) == (40, 20)
    with (tmp_path / "all.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["video", "label", "split"])
        writer.writeheader()
        writer.writerows(row | {"split": "train" if number < 40 else "test"} for number, row in enumerate(rows))
    (tmp_path / "all.csv").rename(tmp_path / "videos.csv")
    assert np.array_equal(load("csv", tmp_path / "videos.csv").test.labels, splits.test.labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,label\n", "has no rows"),
        ("video,label\na.mp4\n", "row 1: expected a value for each of video, label"),
        ("clip,label\na.mp4,x\n", "has no column video or path or file .*name it by data.columns.video"),
        ("video,label,split\na.mp4,x,dev\n", "has no training split"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, message):
    (tmp_path / "videos.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load("csv", tmp_path / "videos.csv")


def test_a_class_that_training_lacks_is_named(table, tmp_path):
    path = table.parent / "0000.mp4"
    (tmp_path / "videos.csv").write_text(f"video,label,split\n{path},x,train\n{path},y,train\n{path},z,test\n")
    with pytest.raises(ValueError, match="the test split has classes that training lacks: z"):
        load("csv", tmp_path / "videos.csv")


def test_datasets_hand_out_files_undecoded(table, tmp_path):
    rows = rows_of(table)
    features = datasets.Features({"clip": datasets.Video(), "label": datasets.ClassLabel(names=sorted(DIRECTIONS))})
    for name, part in (("train", rows[:30]), ("test", rows[30:40])):
        contents = [{"path": None, "bytes": (table.parent / row["path"]).read_bytes()} for row in part]
        columns = {"clip": contents, "label": [row["direction"] for row in part]}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / f"{name}-0.parquet")
    splits = load("datasets", tmp_path, validation_fraction=0.0)
    assert (len(splits.train), len(splits.test)) == (30, 10)
    item = EvaluationClips(splits.test, PROCESSOR)[3]
    expected = PROCESSOR(table.parent / rows[33]["path"], return_tensors="pt")["pixel_values"]
    assert torch.equal(item["pixel_values"], expected)
    assert splits.class_names[item["labels"]] == rows[33]["direction"]


def spoil(folder):
    """Three files in a folder of videos that hold none."""
    whole = next((folder / "train" / "left").iterdir())
    (folder / "train" / "left" / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "train" / "up" / "text.mp4").write_text("no video")
    (folder / "val" / "up" / "empty.mp4").touch()


def test_unreadable_videos_are_named_and_left_out_only_if_asked(folder):
    spoil(folder)
    recipe = DataRecipe(source="folder", path=str(folder))
    loaded = load_classes(recipe, SOURCES)
    with pytest.raises(OSError, match=r"2 video file\(s\) cannot be read(.|\n)*half.mp4(.|\n)*text.mp4"):
        without_unreadable(loaded.train, recipe)
    skipping = replace(recipe, skip_unreadable=True)
    assert len(without_unreadable(loaded.train, skipping)) == 45
    assert len(readable(loaded, skipping).validation) == 15


# clips


def still_clip(frames=5):
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 48), dtype=np.uint8))
    return picture.expand(frames, -1, -1, -1)


@pytest.mark.parametrize(
    "recipe",
    [
        {"crop_scale": [0.1, 1.0]},
        {"crop_scale": [0.1, 1.0], "interpolation": "random"},
        {"crop_padding": 4},
        {"short_side": [36, 60]},
        {"flip": 0.5},
        {"randaugment": RandAugmentRecipe(ops=2, magnitude=9.0, std=0.5)},
        {"color_jitter": 0.8},
        {"grey": 0.5},
        {"three_augment": True},
        {"erasing": 1.0},
    ],
    ids=lambda recipe: "+".join(recipe),
)
def test_augmentation_is_the_same_for_all_frames(recipe):
    """A clip that stands still still stands still, and the draws change it."""
    transform = training_transform(AugmentationRecipe(**recipe), PROCESSOR, (32, 32))
    plain = training_transform(AugmentationRecipe(), PROCESSOR, (32, 32))(still_clip())
    changed = 0
    for seed in range(12):
        torch.manual_seed(seed)
        clip = transform(still_clip())
        assert clip.shape == (5, 3, 32, 32)
        assert torch.equal(clip, clip[:1].expand_as(clip))
        changed += not torch.equal(clip, plain)
    assert changed > 2


def test_repeats_show_one_clip_differently_and_are_functions_of_the_draw(table):
    split = load("csv", table, columns={"label": "direction"}).train
    clips = TrainingClips(
        split, training_transform(AugmentationRecipe(flip=0.5, color_jitter=0.4), PROCESSOR, (32, 32)), PROCESSOR
    )
    unchanged = TrainingClips(split, transforms.Identity(), PROCESSOR)
    (draws, *_) = GlobalBatches(len(split), 16, seed=0, repeats=2)
    assert draws[0].index == draws[8].index
    whole, raw = clips.__getitems__(draws), unchanged.__getitems__(draws)
    assert torch.equal(raw[0]["pixel_values"], raw[8]["pixel_values"])
    assert not torch.equal(whole[0]["pixel_values"], whole[8]["pixel_values"])
    torch.manual_seed(5)
    assert all(
        torch.equal(clips[draw]["pixel_values"], item["pixel_values"]) for draw, item in zip(draws, whole, strict=True)
    )
    later = GlobalBatches(len(split), 16, seed=0, repeats=2)
    later.set_epoch(1)
    starts = {(draw.index, draw.shared_seed) for batch in (draws, *later) for draw in batch}
    assert len(starts) > len({index for index, _ in starts})  # another epoch, another clip


@pytest.mark.parametrize("recipe", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_clips_are_mixed_whole(recipe):
    items = [{"pixel_values": torch.full((3, 3, 16, 16), float(i)), "labels": i, "mix_seed": 7} for i in range(4)]
    batch = TrainingCollator(AugmentationRecipe(**recipe), num_classes=4)(items)
    clips, labels = batch["pixel_values"], batch["labels"]
    assert type(clips) is torch.Tensor
    assert torch.equal(clips, clips[:, :1].expand_as(clips))  # every frame alike
    # Each but the first, which is dropped, is mixed with the one before it; grey level and class are one number.
    torch.testing.assert_close(labels @ torch.arange(4.0), clips.mean(dim=(1, 2, 3, 4)))
    torch.testing.assert_close(labels.sum(1), torch.ones(3))


def test_views_are_averaged_as_probabilities_or_as_logits():
    logits = [torch.randn(3, 5) for _ in range(4)]
    expected = torch.stack([view.softmax(-1) for view in logits]).mean(0)
    torch.testing.assert_close(average_views(logits, "probabilities").exp(), expected)
    torch.testing.assert_close(average_views(logits, "logits"), torch.stack(logits).mean(0))


def test_pictures_show_what_the_model_gets(table):
    path = table.parent / "0003.mp4"
    (clip,) = PROCESSOR.views(path)
    frames = to_pictures(clip, PROCESSOR)
    indices = PROCESSOR(path, return_tensors="pt", return_metadata=True)["video_metadata"][0].frames_indices
    assert np.array_equal(frames, read_frames(path, indices))
    sheet = contact_sheet(frames, columns=3)
    assert sheet.size == (3 * 32 + 2, 2 * 32 + 1)
    assert np.array_equal(np.asarray(sheet)[33:, :32], frames[3])


# whole runs


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    recipe = recipe_of(table, directory, video={"clips": 2, "crops": 3})
    return directory, recipe, train(recipe)


def test_a_run_saves_a_model_with_the_accuracy_that_it_reports(run):
    directory, recipe, results = run
    assert results["test_videos"] == 18
    model = AutoModelForVideoClassification.from_pretrained(directory).eval()
    processor = AutoVideoProcessor.from_pretrained(directory)
    assert (processor.num_frames, processor.num_clips) == (4, 1)
    assert model.config.label2id == {name: index for index, name in enumerate(sorted(DIRECTIONS))}
    test = load_classes(DataRecipe(**recipe["data"]), SOURCES).test
    right = 0
    for index in range(len(test)):
        views = processor(test.inputs[index], num_clips=2, num_crops=3, return_tensors="pt")["pixel_values"]
        assert views.shape == (6, 4, 3, 32, 32)
        with torch.no_grad():
            right += int(model(pixel_values=views).logits.softmax(-1).mean(0).argmax()) == test.labels[index]
    assert right / len(test) == pytest.approx(results["test"]["accuracy"])
    card = (directory / "README.md").read_text()
    assert "pipeline_tag: video-classification" in card
    for name in ("curves", "confusion_matrix", "predictions"):
        with Image.open(directory / f"{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 10, name


def test_workers_and_accumulation_do_not_change_the_curve(run, table, tmp_path):
    _, recipe, _ = run
    short = recipe["train"] | {"length": "2 steps"}
    train(recipe | {"train": short | {"workers": 2, "accumulation": 2}, "output": {"directory": str(tmp_path)}})
    assert losses(tmp_path) == pytest.approx(losses(run[0])[:2], abs=1e-5)


def test_a_classifier_of_transformers_is_trained_with_a_processor_of_ours(table, tmp_path):
    config = VivitConfig(
        image_size=32,
        num_frames=4,
        tubelet_size=[2, 16, 16],
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    VivitForVideoClassification(config).save_pretrained(tmp_path / "vivit")
    recipe = recipe_of(table, tmp_path / "run", model={"pretrained": str(tmp_path / "vivit")})
    short = recipe | {"train": recipe["train"] | {"length": "1 step"}}
    VivitImageProcessor().save_pretrained(tmp_path / "vivit")
    with pytest.raises(ValueError, match="VivitVideoProcessor, which does not define the frames of a clip"):
        train(short)
    PROCESSOR.save_pretrained(tmp_path / "vivit")
    train(short)
    trained = AutoModelForVideoClassification.from_pretrained(tmp_path / "run")
    assert type(trained) is VivitForVideoClassification
    assert trained.config.num_labels == 4


def test_what_is_no_video_classifier_is_refused(table, tmp_path):
    images = {"system": "cct", "variant": "cct_2_3x2_32"}
    with pytest.raises(
        ValueError, match="is a CctForImageClassification; this task trains models that AutoModelForVideo"
    ):
        train(recipe_of(table, tmp_path, model=images))
    distilled = {"teacher": {"pretrained": "somewhere"}, "objective": {"distillation": "hard"}}
    with pytest.raises(ValueError, match="distillation is not available for videos"):
        train(recipe_of(table, tmp_path, **distilled))
    assert not list(tmp_path.iterdir())


def test_evaluate_repeats_the_test_of_a_run(run, tmp_path, folder, capsys):
    directory, recipe, results = run
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    assert main(["evaluate", str(directory), str(tmp_path / "recipe.yaml"), "--json", "--batch-size", "5"]) == 0
    repeated = json.loads(capsys.readouterr().out)
    assert repeated["videos"] == 18
    assert repeated["loss"] == pytest.approx(results["test"]["loss"], rel=1e-4)
    assert repeated["accuracy"] == pytest.approx(results["test"]["accuracy"])
    assert main(["evaluate", str(directory), str(folder / "val"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 15


# predictions


def predict(capsys, *arguments):
    code = main(["predict", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if code == 0 else captured.err


def test_a_long_video_is_classified_window_by_window(run, table, tmp_path, capsys):
    directory = run[0]
    rows = rows_of(table)
    frames = np.concatenate([read_frames(table.parent / row["path"], range(20)) for row in rows[:5]])
    write_video(tmp_path / "long.mp4", iter(frames), 30)
    code, result = predict(
        capsys, directory, tmp_path / "long.mp4", "--top-k", 2, "--figure", tmp_path / "f" / "long.png"
    )
    assert code == 0
    (row,) = result["predictions"]
    windows = row["windows"]
    # A clip of 4 frames, 2 apart, covers 8 of 100 frames.
    assert len(windows) == 24
    assert (windows[0]["start"], windows[-1]["end"]) == (0, pytest.approx(100 / 30))
    assert {round((one["end"] - one["start"]) * 30) for one in windows} == {8}
    model, processor = (
        AutoModelForVideoClassification.from_pretrained(directory).eval(),
        AutoVideoProcessor.from_pretrained(directory),
    )
    start = round(windows[5]["start"] * 30)
    write = read_frames(tmp_path / "long.mp4", range(start, start + 8, 2))
    inputs = processor(write, do_sample_frames=False, return_tensors="pt")
    with torch.no_grad():
        score = model(**inputs).logits.softmax(-1).max()
    assert windows[5]["score"] == pytest.approx(float(score), abs=0.05)
    assert len(row["predictions"]) == 2
    assert Image.open(tmp_path / "f" / "long.png").width > 1000
    assert main(["predict", str(directory), str(tmp_path / "long.mp4")]) == 0
    assert "from, s" in capsys.readouterr().out


def test_folders_of_videos_and_unreadable_ones(run, folder, capsys):
    spoil(folder)
    code, message = predict(capsys, run[0], folder)
    assert code == 2
    assert "3 of 63 video file(s) cannot be read" in message
    assert "half.mp4" in message
    code, result = predict(capsys, run[0], folder / "val", "--skip-unreadable")
    assert (len(result["predictions"]), len(result["unreadable"])) == (15, 1)


def test_a_recording_without_pictures_is_named(run, tmp_path, capsys):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    code, message = predict(capsys, run[0], path)
    assert code == 2
    assert "sound.mp4 holds no video, only audio" in message


def test_a_path_that_is_not_there(run, capsys):
    code, message = predict(capsys, run[0], Path("nowhere.mp4"))
    assert (code, "there is no file or folder nowhere.mp4" in message) == (2, True)
