"""Odd inputs of every model and every processor: refused by name, or the result is finite and of the right size."""

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata

from hf_vits.processing.audio import VitsSpectrogramFeatureExtractor, VitsWaveformFeatureExtractor
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.processing.speech import VitsCtcTokenizer, VitsSpeechProcessor
from hf_vits.processing.video import VitsVideoProcessor
from tests.conformance.table import IMAGE_PROCESSORS, VIDEO_PROCESSORS
from tests.support.batches import Kind, batch, kinds

from .configs import floats, short
from .harness import Case

SMALL, LARGE = 60, 2500
ALL = list(kinds())


def make(random: Random) -> Case:
    return random.choice((model_case, model_case, image_case, video_case, audio_case, text_case))(random)


# Models


@functools.cache
def model(position: int):
    """Return the model of a kind, small and in evaluation mode, and its configuration as it is built."""
    torch.manual_seed(0)
    kind = ALL[position]
    made = kind.model_class(kind.model_class.config_class(**copy.deepcopy(kind.fields))).eval()
    return made, made.config.problem_type


def of_tensor(random: Random) -> tuple[str, Callable[[torch.Tensor], Any]]:
    """Return a change of a tensor with a name."""
    return random.choice(
        (
            ("[0]", lambda x: x[0]),
            ("[None]", lambda x: x[None]),
            ("flat", lambda x: x.flatten()),
            ("scalar", lambda x: x.float().mean()),
            ("channels last", lambda x: x.movedim(1, -1)),
            ("one more", lambda x: torch.cat([x, x[:, :1]], dim=1)),
            ("one less", lambda x: x[:, 1:]),
            ("long", lambda x: (x * 255).long()),
            ("uint8", lambda x: (x * 255).to(torch.uint8)),
            ("bool", lambda x: x > 0.5),
            ("complex", lambda x: x.to(torch.complex64)),
            ("double", lambda x: x.double()),
            ("half", lambda x: x.half()),
            ("text", lambda x: "pixels"),
            ("bytes", lambda x: b"\0" * 12),
            ("list", lambda x: x.tolist()),
            ("list of tensors", list),
            ("numpy", lambda x: x.numpy()),
            ("None", lambda x: None),
            ("dict", lambda x: {"x": x}),
            ("image", lambda x: Image.new("RGB", (32, 32))),
            ("number", lambda x: 1),
            ("empty batch", lambda x: x[:0]),
            ("empty", lambda x: x[..., :0]),
            ("no channels", lambda x: x[:, :0]),
            ("nan", lambda x: torch.full_like(x, math.nan) if x.is_floating_point() else x * 0),
            ("inf", lambda x: torch.full_like(x, math.inf) if x.is_floating_point() else x - 1),
            ("huge", lambda x: x * 10**9),
            ("negative", lambda x: (x.float() if x.dtype is torch.bool else x) - 10),
            ("one column", lambda x: x[..., :1]),
            ("few", lambda x: x[..., :3]),
            ("pixel", lambda x: x[..., :1, :1]),
            ("strip", lambda x: torch.rand(*x.shape[:-2], 1, 3000)),
            ("column", lambda x: torch.rand(*x.shape[:-2], 3000, 1)),
            ("odd size", lambda x: torch.rand(*x.shape[:-2], x.shape[-2] + 1, x.shape[-1] + 3)),
            ("twice as large", lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2) if x.ndim > 2 else x),
            ("transposed", lambda x: x.transpose(-1, -2)),
            ("expanded", lambda x: x[:1].expand_as(x)),
            ("strided", lambda x: torch.stack([x, x], -1)[..., 0]),
            (
                "channels last in memory",
                lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x,
            ),
            ("requires grad", lambda x: x.clone().requires_grad_() if x.is_floating_point() else x),
            ("sample more", lambda x: torch.cat([x, x[:1]])),
        )
    )


# Values of optional arguments, as they are named by any of the models; not every model has each.
NAMES = ("labels", "attention_mask", "bool_masked_pos", "noise", "pixel_values", "input_values", "input_features")
NAMES += ("input_ids", "decoder_input_ids", "decoder_attention_mask", "pixel_mask", "head_mask", "local_pixel_values")
NAMES += ("corruption_mask", "rotation_labels", "unknown", "output_hidden_states", "mask_ratios", "return_loss")


