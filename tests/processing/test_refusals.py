"""What processors and the tokenizer refuse, with an error that names the field or argument and what came."""

import re

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image

from hf_vits import (
    VitsImageProcessor,
    VitsSpectrogramFeatureExtractor,
    VitsVideoProcessor,
    VitsWaveformFeatureExtractor,
)
from hf_vits.processing.speech import VitsCtcTokenizer

REFUSALS = (ValueError, TypeError, StrictDataclassError)
NAN = float("nan")
PICTURE = Image.new("RGB", (40, 30))
SOUND = np.full(1000, 0.1, "f4")
PADDED = "max_length=1000000000 and pad_to_multiple_of=None pad clips of at most 1000 samples to 1000000000"


@pytest.mark.parametrize("processor", [VitsImageProcessor, VitsVideoProcessor])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"do_convert_rgb": (1, 2, 3)}, "Validation error for field 'do_convert_rgb'"),
        ({"rescale_factor": "1"}, "Validation error for field 'rescale_factor'"),
        ({"rescale_factor": NAN}, "rescale_factor must be finite, got nan"),
        ({"image_mean": [0.5, NAN, 0.5]}, "image_mean must be finite, got nan"),
        ({"image_std": 0.0}, "image_std divides the pixels and must be above 0, got image_std=0.0"),
        ({"image_std": [0.5, None, "0.5"]}, "Validation error for field 'image_std'"),
        ({"crop_size": [5]}, "crop_size must be (height, width), a number or a dict of sides, got [5]"),
        ({"pad_size": [5]}, "pad_size must be (height, width), a number or a dict of sides, got [5]"),
    ],
)
def test_odd_fields_are_refused_by_name(processor, fields, message):
    with pytest.raises(REFUSALS, match=re.escape(message)):
        processor(**fields)
    with pytest.raises(REFUSALS, match=re.escape(message)):
        processor()([PICTURE] * 2, **fields)


@pytest.mark.parametrize("processor", [VitsImageProcessor, VitsVideoProcessor])
@pytest.mark.parametrize("name", ["size", "crop_size", "rescale_factor", "image_std"])
def test_a_step_without_its_setting_is_refused(processor, name):
    with pytest.raises(ValueError, match=f"do_.*=True needs {name}, got {name}=None: pass one, or do_.*=False"):
        processor(**{name: None})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_clips": [1]}, "Validation error for field 'num_clips'"),
        ({"num_clips": 10**6}, "num_clips must be at most 1024, got 1000000"),
        ({"num_frames": 10**6}, "num_frames must be at most 16384, got 1000000"),
        ({"sampling_rate": ""}, "Validation error for field 'sampling_rate'"),
    ],
)
def test_odd_fields_of_videos_are_refused_by_name(fields, message):
    with pytest.raises(REFUSALS, match=re.escape(message)):
        VitsVideoProcessor(**fields)


@pytest.mark.parametrize("device", ["unknown:3", "meta:0x"])
def test_devices_that_no_one_has_are_refused(device):
    for call in (
        lambda: VitsImageProcessor()(PICTURE, device=device),
        lambda: VitsVideoProcessor()([PICTURE], device=device),
        lambda: VitsWaveformFeatureExtractor()(SOUND, device=device),
    ):
        with pytest.raises(REFUSALS, match=f"device must be .*{device}|device=.*{device}|device.*got device={device}"):
            call()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"padding_value": ""}, "padding_value must be a number, got ''"),
        ({"padding_value": NAN}, "padding_value must be finite, got nan"),
        ({"power": [1]}, "power must be a number, got [1]"),
        ({"preemphasis": [0.5]}, "preemphasis must be a number, got [0.5]"),
        ({"max_frequency": (1, 2)}, "Field 'max_frequency' with value (1, 2) doesn't match any type"),
        ({"pad_with_silence": 1j}, "Field 'pad_with_silence' expected bool, got complex (value: 1j)"),
        ({"n_fft": ""}, "Field 'n_fft' expected int, got str (value: '')"),
        ({"n_fft": 2**31}, "n_fft must be at most 131072, got 2147483648"),
        ({"feature_size": 10**6}, "bins must be at most 8192, got 1000000"),
    ],
)
def test_odd_fields_of_spectrograms_are_refused_by_name(fields, message):
    with pytest.raises(REFUSALS, match=re.escape(message)):
        VitsSpectrogramFeatureExtractor(**fields)


@pytest.mark.parametrize(
    ("sound", "arguments", "message"),
    [
        (SOUND, {"pad_to_multiple_of": []}, "Field 'pad_to_multiple_of' with value [] doesn't match any type"),
        (SOUND, {"pad_to_multiple_of": 0}, "pad_to_multiple_of must be a whole number above 0, got 0"),
        (SOUND, {"padding": "max_length", "max_length": 10**9}, PADDED),
        (SOUND, {"sampling_rate": 1}, "sampling_rate must be a whole number of Hz from"),
        (SOUND, {"sampling_rate": 2**31}, "sampling_rate must be a whole number of Hz from"),
        ({"path": 5}, {}, '"path" of an audio clip must be a path, and "bytes" bytes, got 5'),
    ],
)
def test_odd_arguments_of_sounds_are_refused_by_name(sound, arguments, message):
    with pytest.raises(REFUSALS, match=re.escape(message)):
        VitsWaveformFeatureExtractor()(sound, **arguments)


def test_grey_levels_multiplied_by_alpha_become_rgb():
    image = Image.merge("LA", [Image.new("L", (40, 30), 100), Image.new("L", (40, 30), 255)])
    processor = VitsImageProcessor(size={"height": 30, "width": 40}, do_center_crop=False)
    right = processor(image, return_tensors="pt")["pixel_values"]
    assert torch.equal(processor(image.convert("La"), return_tensors="pt")["pixel_values"], right)


def test_texts_and_tokens_of_other_types_are_refused():
    tokenizer = VitsCtcTokenizer.train_characters(["a cat"])
    for call, message in (
        (lambda: VitsCtcTokenizer.train_characters(5), "expected a list of texts, got int"),
        (lambda: VitsCtcTokenizer.train_characters([None]), "expected texts as strings, got NoneType: None"),
        (lambda: VitsCtcTokenizer.train_bpe(["a cat"], 1.5), "vocab_size must be a whole number, got 1.5"),
        (lambda: VitsCtcTokenizer.train_bpe(["a cat"], 2**31), "vocab_size must be at most 1048576, got 2147483648"),
        (lambda: VitsCtcTokenizer.of_tokens(None, "words"), "tokens must be a list of strings, got None"),
        (lambda: VitsCtcTokenizer.of_tokens("abc", "words"), "tokens must be a list of strings, got 'abc'"),
        (lambda: tokenizer([]), "expected at least one text, got an empty batch"),
        (lambda: tokenizer.decode([-1]), "tokens to decode must be whole numbers, not negative, got [-1]"),
        (lambda: tokenizer.decode(["a"]), "tokens to decode must be whole numbers, not negative, got ['a']"),
    ):
        with pytest.raises(REFUSALS, match=re.escape(message)):
            call()
