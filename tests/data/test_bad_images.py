"""What is no image, and settings that make no sense: refused early, saying what came and what to do."""

import io
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from hf_vits.processing.image import VitsImageProcessor

GREY = np.full((6, 7), 100, np.uint8)
RGB = np.full((6, 7, 3), 100, np.uint8)


@pytest.fixture(scope="module")
def processor():
    return VitsImageProcessor(size={"height": 8, "width": 8}, crop_size=8)


def with_pixel(value, dtype=np.float32):
    image = RGB.astype(dtype)
    image[2, 3, 1] = value
    return image


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        pytest.param(with_pixel(np.nan), ValueError, "NaN or infinite", id="nan"),
        pytest.param(with_pixel(-np.inf), ValueError, "NaN or infinite", id="inf"),
        pytest.param(with_pixel(1e300, np.float64), ValueError, "NaN or infinite", id="too-large-for-float32"),
        pytest.param(torch.full((3, 4, 4), torch.nan, dtype=torch.bfloat16), ValueError, "NaN", id="bfloat16-nan"),
        pytest.param(with_pixel(256), ValueError, r"from 100 to 256, .* 0 to 255.*do_rescale=False", id="float-high"),
        pytest.param(with_pixel(-0.5), ValueError, r"from -0.5 to 100, .* 0 to 255", id="float-low"),
        pytest.param(RGB / 255, ValueError, r"look rescaled already.*do_rescale=False", id="rescaled-already"),
        pytest.param(with_pixel(256, np.int64), ValueError, r"int64 pixels from 100 to 256", id="int-high"),
        pytest.param(with_pixel(-1, np.int16), ValueError, r"int16 pixels from -1 to 100", id="int-low"),
        pytest.param(with_pixel(2**64 - 1, np.uint64), ValueError, "uint64 pixels", id="uint64"),
        pytest.param(RGB.astype(object), TypeError, "dtype object", id="object"),
        pytest.param(RGB.astype(str), TypeError, "dtype <U3", id="strings"),
        pytest.param(RGB.astype(complex), TypeError, "dtype complex128", id="complex"),
        pytest.param(RGB > 3, TypeError, r"dtype bool.*astype", id="bool"),
        pytest.param(torch.ones(3, 4, 4, dtype=torch.bool), TypeError, r"torch.bool.*255", id="bool-tensor"),
        pytest.param(RGB.astype("datetime64[s]"), TypeError, "dtype datetime64", id="dates"),
        pytest.param(np.zeros((6, 7), "V3"), TypeError, "dtype", id="void"),
        pytest.param(np.array("cat.png"), TypeError, "dtype <U7", id="0d-string"),
        pytest.param(np.array(3), ValueError, r"expected an image of shape .*got shape \(\)", id="0d"),
        pytest.param(np.arange(9), ValueError, r"got shape \(9,\)", id="1d"),
        pytest.param(np.ones((1, 2, 3, 4, 5)), ValueError, r"got shape \(1, 2, 3, 4, 5\)", id="5d"),
        pytest.param(np.zeros((0, 7, 3), np.uint8), ValueError, "at least one pixel", id="no-rows"),
        pytest.param(np.zeros((7, 0), np.uint8), ValueError, "at least one pixel", id="no-columns"),
        pytest.param(torch.zeros(0, 5, 5), ValueError, "at least one pixel", id="no-channels"),
        pytest.param(Image.new("RGB", (0, 4)), ValueError, "at least one pixel", id="pil-empty"),
        pytest.param(np.zeros((7, 6, 5), np.uint8), ValueError, r"1, 3 or 4 channels.*\(7, 6, 5\)", id="5-channels"),
        pytest.param(np.zeros((2, 7, 7), np.uint8), ValueError, "1, 3 or 4 channels", id="2-channels"),
        pytest.param(Image.fromarray(GREY.astype(np.int32) * 9), ValueError, "int32 pixels", id="pil-32-bit"),
        pytest.param(Image.fromarray(GREY * np.float32(9)), ValueError, "from 900 to 900", id="pil-float"),
        pytest.param([], ValueError, "empty batch", id="empty-list"),
        pytest.param(np.zeros((0, 3, 8, 8)), ValueError, "empty batch", id="empty-batch"),
        pytest.param(None, TypeError, "got NoneType", id="none"),
        pytest.param(b"\x89PNG", TypeError, "got bytes", id="bytes"),
        pytest.param([[1, 2], [3, 4]], TypeError, "got int", id="nested-numbers"),
        pytest.param("no/such/file.png", ValueError, "valid path", id="no-such-file"),
    ],
)
def test_refused(processor, image, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        processor(image, return_tensors="pt")


def test_the_image_at_fault_is_numbered(processor):
    with pytest.raises(ValueError, match=r"image 2 of the batch"):
        processor([RGB, RGB, with_pixel(np.nan)])


def test_truncated_and_foreign_files(processor, tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(file.getvalue()[:900])
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("cut.jpg", "text.jpg"):
        with pytest.raises(OSError, match=r"truncated|cannot identify"):
            processor(str(tmp_path / name))
    with Image.open(tmp_path / "cut.jpg") as image, pytest.raises(OSError, match=r"truncated[\s\S]*image 1 of the"):
        processor([RGB, image])


def test_palette_needs_conversion(processor):
    for mode in ("P", "1"):
        with pytest.raises(ValueError, match=f"mode '{mode}'.*do_convert_rgb=True"):
            processor(Image.fromarray(GREY).convert(mode), do_convert_rgb=False)


def test_channels_must_fit_the_statistics(processor):
    with pytest.raises(ValueError, match="1-channel images, but image_mean has 3 values"):
        processor(GREY, do_convert_rgb=False)
    with pytest.raises(ValueError, match="cannot make RGB of 5 channels"):
        processor(np.zeros((7, 6, 5), np.uint8), input_data_format="channels_last")


def test_extreme_aspect_ratio_does_not_eat_the_memory():
    with pytest.raises(ValueError, match=r"1 x 20000 pixels to 256 would make it 256 x 5120000"):
        VitsImageProcessor()(np.zeros((1, 20000), np.uint8))


def test_the_longest_edge_bounds_an_extreme_aspect_ratio():
    """The shorter side keeps at least one pixel."""
    processor = VitsImageProcessor(size={"shortest_edge": 800, "longest_edge": 1333}, do_center_crop=False)
    assert processor(np.zeros((1, 3000), np.uint8), return_tensors="pt")["pixel_values"].shape == (1, 3, 1, 1333)


@pytest.mark.parametrize("name", ["size", "crop_size"])
def test_sizes_that_no_memory_holds_are_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} must have at most PIL\.Image\.MAX_IMAGE_PIXELS"):
        VitsImageProcessor()(RGB, **{name: {"height": 10**6, "width": 10**6}})


@pytest.mark.parametrize(
    "image", ["some text", [1, 2], [["a"]], np.array(["a"]), {"pixels": 1}, [], np.zeros((0, 3, 8, 8))]
)
def test_text_numbers_and_empty_batches_are_no_images(image):
    with pytest.raises((TypeError, ValueError), match=r"Incorrect image source|expected"):
        VitsImageProcessor()(image)


def test_filters_without_a_tensor_kernel(processor):
    with pytest.raises(ValueError, match="needs Pillow"):
        processor(RGB.astype(np.float32), resample=Image.BOX)


BAD_SETTINGS = [
    ({"convention": "keras"}, "convention must be one of torchvision, vision_transformer, big_vision, got 'keras'"),
    ({"convention": "big_vision"}, "resample must be 2"),
    ({"convention": "vision_transformer", "resample": 5}, "resample must be 2"),
    ({"size": {"longest_edge": 8}}, "size must be .*shortest_edge.*longest_edge"),
    ({"size": {"shortest_edge": 0}}, "above 0"),
    ({"size": {"height": 8, "width": -8}}, "above 0"),
    ({"size": {"height": 8}}, "size must have one of"),
    ({"crop_size": {"shortest_edge": 8}}, "crop_size must be .*height.*width"),
    ({"rescale_factor": 0.0}, "rescale_factor must be above 0"),
]


def test_resample_is_a_number():
    with pytest.raises(ValueError, match=r"resample must be a PIL.Image.Resampling .* got 'bicubic'"):
        VitsImageProcessor(resample="bicubic")


@pytest.mark.parametrize(("bad", "message"), BAD_SETTINGS)
def test_settings_are_refused_when_made_and_when_called(processor, bad, message):
    with pytest.raises(ValueError, match=message):
        VitsImageProcessor(**bad)
    with pytest.raises(ValueError, match=message):
        processor(RGB, **bad)


DTYPES = ["u1", "i1", "u2", ">u2", "i4", "i8", "u8", "f2", "f4", ">f4", "f8", "?", "c8", "O", "U1", "S2", "M8[s]"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5)


@given(
    st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), SHAPES)),
    st.sampled_from([None, "channels_first", "channels_last"]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_any_array_gives_pixels_or_a_clear_error(processor, array, input_data_format, do_rescale, tensor):
    try:
        images = torch.from_numpy(array) if tensor else array
    except (TypeError, ValueError):  # torch has no such dtype
        images = array
    try:
        result = processor(images, input_data_format=input_data_format, do_rescale=do_rescale, return_tensors="pt")
    except (TypeError, ValueError) as error:
        message = str(error)
    else:
        message = None
        assert result.pixel_values.shape[1:] == (3, 8, 8)
        assert result.pixel_values.dtype == torch.float32
        assert result.pixel_values.isfinite().all()
    assert message is None or re.search("got|cannot make RGB of", message)  # one of ours, not of something further in


@given(
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F"]), st.data()
)
@settings(max_examples=100, deadline=None)
def test_any_pil_image_gives_pixels_or_a_clear_error(processor, mode, data):
    image = Image.new(mode, (data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))))
    try:
        result = processor(image, do_convert_rgb=data.draw(st.booleans()), return_tensors="pt")
    except ValueError as error:
        message = str(error)
    else:
        message = None
        assert result.pixel_values.shape == (1, 3, 8, 8)
    assert message is None or re.search("got|holds no pixel values|conversion from LAB to RGB", message)
