"""The video processor: sampled frames, arithmetic, accepted and refused inputs, and scores over views."""

import ast
import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoVideoProcessor

from benchmarks.memory import forget_peak, peak
from hf_vits import MvitConfig, MvitForVideoClassification, VitsVideoProcessor
from hf_vits.conversion import processor, variants
from hf_vits.hub import push_to_hub
from hf_vits.processing.views import score_views
from hf_vits.testing.hub import LoopbackHub

from ..support.hub import run_without_hf_vits
from ..support.video import encode, numbered, numbers_in

KNOWN = {"fps": 30.0, "total_num_frames": 100}
PLAIN = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}


def random_frames(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def pixel_values(video, **fields) -> torch.Tensor:
    return VitsVideoProcessor(**fields)(video, return_tensors="pt")["pixel_values"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("videos") / "clip.mp4", numbered(range(100)))


# Which frames


def shown(values: torch.Tensor) -> list[list[int]]:
    return [numbers_in(view.permute(0, 2, 3, 1)) for view in values]


def test_a_file_gives_its_central_clip(clip):
    """The clip spans 64 of 100 frames, from frame 18 on."""
    expected = [18, 22, 26, 30, 34, 39, 43, 47, 51, 55, 60, 64, 68, 72, 76, 81]
    assert shown(pixel_values(clip, **PLAIN)) == [expected]
    batch = VitsVideoProcessor(**PLAIN)(str(clip), return_metadata=True)
    assert batch["video_metadata"][0].frames_indices == expected
    assert batch["video_metadata"][0].fps == 30


@pytest.mark.parametrize("form", [list, np.stack, lambda frames: torch.from_numpy(np.stack(frames)).movedim(-1, 1)])
def test_frames_in_memory_with_their_rate_are_sampled_like_a_file(clip, form):
    frames = form(list(numbered(range(100))))
    expected = pixel_values(clip, num_clips=2, **PLAIN)
    found = VitsVideoProcessor(num_clips=2, **PLAIN)(frames, video_metadata=KNOWN, return_tensors="pt")
    assert shown(found["pixel_values"]) == shown(expected)


def test_frames_in_memory_without_a_rate_are_spread_evenly():
    assert shown(pixel_values(numbered(range(16)), **PLAIN)) == [list(range(16))]
    assert shown(pixel_values(numbered(range(40)), num_frames=4, **PLAIN)) == [[0, 10, 20, 30]]
    with pytest.raises(ValueError, match="exceeds total_num_frames=8"):
        pixel_values(numbered(range(8)), **PLAIN)
    assert shown(pixel_values(numbered(range(8)), do_sample_frames=False, **PLAIN)) == [list(range(8))]
    with pytest.raises(ValueError, match="num_clips=2 needs the video's own fps"):
        pixel_values(numbered(range(40)), num_clips=2, **PLAIN)


def test_frames_per_second_in_place_of_a_number(clip):
    make = VitsVideoProcessor(**PLAIN)
    found = make(clip, fps=6, return_tensors="pt")["pixel_values"]
    assert shown(found) == [list(range(0, 100, 5))]
    with pytest.raises(ValueError, match="either num_frames or fps"):
        make(clip, fps=6, num_frames=8)


def test_a_short_video_repeats_its_last_frame_or_starts_over(tmp_path):
    path = encode(tmp_path / "short.mp4", numbered(range(5)))
    fields = {"num_frames": 8, "sampling_rate": 2, **PLAIN}
    assert shown(pixel_values(path, **fields)) == [[0, 2, 4, 4, 4, 4, 4, 4]]
    assert shown(pixel_values(path, convention="scenic", **fields)) == [[0, 2, 4, 1, 3, 0, 2, 4]]
    assert shown(pixel_values(path, convention="slowfast_segments", **fields)) == [[0, 0, 1, 2, 2, 2, 3, 4]]


# Arithmetic


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (37, 90), (32, 32), (24, 24)])
def test_slowfast_normalises_resizes_and_crops(size):
    """Equal bit for bit to spatial_sampling of slowfast/datasets/utils.py."""
    frames = random_frames(4, *size)
    height, width = size
    clip = ((torch.from_numpy(frames).float() / 255.0 - torch.tensor([0.45] * 3)) / torch.tensor([0.225] * 3)).permute(
        3, 0, 1, 2
    )
    short = 32
    target = (short, int(width / height * short)) if height <= width else (int(height / width * short), short)
    clip = functional.interpolate(clip, target, mode="bilinear", align_corners=False) if target != size else clip
    tops, lefts = [int(np.ceil((target[0] - 20) / 2))] * 3, [int(np.ceil((target[1] - 20) / 2))] * 3
    along = tops if target[0] > target[1] else lefts
    along[0], along[2] = 0, max(target) - 20
    expected = torch.stack([clip[..., y : y + 20, x : x + 20] for y, x in zip(tops, lefts, strict=True)])
    fields = {"num_frames": 4, "size": {"shortest_edge": short}, "crop_size": 20}
    found = pixel_values(frames, num_crops=3, **fields)
    assert torch.equal(found, expected.transpose(1, 2))
    assert torch.equal(pixel_values(frames, **fields), found[1:2])


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (37, 90), (40, 35)])
def test_scenic_resizes_to_whole_levels_crops_and_normalises(size):
    """As in dmvr/processors.py: the margin of a single crop is rounded down, of the middle one of three crops up."""
    frames = random_frames(2, *size)
    target = [max(32, 32 * side // min(size)) for side in size]
    positions = [(np.arange(new) + 0.5) * (old / new) - 0.5 for old, new in zip(size, target, strict=True)]
    levels = frames.astype(np.float64)
    for axis, (position, old) in enumerate(zip(positions, size, strict=True), start=1):
        below = np.floor(position).astype(int)
        first, second = (levels.take((below + step).clip(0, old - 1), axis) for step in (0, 1))
        levels = first + (second - first) * (position - below).reshape(-1, *[1] * (3 - axis))
    expected = torch.from_numpy(levels).movedim(-1, 1)
    fields = {"convention": "scenic", "num_frames": 2, "image_mean": 0.5, "image_std": 0.5}
    fields |= {"size": {"shortest_edge": 32}, "crop_size": 21}
    found = pixel_values(frames, num_crops=3, **fields)
    for name, values, round_up in (("one", pixel_values(frames, **fields), 0), ("three", found[1:2], 1)):
        top, left = ((side - 21 + round_up) // 2 for side in target)
        whole = (values[0] + 1) * 127.5
        crop = expected[..., top : top + 21, left : left + 21]
        assert torch.allclose(whole, whole.round(), atol=1e-4), name
        assert (crop - whole).min() > -1e-3, name
        assert (crop - whole).max() < 1 + 1e-3, name
    assert torch.equal(found.unique(), found.unique().clamp(-1, 1))


def test_three_crops_are_of_every_clip():
    frames = numbered(range(100), 48, 96)
    make = VitsVideoProcessor(num_clips=2, num_crops=3, size={"shortest_edge": 48}, crop_size=48)
    values = make(frames, video_metadata=KNOWN, return_tensors="pt")["pixel_values"]
    assert values.shape == (6, 16, 3, 48, 48)
    whole = make(frames, video_metadata=KNOWN, do_center_crop=False, return_tensors="pt")["pixel_values"]
    for clip, (left, middle, right) in zip(whole, values.unflatten(0, (2, 3)), strict=True):
        assert torch.equal(torch.cat([left, right], dim=-1), clip)
        assert torch.equal(middle, clip[..., 24:72])


def test_float_frames_are_taken_as_they_are():
    frames = random_frames(4, 24, 24)
    fields = {"num_frames": 4, "size": {"shortest_edge": 24}, "crop_size": 24}
    whole = pixel_values(frames, **fields)
    assert torch.equal(pixel_values(frames.astype(np.float32), **fields), whole)
    torch.testing.assert_close(pixel_values(frames / 255, do_rescale=False, **fields), whole)
    with pytest.raises(ValueError, match="look rescaled already"):
        pixel_values(frames / 255, **fields)


# What it takes


def test_all_forms_of_frames_are_the_same():
    frames = random_frames(4, 24, 30)
    fields = {"num_frames": 4, "size": {"shortest_edge": 24}, "crop_size": 24}
    expected = pixel_values(frames, **fields)
    alpha = np.concatenate([frames, random_frames(4, 24, 30, seed=1)[..., :1]], axis=-1)
    forms = (
        [Image.fromarray(frame) for frame in frames],
        list(frames),
        torch.from_numpy(frames).movedim(-1, 1),
        frames[None],
        alpha,
        [Image.fromarray(frame) for frame in alpha],
    )
    for form in forms:
        assert torch.equal(pixel_values(form, **fields), expected)
    both = pixel_values([frames, list(frames)], **fields)
    assert torch.equal(both, expected.repeat(2, 1, 1, 1, 1))


def test_grey_frames_become_three_equal_channels(tmp_path):
    grey = numbered(range(4))[..., :1]
    fields = {"num_frames": 4, **PLAIN}
    for form in (grey, list(grey[..., 0]), [Image.fromarray(frame[..., 0]) for frame in grey]):
        values = pixel_values(form, **fields)
        assert values.shape == (1, 4, 3, 48, 96)
        assert shown(values) == [[0, 1, 2, 3]]
    path = encode(tmp_path / "grey.mkv", grey[..., 0], codec="ffv1", pixel_format="gray", b_frames=0)
    assert shown(pixel_values(path, sampling_rate=1, **fields)) == [[0, 1, 2, 3]]


def test_a_batch_of_files_of_different_sizes(tmp_path, clip):
    other = encode(tmp_path / "other.mp4", numbered(range(70), 60, 72), fps=25)
    values = VitsVideoProcessor()([str(clip), other], return_tensors="pt")["pixel_values"]
    assert values.shape == (2, 16, 3, 224, 224)
    assert torch.equal(values[:1], pixel_values(clip))
    assert torch.equal(values[1:], pixel_values(other.read_bytes()))


def test_of_a_batch_one_clip_is_in_memory(tmp_path):
    """There are twelve clips of 17 MB each. They are read twice, since the first time permanent buffers are allocated.

    The other memory of the process differs by the size of some clips, depending on the tests before.
    """
    frames = numbered(range(16), 480, 720)
    paths = [encode(tmp_path / f"{index}.mp4", frames, options={"preset": "ultrafast"}) for index in range(12)]
    make = VitsVideoProcessor(size={"shortest_edge": 32}, crop_size=32)
    for _ in range(2):
        forget_peak()
        before = peak()
        assert make(paths, return_tensors="pt")["pixel_values"].shape == (12, 16, 3, 32, 32)
    assert peak() - before < 5 * frames.nbytes


def test_a_video_on_the_web_is_fetched(clip):
    handler = partial(SimpleHTTPRequestHandler, directory=clip.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert torch.equal(pixel_values(f"{address}/{clip.name}"), pixel_values(clip))
        with pytest.raises(OSError, match=r"gone\.mp4 cannot be downloaded: .*404"):
            pixel_values(f"{address}/gone.mp4")
        server.shutdown()
    with pytest.raises(OSError, match="cannot be downloaded"):
        pixel_values(f"{address}/{clip.name}")


def test_a_decoder_of_torchcodec_is_read_by_its_own_methods():
    """It has `metadata` and `get_frames_at`, which returns (frames, channels, height, width)."""
    frames = torch.from_numpy(numbered(range(100))).movedim(-1, 1)
    metadata = SimpleNamespace(num_frames=100, average_fps=30.0, height=48, width=96, duration_seconds=100 / 30)
    decoder = SimpleNamespace(metadata=metadata, get_frames_at=lambda indices: SimpleNamespace(data=frames[indices]))
    values = VitsVideoProcessor(**PLAIN)(decoder, return_tensors="pt")["pixel_values"]
    assert shown(values)[0][:3] == [18, 22, 26]


def test_what_is_no_video_is_refused(tmp_path, clip):
    make = VitsVideoProcessor()
    for bad, error, match in (
        (3, TypeError, "got int"),
        ([], ValueError, "empty list"),
        ([[]], ValueError, "empty list"),
        (np.zeros((0, 8, 8, 3), dtype=np.uint8), ValueError, "at least one frame"),
        (np.zeros((2, 2, 2, 2, 2, 2)), TypeError, "of shape"),
        (str(tmp_path / "gone.mp4"), FileNotFoundError, "gone.mp4"),
        ([random_frames(1, 8, 8)[0], random_frames(1, 8, 9)[0]], ValueError, "frames of one size"),
    ):
        with pytest.raises(error, match=match):
            make(bad, do_sample_frames=False)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(OSError, match=r"bad\.mp4") as caught:
        make([clip, tmp_path / "bad.mp4"])
    assert caught.value.__notes__ == ["(video 1 of the batch)"]
    with pytest.raises(ValueError, match="total_num_frames=100, but 4 frames"):
        make(random_frames(4, 24, 24), video_metadata=KNOWN)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"convention": "torchvision"}, "convention must be one of slowfast"),
        ({"sampling_rate": 0}, "sampling_rate must be above 0"),
        ({"num_clips": 0}, "num_clips must be above 0"),
        ({"num_crops": 2}, "num_crops must be 1 or 3"),
        ({"resample": 3}, "resample must be 2"),
        ({"size": {"longest_edge": 9}}, "size must be"),
        ({"rescale_factor": -1.0}, "rescale_factor must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, match):
    with pytest.raises(ValueError, match=match):
        VitsVideoProcessor(**fields)
    with pytest.raises(ValueError, match=match):
        VitsVideoProcessor()(random_frames(16, 24, 24), **fields)


def test_a_crop_larger_than_the_frame_is_refused():
    with pytest.raises(ValueError, match="larger than frames of 20 x 20"):
        pixel_values(random_frames(16, 24, 24), size={"shortest_edge": 20}, crop_size=24)


# Conversion


@pytest.mark.parametrize("variant", [name for name, fields in variants("mvit").items() if "num_frames" in fields])
def test_each_mvit_of_clips_has_the_processor_of_its_original(variant):
    fields = variants("mvit")[variant]
    model = SimpleNamespace(config=MvitConfig(**fields))
    made = processor("mvit", variant, model)
    large, segments = "40x3" in variant, "ssv2" in variant
    frames, rate = {"16x4": (16, 4), "32x3": (32, 3), "40x3": (40, 3)}[variant.split("_")[2]]
    side = 312 if large else 224
    assert (made.num_frames, made.sampling_rate) == (frames, rate)
    assert made.convention == ("slowfast_segments" if segments else "slowfast")
    assert dict(made.crop_size) == {"height": side, "width": side}
    assert dict(made.size) == {"shortest_edge": side if large or segments else 256}
    assert made.image_mean[0] == (0.485 if large else 0.45)


def test_a_saved_processor_is_found_by_its_model(tmp_path):
    VitsVideoProcessor(num_frames=8, convention="scenic").save_pretrained(tmp_path)
    found = AutoVideoProcessor.from_pretrained(tmp_path)
    assert isinstance(found, VitsVideoProcessor)
    assert (found.num_frames, found.convention) == (8, "scenic")
    settings = json.loads((tmp_path / "video_preprocessor_config.json").read_text())
    assert settings["video_processor_type"] == "VitsVideoProcessor"


# Views


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    config = MvitConfig(
        depths=[1, 1],
        hidden_sizes=[8, 16],
        num_attention_heads=[1, 2],
        image_size=32,
        num_frames=4,
        patch_size=[3, 7, 7],
        patch_stride=[2, 4, 4],
        pooling_kernel_size=[3, 3, 3],
        use_class_token=True,
        num_labels=5,
    )
    model = MvitForVideoClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


@torch.no_grad()
@pytest.mark.parametrize(("convention", "softmax"), [("slowfast", True), ("scenic", False)])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_scores_are_the_mean_over_views(clip, classifier, convention, softmax, batch_size):
    make = VitsVideoProcessor(convention=convention, num_frames=4, size={"shortest_edge": 32}, crop_size=32)
    logits = classifier(**make(clip, num_clips=5, num_crops=3, return_tensors="pt")).logits
    assert logits.shape == (15, 5)
    expected = (logits.softmax(-1) if softmax else logits).mean(0)
    found = score_views(classifier, make, clip, num_clips=5, num_crops=3, batch_size=batch_size)
    torch.testing.assert_close(found, expected)
    other = score_views(
        classifier, make, clip, num_clips=5, num_crops=3, average="logits" if softmax else "probabilities"
    )
    torch.testing.assert_close(other, (logits if softmax else logits.softmax(-1)).mean(0))


def test_scores_refuse_what_they_do_not_know(clip, classifier):
    make = VitsVideoProcessor()
    for bad, match in (({"average": "median"}, "average must be"), ({"batch_size": 0}, "batch_size must be")):
        with pytest.raises(ValueError, match=match):
            score_views(classifier, make, clip, **bad)
    with pytest.raises(ValueError, match="expected one video, got 2"):
        score_views(classifier, make, [clip, clip])


# Without hf_vits

CLASSIFY = """
from transformers import AutoVideoProcessor, pipeline

processor = AutoVideoProcessor.from_pretrained("user/clips", trust_remote_code=True)
assert type(processor).__module__.startswith("transformers_modules.")
classify = pipeline("video-classification", model="user/clips", trust_remote_code=True)
found = classify("clip.mp4", top_k=5)
print({item["label"]: item["score"] for item in found})
assert "hf_vits" not in sys.modules
"""


def test_a_repository_brings_the_processor_along(tmp_path, clip, classifier):
    make = VitsVideoProcessor(num_frames=4, size={"shortest_edge": 32}, crop_size=32)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        push_to_hub(classifier, "user/clips", make, token=hub.token)
        found = ast.literal_eval(run_without_hf_vits(CLASSIFY, hub, tmp_path).splitlines()[-1])
    with torch.no_grad():
        expected = classifier(**make(clip, return_tensors="pt")).logits[0].softmax(-1)
    for index, label in classifier.config.id2label.items():
        assert found[label] == pytest.approx(expected[index].item(), rel=1e-4)


@pytest.mark.parametrize("shape", [(2, 2, 3000, 3), (2, 3000, 2, 3)])
@pytest.mark.parametrize("convention", ["slowfast", "scenic"])
def test_frames_of_extreme_shape_are_refused_early(shape, convention):
    """Resizing their shorter side would take gigabytes for each frame."""
    with pytest.raises(ValueError, match=r"would make it \d+ x \d+, more than 8388608 pixels; crop it first"):
        pixel_values(np.zeros(shape, np.uint8), num_frames=2, convention=convention)


def test_an_empty_batch_and_no_frames_are_refused():
    with pytest.raises(ValueError, match="expected at least one video, got an empty batch"):
        pixel_values(np.zeros((0, 2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="num_frames must be above 0, got -1"):
        pixel_values(np.zeros((2, 8, 8, 3), np.uint8), num_frames=-1)


@pytest.mark.parametrize("video", ["some text", [1, 2, 3], [["a"]], np.array(["a", "b"]), {"pixels": 1}])
def test_text_and_numbers_are_no_videos(video):
    with pytest.raises((TypeError, OSError), match=r"expected the path, URL or contents of a video|no video file at"):
        pixel_values(video)