def odd_argument(random: Random, name: str) -> tuple[str, Any]:
    number = random.choice
    return random.choice(
        (
            ("ones", torch.ones(2, 25)),
            ("longs", torch.ones(2, 25, dtype=torch.long)),
            ("bools", torch.zeros(2, 25, dtype=torch.bool)),
            ("vector", torch.ones(2)),
            ("classes", torch.tensor([0, 1])),
            ("beyond", torch.tensor([0, number((2, 3, 100, 2**40))])),
            ("below", torch.tensor([0, number((-1, -5, -(2**40)))])),
            ("ignored", torch.tensor([0, -100])),
            ("int32", torch.tensor([0, 1], dtype=torch.int32)),
            ("uint8", torch.tensor([0, 1], dtype=torch.uint8)),
            ("floats", torch.tensor([0.0, 1.0])),
            ("nan", torch.tensor([math.nan, 1.0])),
            ("column", torch.tensor([[0], [1]])),
            ("three", torch.tensor([0, 1, 0])),
            ("empty", torch.tensor([], dtype=torch.long)),
            ("scalar", torch.tensor(1)),
            ("one hot", torch.eye(2)),
            ("complex", torch.tensor([0j, 1j])),
            ("list", [0, 1]),
            ("numpy", np.array([0, 1])),
            ("text", "cat"),
            ("number", 1),
            ("pair", (0.1, 0.5)),
            ("True", True),
            ("wide", torch.rand(2, 3, 1, 3000)),
            ("images", torch.rand(2, 3, 30, 30)),
        )
    )


def model_case(random: Random) -> Case:
    position = random.randrange(len(ALL))
    kind, seed = ALL[position], random.getrandbits(31)
    # A change applies to what the batch has; what it has follows from the kind alone.
    own = list(batch(kind, model(position)[0].config))
    changes, values, titles = {}, {}, []
    if random.random() < 0.6:
        name = random.choice((own[0], own[0], own[0], *own))
        title, changes[name] = of_tensor(random)
        titles.append(f"{name} {title}")
    if not changes or random.random() < 0.2:
        name = random.choice(("labels", *NAMES, *own))
        title, values[name] = odd_argument(random, name)
        titles.append(f"{name}={title}")
    words = {*changes, *values, *own}
    # What is wrong with an image can be its size, and with two arguments that they do not fit together.
    if changes or set(values) & set(own):
        words |= {"an image of", "images of", "an image or", "a clip of", "a text of", "waveforms of", "channel"}
    title = f"{kind.name}({', '.join(titles)}) of {short(kind.fields)}"
    return Case(title, tuple(words), lambda folder: run_model(position, seed, changes, values))


def run_model(position: int, seed: int, changes: dict, values: dict) -> None:
    made, problem_type = model(position)
    made.config.problem_type = problem_type  # which transformers sets at the first call with labels
    torch.manual_seed(seed)
    inputs = batch(ALL[position], made.config)
    own = list(inputs)
    inputs |= {name: applied(change, inputs[name]) for name, change in changes.items()} | values
    output = made(**inputs)
    is_finite = all(torch.isfinite(x).all() for x in inputs.values() if isinstance(x, torch.Tensor))
    tensors = floats(output)
    assert tensors, "no output"
    if ALL[position].inputs:  # logits of views are in the order of the original
        return
    names = [name for name in ("logits", "last_hidden_state", "pooler_output") if output.get(name) is not None]
    main = inputs[own[0]]
    largest = max(x.float().abs().max() for x in inputs.values() if isinstance(x, torch.Tensor) and x.numel())
    for name in names:
        assert output[name].shape[0] == len(main), f"{name} of shape {tuple(output[name].shape)}"
        assert not is_finite or largest > 1e6 or output[name].isfinite().all(), f"{name} is not finite"


def applied(change: Callable, tensor: torch.Tensor) -> Any:
    """Return a changed tensor; unchanged where it has too few axes for the change."""
    try:
        return change(tensor)
    except IndexError:
        return tensor


# Images

MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F")
MODES += ("I;16", "I;16B", "I;16L")
SIZES = ((1, 1), (1, 3000), (3000, 1), (10, 10), (40, 30), (31, 33), (300, 200), (2, 500))
DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32")
DTYPES += ("float64", ">i2", ">f4", "complex64", "object", "U1", "datetime64[s]")


def odd_image(random: Random, folder: Path | None = None) -> tuple[str, Any]:
    """Return an image, or what is none, with a name."""
    kind = random.choice(("pil", "pil", "array", "array", "tensor", "other", "file"))
    if kind == "pil":
        mode, size = random.choice(MODES), random.choice(SIZES)
        return f"{mode} {size}", Image.new(mode, size)
    if kind in ("array", "tensor"):
        width, height = random.choice(SIZES)
        shapes = ((height, width), (height, width, 3), (3, height, width), (1, height, width), (height, width, 4))
        shapes += ((height, width, 2), (height, width, 5), (2, height, width, 3), (0, width, 3), (height, 0), (), (3,))
        shapes += ((1, 1, height, width, 3), (3, 3, 3), (1, 1, 1))
        shape, dtype = random.choice(shapes), random.choice((*DTYPES, "uint8", "uint8", "float32"))
        low, high = random.choice(((0, 255), (0, 1), (-1, 1), (0, 70000), (0, 0), (math.nan, math.nan)))
        with np.errstate(invalid="ignore"):
            array = np.linspace(low, high, math.prod(shape)).reshape(shape)
            array = array.astype(dtype) if dtype != "U1" else np.full(shape, "a")
        name = f"{kind} {shape} of {dtype} from {low} to {high}"
        if kind == "array" or dtype in (">i2", ">f4", "object", "U1", "datetime64[s]"):
            return name, array
        return name, torch.from_numpy(array)
    if kind == "file":
        names = (
            "good.png",
            "cut.png",
            "cut.jpg",
            "empty.png",
            "text.png",
            "missing.png",
            ".",
            "bomb.png",
            "alpha.webp",
        )
        name = random.choice(names)
        return name, ImageFile(name)
    others = (
        None,
        5,
        1.5,
        "",
        "no such file",
        "http://127.0.0.1:1/x.png",
        "data:image/png;base64,AAAA",
        b"bytes",
        {},
        [],
    )
    others += ([[]], [None], object(), "a\0b", Path("no such file"), {"image": 1}, iter([]), range(3), "é" * 5000)
    value = random.choice(others)
    return short(value).split(" at 0x")[0], value


class ImageFile:
    """Name of a file that a case writes into its folder before it opens it."""

    def __init__(self, name: str):
        self.name = name

    def write(self, folder: Path) -> str:
        path = folder / self.name
        image = Image.fromarray((np.arange(40 * 30 * 3) % 251).astype(np.uint8).reshape(40, 30, 3))
        if self.name == "empty.png":
            path.touch()
        elif self.name == "text.png":
            path.write_text("no image")
        elif self.name == "bomb.png":
            Image.new("1", (14000, 14000)).save(path)
        elif self.name not in ("missing.png", "."):
            image.save(path)
            if self.name.startswith("cut"):
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return str(path)


def written(value: Any, folder: Path) -> Any:
    if isinstance(value, ImageFile):
        return value.write(folder)
    return [written(item, folder) for item in value] if isinstance(value, list) else value


SETTINGS = (0, -1, 1, 2, 7, 1.5, 10**4, 10**6, 2**31, 0.0, 1e-30, math.nan, math.inf, "", "unknown", "1", None, True)
SETTINGS += (False, [], [1], [0, 0, 0], [0.5, 0.5], [math.nan] * 3, (1, 2, 3), {}, {"a": 1}, {"height": 1}, b"1", 1j)
IMAGE_SIZES = (
    {"height": 0, "width": 5},
    {"height": 5, "width": 9},
    {"height": 1, "width": 10**6},
    {"height": 10**6, "width": 10**6},
    {"height": "5", "width": 5},
    {"shortest_edge": 0},
    {"shortest_edge": 9},
    {"shortest_edge": 3000},
    {"shortest_edge": 2.5},
    {"longest_edge": 9},
    {"shortest_edge": 9, "longest_edge": 5},
    {"shortest_edge": None},
    {"max_height": 5, "max_width": 5},
    (5, 9),
    [5],
)
IMAGE_FIELDS = ("convention", "do_convert_rgb", "do_resize", "size", "size", "resample", "do_center_crop", "crop_size")
IMAGE_FIELDS += ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "do_pad", "pad_size")
CALL_FIELDS = ("input_data_format", "data_format", "return_tensors", "device", "disable_grouping", "unknown")
VIDEO_FIELDS = ("num_frames", "sampling_rate", "num_clips", "num_crops", "fps", "do_sample_frames", "return_metadata")


def odd_fields(random: Random, names: tuple[str, ...]) -> dict[str, Any]:
    fields = {}
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        name = random.choice(names)
        if name in ("size", "crop_size", "pad_size") and random.random() < 0.7:
            fields[name] = copy.deepcopy(random.choice(IMAGE_SIZES))
        elif name == "input_data_format" and random.random() < 0.7:
            fields[name] = random.choice(("channels_first", "channels_last", "none"))
        elif name == "return_tensors" and random.random() < 0.7:
            fields[name] = random.choice(("np", "pt", "tf", "jax", "mlx"))
        elif name == "device" and random.random() < 0.7:
            fields[name] = random.choice(("cpu", "unknown:3", "meta:0x"))
        else:
            fields[name] = copy.deepcopy(random.choice(SETTINGS))
    return fields


# Other names of a field, as transformers' messages have them.
MORE_WORDS = {
    "data_format": ("channel",),
    "input_data_format": ("channel",),
    "return_tensors": ("tensor", "framework"),
    "do_pad": ("pad_size",),
    "do_normalize": ("mean",),
    "do_rescale": ("rescal",),
    "do_resize": ("size",),
    "do_center_crop": ("crop",),
    "do_convert_rgb": ("channel", "rgb", "mode"),
    "device": ("device",),
    "size": ("pixels",),
    "do_sample_frames": ("frame",),
    "fps": ("frames",),
}


def words_of(*names: str) -> set[str]:
    return {*names, *(word for name in names for word in MORE_WORDS.get(name, ()))}


def image_case(random: Random) -> Case:
    convention = random.choice(sorted(IMAGE_PROCESSORS))
    fields, kwargs = odd_fields(random, IMAGE_FIELDS), odd_fields(random, IMAGE_FIELDS + CALL_FIELDS)
    if fields and random.random() < 0.7:
        kwargs = {}
    if random.random() < 0.5 and (fields or kwargs):
        title, images = "L (40, 30)", Image.new("RGB", (40, 30))
    else:
        title, images = odd_image(random)
    if random.random() < 0.3:
        images = [Image.new("RGB", (33, 35)), images]
        title = f"[RGB, {title}]"
    words = words_of(*fields, *kwargs) | {"image", "pixel", "channels", "http"}

    def run(folder: Path) -> None:
        processor = VitsImageProcessor(**IMAGE_PROCESSORS[convention] | fields)
        processor.save_pretrained(folder / "processor")
        loaded = VitsImageProcessor.from_pretrained(folder / "processor")
        assert loaded.to_dict() == processor.to_dict(), "loaded as another one"
        batch = loaded(written(images, folder), **{"return_tensors": "pt"} | kwargs)
        check_batch(batch["pixel_values"])

    return Case(f"{convention} image processor({show(fields)})({title}, {show(kwargs)})", tuple(words), run)


def show(fields: dict) -> str:
    return ", ".join(f"{name}={short(value)}" for name, value in fields.items())


def check_batch(values: Any) -> None:
    """Fail unless what a processor returns is one or more arrays of finite numbers, none of them empty."""
    assert len(values), "no result"
    for value in values:
        array = np.asarray(value)
        assert array.size, "an empty result"
        assert np.isfinite(array).all(), "not finite"


# Videos


def odd_video(random: Random) -> tuple[str, Any]:
    kind = random.choice(("frames", "frames", "array", "array", "file", "other"))
    if kind == "frames":
        length = random.choice((0, 1, 2, 5, 20))
        mode, size = random.choice(("RGB", "RGB", *MODES)), random.choice(SIZES)
        return f"{length} frames of {mode} {size}", [Image.new(mode, size) for _ in range(length)]
    if kind == "array":
        length, (width, height) = random.choice((0, 1, 2, 5, 20)), random.choice(SIZES)
        shapes = ((length, height, width, 3), (length, 3, height, width), (length, height, width, 5), (height, width))
        shapes += ((1, length, height, width, 3), (length,), (length, height, 0, 3), (1, 1, length, height, width, 3))
        shape, dtype = random.choice(shapes), random.choice((*DTYPES, "uint8", "uint8", "uint8", "float32"))
        array = np.full(shape, "a") if dtype == "U1" else np.zeros(shape, dtype=dtype)
        return f"array {shape} of {dtype}", array
    if kind == "file":
        name = random.choice(("empty.mp4", "text.mp4", "missing.mp4", "."))
        return name, VideoFile(name)
    others = (
        None,
        5,
        "",
        "no such file",
        "http://127.0.0.1:1/x.mp4",
        b"",
        b"bytes" * 100,
        {},
        [],
        [[]],
        [None],
        object(),
    )
    others += ("a\0b", Path("missing"), {"video": 1}, range(3), [[1, 2]], [b"", b""])
    value = random.choice(others)
    return short(value).split(" at 0x")[0], value


class VideoFile(ImageFile):
    def write(self, folder: Path) -> str:
        path = folder / self.name
        if self.name in ("empty.mp4", "text.mp4"):
            path.write_text("no video" * 50 * (self.name == "text.mp4"))
        return str(path)


METADATA = (
    {"fps": 30.0, "total_num_frames": 5},
    {"fps": 0, "total_num_frames": 5},
    {"fps": -1.0, "total_num_frames": 20},
    {"fps": math.nan, "total_num_frames": 5},
    {"fps": math.inf, "total_num_frames": 20},
    {"fps": "30", "total_num_frames": 5},
    {"fps": None, "total_num_frames": 5},
    {"total_num_frames": 10**9, "fps": 1e-30},
    {"fps": 1e30, "total_num_frames": 5},
    {"total_num_frames": None},
    {},
    "unknown",
    5,
    [None],
)


def video_case(random: Random) -> Case:
    convention = random.choice(sorted(VIDEO_PROCESSORS))
    tiny = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}, "num_frames": 2}
    names = IMAGE_FIELDS + VIDEO_FIELDS + VIDEO_FIELDS
    fields, kwargs = odd_fields(random, names), odd_fields(random, names + CALL_FIELDS)
    if fields and random.random() < 0.7:
        kwargs = {}
    if random.random() < 0.5 and (fields or kwargs):
        title, video = "5 frames", [Image.new("RGB", (40, 30))] * 5
    else:
        title, video = odd_video(random)
    if random.random() < 0.2:
        kwargs["video_metadata"] = copy.deepcopy(random.choice(METADATA))
        if isinstance(kwargs["video_metadata"], dict) and kwargs["video_metadata"] and random.random() < 0.5:
            kwargs["video_metadata"] = VideoMetadata(**kwargs["video_metadata"])
    words = words_of(*fields, *kwargs) | {"video", "frame", "pixel", "channels", "image", "http"}
    words |= {"fps"} if "video_metadata" in kwargs else set()

    def run(folder: Path) -> None:
        processor = VitsVideoProcessor(**VIDEO_PROCESSORS[convention] | tiny | fields)
        processor.save_pretrained(folder / "processor")
        loaded = VitsVideoProcessor.from_pretrained(folder / "processor")
        batch = loaded(written(video, folder), **{"return_tensors": "pt"} | kwargs)
        check_batch(batch["pixel_values"])

    return Case(f"{convention} video processor({show(fields)})({title}, {show(kwargs)})", tuple(words), run)


# Sound

RATES = (
    1,
    0,
    -1,
    8000,
    44100,
    16000.0,
    1.5,
    2**31,
    2**31 - 1,
    10**12,
    math.nan,
    math.inf,
    "16000",
    None,
    True,
    [16000],
)
LENGTHS = (0, 1, 2, 10, 399, 401, 1000, 20000)
AUDIO_FIELDS = ("sampling_rate", "padding", "max_length", "truncation", "pad_to_multiple_of", "return_attention_mask")
AUDIO_FIELDS += ("padding_value", "feature_size")
WAVE_FIELDS = ("pad_offset", "do_normalize")
SPECTROGRAM_FIELDS = ("pad_with_silence", "n_fft", "win_length", "hop_length", "window_function", "center", "power")
SPECTROGRAM_FIELDS += ("remove_dc_offset", "preemphasis", "waveform_scale", "mel_scale", "mel_norm", "min_frequency")
SPECTROGRAM_FIELDS += ("max_frequency", "floor", "do_log", "normalization", "normalize_variance", "mean", "std")
AUDIO_CALL = ("sampling_rate", "sampling_rate", "padding", "max_length", "truncation", "pad_to_multiple_of")
AUDIO_CALL += ("return_attention_mask", "return_tensors", "device")
CHOICES = {
    "padding": (False, True, "longest", "max_length", "do_not_pad", "left"),
    "window_function": ("hann", "hamming", "povey", "boxcar", "kaiser"),
    "mel_scale": ("slaney", "htk", "kaldi", None),
    "mel_norm": ("slaney", None),
    "normalization": ("global", "utterance", "min_max", None),
    "sampling_rate": RATES,
}


def odd_sound(random: Random) -> tuple[str, Any]:
    kind = random.choice(("array", "array", "array", "tensor", "list", "dict", "file", "other"))
    length = random.choice(LENGTHS)
    if kind in ("array", "tensor"):
        shapes = ((length,), (length,), (1, length), (2, length), (length, 2), (2, 2, length), (), (1, 1, 1, length))
        shape, dtype = random.choice(shapes), random.choice((*DTYPES, "float32", "float32", "float32"))
        value = random.choice((0, 0.1, 1, math.nan, math.inf, 1e30))
        with np.errstate(invalid="ignore", over="ignore"):
            array = np.full(shape, "a") if dtype == "U1" else np.full(shape, value).astype(dtype)
        if kind == "tensor" and dtype not in (">i2", ">f4", "object", "U1", "datetime64[s]"):
            return f"tensor {shape} of {dtype} {value}", torch.from_numpy(array)
        return f"array {shape} of {dtype} {value}", array
    if kind == "list":
        value = random.choice(
            ([0.1] * length, [[0.1] * length, [0.2] * 500], [[0.1], []], ["a"], [None], [1j], [[[1.0]]])
        )
        return f"list {short(value)}", value
    if kind == "dict":
        value = {"array": np.zeros(1000, "f4"), "sampling_rate": random.choice(RATES)}
        if random.random() < 0.3:
            value.pop(random.choice(sorted(value)))
        return f"dict {short(value.get('sampling_rate'))}", value
    if kind == "file":
        name = random.choice(("empty.wav", "text.wav", "missing.wav", "."))
        return name, SoundFile(name)
    others = (
        None,
        5,
        0.5,
        "",
        "no such file",
        "http://127.0.0.1:1/x.wav",
        b"",
        b"bytes" * 100,
        {},
        [],
        object(),
        "a\0b",
    )
    others += (Path("missing"), {"bytes": b"x"}, {"path": None}, {"path": 5}, range(500))
    value = random.choice(others)
    return short(value).split(" at 0x")[0], value


class SoundFile(ImageFile):
    def write(self, folder: Path) -> str:
        path = folder / self.name
        if self.name in ("empty.wav", "text.wav"):
            path.write_text("no sound" * 50 * (self.name == "text.wav"))
        return str(path)


def odd_settings(random: Random, names: tuple[str, ...]) -> dict[str, Any]:
    fields = odd_fields(random, names)
    for name in fields:
        if name in CHOICES and random.random() < 0.7:
            fields[name] = copy.deepcopy(random.choice(CHOICES[name]))
    return fields


def audio_case(random: Random) -> Case:
    is_waveform = random.random() < 0.4
    extractor = VitsWaveformFeatureExtractor if is_waveform else VitsSpectrogramFeatureExtractor
    own = WAVE_FIELDS if is_waveform else SPECTROGRAM_FIELDS
    fields, kwargs = odd_settings(random, AUDIO_FIELDS + own), odd_settings(random, AUDIO_CALL)
    if fields and random.random() < 0.7:
        kwargs = {}
    if random.random() < 0.5 and (fields or kwargs):
        title, sound = "1000 samples", np.full(1000, 0.1, "f4")
    else:
        title, sound = odd_sound(random)
    words = words_of(*fields, *kwargs) | {"waveform", "sample", "clip", "sampling_rate", "audio", "array"}
    words |= {"bins"} if "feature_size" in fields else set()
    words |= {"frequenc"} & (
        {"frequenc"} if {"min_frequency", "max_frequency", "sampling_rate"} & set(fields) else set()
    )

    def run(folder: Path) -> None:
        made = extractor(**fields)
        made.save_pretrained(folder / "extractor")
        loaded = extractor.from_pretrained(folder / "extractor")
        batch = loaded(written(sound, folder), **{"return_tensors": "pt"} | kwargs)
        check_batch(batch[made.model_input_names[0]])

    return Case(f"{extractor.__name__}({show(fields)})({title}, {show(kwargs)})", tuple(words), run)


# Texts

TEXTS = ("a cat", "", "  ", "é🐈\0", "a" * 3000, None, 5, b"cat", [], ["a"], ["a", ""], [None], [["a", "b"]], {"a": 1})
TOKENS = (
    0,
    -1,
    1,
    3,
    10**6,
    2**31,
    2**70,
    1.5,
    "1",
    None,
    [],
    [0, 1, 2],
    [-1],
    [2**40],
    [[1, 2]],
    [1.5],
    ["a"],
    [None],
)


@functools.cache
def tokenizer() -> VitsCtcTokenizer:
    return VitsCtcTokenizer.train_characters(["a cat", "bed"])


def text_case(random: Random) -> Case:
    action = random.choice(("encode", "decode", "decode tensor", "train", "bpe", "of_tokens", "logits", "processor"))
    text, tokens = random.choice(TEXTS), copy.deepcopy(random.choice(TOKENS))
    dtype = random.choice((torch.long, torch.float32, torch.int32, torch.bool, torch.complex64))
    shape = random.choice(((1, 5), (5,), (2, 0), (0, 5), (), (2, 3, 4), (1, 4, 8)))
    number = random.choice((0, 1, -1, 3, 100, 2**31, 1.5, None, "3", True))
    kind = random.choice(("characters", "subwords", "words", "unknown", None))
    listed = random.choice((["<blank>", "<unk>", "a"], ["<blank>", "<unk>"], [], ["a"], "abc", None, [1, 2, 3]))
    lengths = random.choice(
        (None, torch.tensor([2]), torch.tensor([100]), torch.tensor([-3]), [2], torch.tensor([1.5]))
    )
    sound = odd_sound(random)[1] if action == "processor" else None
    actions = {
        "encode": (text, lambda folder: tokenizer()(text)),
        "decode": (tokens, lambda folder: tokenizer().decode(tokens)),
        "decode tensor": ((shape, dtype), lambda folder: tokenizer().batch_decode(torch.ones(shape or 1).to(dtype))),
        "train": (text, lambda folder: VitsCtcTokenizer.train_characters(text)),
        "bpe": ((text, number), lambda folder: VitsCtcTokenizer.train_bpe(text, number)),
        "of_tokens": ((listed, kind), lambda folder: VitsCtcTokenizer.of_tokens(listed, kind)),
        "logits": (
            (shape, dtype, number, lengths),
            lambda folder: tokenizer().decode_logits(torch.ones(shape).to(dtype), lengths, number),
        ),
        "processor": (
            (sound, text),
            lambda folder: VitsSpeechProcessor(VitsSpectrogramFeatureExtractor(), tokenizer())(
                written(sound, folder), text=text
            ),
        ),
    }
    given, run = actions[action]
    words = ("text", "token", "logits", "num_beams", "vocab_size", "kind", "lengths", "clip", "audio", "waveform")
    return Case(f"{action} {short(given).split(' at 0x')[0]}", (*words, "sampl"), run)


__all__ = ["LARGE", "SMALL", "Kind", "make"]
