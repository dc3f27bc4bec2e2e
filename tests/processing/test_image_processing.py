import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, pipeline
from transformers.processing_utils import ImagesKwargs

from hf_vits import conversion
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.processing.resize import tensorflow_area, tensorflow_bilinear

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CIFAR = {"image_mean": [0.4914, 0.4822, 0.4465], "image_std": [0.2470, 0.2435, 0.2616]}
FLOWERS = {"image_mean": [0.4353, 0.3773, 0.2872], "image_std": [0.2966, 0.2455, 0.2698]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def vision_transformer(size=224):
    return VitsImageProcessor(
        convention="vision_transformer",
        size={"height": size, "width": size},
        do_center_crop=False,
        resample=Image.BILINEAR,
        **HALF,
    )


def big_vision(size=256, crop=224):
    return VitsImageProcessor(
        convention="big_vision", size={"shortest_edge": size}, crop_size=crop, resample=Image.BOX, **HALF
    )


def small(**kwargs):
    return VitsImageProcessor(size={"shortest_edge": 20}, crop_size=16, **kwargs)


def pixels(processor, images, **kwargs):
    return processor(images, return_tensors="pt", **kwargs).pixel_values


def random_image(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def photographs():
    china, flower = (np.array(image) for image in load_sample_images().images)  # the originals are read-only
    return [china, flower[:, 100:401], china[3:290:2, 5:600:3], random_image(90, 301), random_image(19, 23)]


# The PyTorch originals


@pytest.mark.parametrize(
    ("image_size", "crop_pct", "statistics"),
    [
        pytest.param(224, 0.875, IMAGENET, id="deit-224"),
        pytest.param(384, 0.875, IMAGENET, id="deit-384"),
        pytest.param(224, 1.0, IMAGENET, id="deit3-224"),
        pytest.param(224, 0.9, IMAGENET, id="cct-imagenet-224"),
        pytest.param(384, 0.9, IMAGENET, id="cct-imagenet-384"),
        pytest.param(32, 1.0, CIFAR, id="cct-cifar10"),
        pytest.param(224, 1.0, FLOWERS, id="cct-flowers-224"),
    ],
)
def test_equals_the_pytorch_originals_bit_for_bit(photographs, image_size, crop_pct, statistics):
    # What datasets.py of facebookresearch/deit builds, and what timm's transforms_imagenet_eval builds for CCT.
    original = transforms.Compose(
        [
            transforms.Resize(int(image_size / crop_pct), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize(statistics["image_mean"], statistics["image_std"]),
        ]
    )
    images = [Image.fromarray(photograph) for photograph in photographs]
    processor = VitsImageProcessor(
        size={"shortest_edge": int(image_size / crop_pct)}, crop_size=image_size, **statistics
    )
    assert torch.equal(pixels(processor, images), torch.stack([original(image) for image in images]))


def test_equals_pillow_and_numpy_alone(photographs):
    image = Image.fromarray(photographs[0])  # 640 x 427
    resized = np.asarray(image.resize((int(256 * 640 / 427), 256), Image.BICUBIC))  # 383 x 256: margins 79.5 and 16
    cropped = resized[16:240, 80:304].astype(np.float32)
    mean, std = (np.asarray(values, np.float32) for values in IMAGENET.values())
    expected = (cropped / np.float32(255) - mean) / std
    np.testing.assert_array_equal(pixels(VitsImageProcessor(), image)[0].permute(1, 2, 0).numpy(), expected)


def test_straight_resize_equals_pillow(photographs):
    # CvT at 384 pixels: no crop, aspect ratio lost
    image = Image.fromarray(photographs[1])
    processor = VitsImageProcessor(
        size={"height": 40, "width": 64}, do_center_crop=False, do_rescale=False, do_normalize=False
    )
    resized = processor(image, return_tensors="np").pixel_values[0]
    np.testing.assert_array_equal(resized.transpose(1, 2, 0), np.asarray(image.resize((64, 40), Image.BICUBIC)))


# Google's originals


def bilinear_weights(in_size, out_size):
    """Return weights (out_size, in_size): half-pixel centres, no antialias, border pixels repeated outside."""
    weights = np.zeros((out_size, in_size))
    for row, position in zip(weights, (np.arange(out_size) + 0.5) * in_size / out_size - 0.5, strict=True):
        below = int(np.floor(position))
        row[max(below, 0)] += 1 - (position - below)
        row[min(below + 1, in_size - 1)] += position - below
    return weights


def area_weights(in_size, out_size):
    """Return weights (out_size, in_size): the fraction of each output pixel's extent in each input pixel."""
    scale = in_size / out_size
    pixel, start = np.arange(in_size), np.arange(out_size)[:, None] * scale
    covered = np.minimum(pixel + 1, start + scale) - np.maximum(pixel, start)
    return covered.clip(min=0) / scale


def resize_in_float64(image, size, weights):
    vertical, horizontal = (weights(*sides) for sides in zip(image.shape[:2], size, strict=True))
    return np.einsum("yh,hwc,xw->yxc", vertical, image.astype(np.float64), horizontal, optimize=True)


@pytest.mark.parametrize("size", [(32, 32), (60, 61), (150, 90)])
@pytest.mark.parametrize(
    ("resize", "weights"), [(tensorflow_bilinear, bilinear_weights), (tensorflow_area, area_weights)]
)
def test_tensorflow_resize_equals_its_definition(photographs, resize, weights, size):
    for photograph in photographs[2:]:
        resized = resize(torch.from_numpy(photograph).permute(2, 0, 1), size).permute(1, 2, 0).numpy()
        # TensorFlow keeps positions up to 300 in float32, so to 3e-5, and a position error counts up to 255 levels.
        np.testing.assert_allclose(resized, resize_in_float64(photograph, size, weights), atol=255 * 3e-5, rtol=0)


def pattern(height, width):
    """Compute an image (3, height, width), uint8, with integers only, so that it is the same in any library."""
    row, column, channel = np.ogrid[:height, :width, :3]
    levels = (row * row * 7 + column * column * 3 + row * column * 11 + channel * 90) % 256
    return torch.from_numpy(levels.astype(np.uint8)).permute(2, 0, 1)


@dataclass
class Golden:
    """The result of tf.image.resize of TensorFlow 2.21.0 (x86-64) for `pattern(*shape)`.

    Six green values, and the sum of all levels after truncation to uint8 as in big_vision. The sum is sensitive,
    because a value just below an integer instead of at it loses a level.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    method: str
    green: list[float]
    levels: int

    def __str__(self):
        return f"{self.method}-{self.shape[0]}x{self.shape[1]}-to-{self.size[0]}x{self.size[1]}"


# fmt: off
TENSORFLOW = [
    Golden((37, 51), (16, 22), "bilinear",
           [101.3288345336914, 93.99787139892578, 165.93536376953125, 152.79470825195312, 71.6953125,
            176.9269256591797], 135373),
    Golden((37, 51), (16, 22), "area",
           [105.20826721191406, 126.00467681884766, 144.6661376953125, 157.383544921875, 118.82193756103516,
            130.73919677734375], 135350),
    Golden((37, 51), (64, 40), "bilinear",
           [90.4124984741211, 107.33761596679688, 96.66084289550781, 152.33816528320312, 33.73603439331055,
            152.1085205078125], 984567),
    Golden((37, 51), (64, 40), "area",
           [90.64706420898438, 110.39214324951172, 103.11764526367188, 146.62741088867188, 28.372549057006836,
            150.86268615722656], 984324),
    Golden((90, 33), (32, 32), "bilinear",
           [96.54638671875, 80.03076171875, 94.81787109375, 154.98974609375, 56.65185546875, 69.51123046875], 393178),
    Golden((90, 33), (32, 32), "area",
           [100.97979736328125, 118.05723571777344, 173.49696350097656, 118.68753814697266, 61.42558670043945,
            74.4302978515625], 391359),
]
# fmt: on


@pytest.mark.parametrize("golden", TENSORFLOW, ids=str)
def test_equals_tensorflow_bit_for_bit(golden):
    resize = {"bilinear": tensorflow_bilinear, "area": tensorflow_area}[golden.method]
    resized = resize(pattern(*golden.shape), golden.size)
    assert resized.dtype == torch.float32
    rows, columns = golden.size[0] // 3, golden.size[1] // 2
    assert resized[1, ::rows, ::columns].flatten()[:6].tolist() == golden.green
    assert resized.to(torch.uint8).sum().item() == golden.levels


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_flat_regions(value):
    flat = torch.full((1, 37, 53), value, dtype=torch.uint8)
    assert (tensorflow_bilinear(flat, (24, 31)) == value).all()
    # TensorFlow's area keeps them only within the rounding of positions, of which a level may be lost
    torch.testing.assert_close(tensorflow_area(flat, (24, 31)), flat[:, :24, :31].float(), rtol=1e-5, atol=0)


def test_vision_transformer_preprocessing(photographs):
    for photograph in photographs:
        resized = tensorflow_bilinear(torch.from_numpy(photograph).permute(2, 0, 1), (224, 224))
        assert torch.equal(pixels(vision_transformer(), photograph)[0], (resized - 127.5) / 127.5)


def test_big_vision_preprocessing(photographs):
    # resize_small(256)|central_crop(224)|value_range(-1, 1); 427 x 640 becomes 256 x 384
    image = torch.from_numpy(photographs[0]).permute(2, 0, 1)
    levels = tensorflow_area(image, (256, 384)).to(torch.uint8)[:, 16:240, 80:304]
    assert torch.equal(pixels(big_vision(), photographs[0])[0], -1 + (levels.to(torch.float32) / 255) * 2)


@pytest.mark.parametrize(
    # Sizes that resize_small(256) of big_vision gives in TensorFlow 2.21.0; rounding down, as torchvision does, gives
    # others in all but the second case.
    ("shape", "resized"),
    [
        ((427, 640), (256, 384)),
        ((375, 500), (256, 341)),
        ((101, 77), (336, 256)),
        ((512, 511), (257, 256)),
        ((200, 125), (410, 256)),
        ((48, 50), (256, 267)),
        ((3, 5), (256, 427)),
    ],
)
def test_big_vision_rounds_the_longer_side(shape, resized):
    image = Image.new("RGB", shape[::-1])
    assert pixels(big_vision(), image, do_center_crop=False).shape[-2:] == resized


@pytest.mark.parametrize(
    # Sizes that detectron2's ResizeShortestEdge(672, 1120) gives: rounded, and the longer side never above 1120.
    ("shape", "resized"),
    [((480, 640), (672, 896)), ((427, 640), (672, 1007)), ((333, 500), (672, 1009)), ((300, 640), (525, 1120))],
)
def test_detectors_cap_the_longer_side(shape, resized):
    processor = VitsImageProcessor(
        size={"shortest_edge": 672, "longest_edge": 1120}, resample=Image.BILINEAR, do_center_crop=False
    )
    assert pixels(processor, Image.new("RGB", shape[::-1])).shape[-2:] == resized
    assert pixels(processor, Image.new("RGB", shape)).shape[-2:] == resized[::-1]


@pytest.mark.parametrize(("convention", "left"), [("torchvision", 2), ("big_vision", 1), ("vision_transformer", 1)])
def test_odd_margins_of_the_centre_crop(convention, left):
    image = random_image(16, 19)
    processor = VitsImageProcessor(convention=convention, crop_size=16, resample=Image.BILINEAR)
    cropped = pixels(processor, image, do_resize=False, do_rescale=False, do_normalize=False)[0]
    assert torch.equal(cropped, torch.from_numpy(image[:, left : left + 16]).permute(2, 0, 1))


# Kinds of input

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb_as_the_originals_loader_does(mode):
    image = Image.fromarray(random_image(24, 30)).convert(mode)
    assert torch.equal(pixels(small(), image), pixels(small(), image.convert("RGB")))


def test_alpha_and_transparent_colours_are_dropped():
    colour = random_image(24, 30)
    expected = pixels(small(), colour)
    for alpha in (0, 100, 255):
        rgba = np.dstack([colour, np.full((24, 30), alpha, np.uint8)])
        for image in (Image.fromarray(rgba), rgba, torch.from_numpy(rgba).permute(2, 0, 1)):
            assert torch.equal(pixels(small(), image), expected)
    palette = Image.fromarray(colour[..., 0], "P")
    palette.putpalette(list(range(256)) * 3)
    expected = pixels(small(), palette)
    palette.info["transparency"] = 7
    assert torch.equal(pixels(small(), palette), expected)


def test_grey_becomes_three_equal_channels():
    grey = random_image(24, 30, channels=0)
    expected = pixels(small(), np.stack([grey] * 3, axis=-1))
    tensor = torch.from_numpy(grey)
    for image in (Image.fromarray(grey), grey, grey[..., None], grey[None], tensor, tensor[None], tensor[..., None]):
        assert torch.equal(pixels(small(), image), expected)


def test_16_bit_keeps_the_high_byte():
    grey = random_image(24, 30, channels=0).astype(np.uint16)
    expected = pixels(small(), grey.astype(np.uint8))
    deep = grey * 256 + 201
    for image in (Image.fromarray(deep), deep, deep.astype(">u2"), torch.from_numpy(deep)):
        assert torch.equal(pixels(small(), image), expected)


def test_exif_orientation_is_left_alone(tmp_path):
    image = Image.fromarray(random_image(24, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert opened.getexif()[0x0112] == 6
        assert torch.equal(pixels(small(), opened), pixels(small(), image))
    upright = image.transpose(Image.Transpose.ROTATE_270)
    for path in (tmp_path / "turned.png", str(tmp_path / "turned.png")):  # transformers' load_image turns it
        assert torch.equal(pixels(small(), path), pixels(small(), upright))


@pytest.mark.parametrize("processor", [VitsImageProcessor(), vision_transformer(), big_vision()])
def test_layouts_and_containers_agree(processor):
    array = random_image(60, 75)
    chw = array.transpose(2, 0, 1)
    expected = pixels(processor, Image.fromarray(array))
    assert expected.shape == (1, 3, 224, 224)
    assert expected.dtype == torch.float32
    assert expected.is_contiguous()
    readonly = array.copy()
    readonly.flags.writeable = False
    for image in (array, chw, np.ascontiguousarray(chw), torch.from_numpy(array), array[::-1][::-1], readonly):
        assert torch.equal(pixels(processor, image), expected)
    for dtype in (np.int16, np.int64, np.uint32, np.uint64):
        assert torch.equal(pixels(processor, array.astype(dtype)), expected)
    twice = expected.expand(2, -1, -1, -1)
    stacked = np.stack([array] * 2)
    for batch in ([array, array], (array, chw), [[array], [array]], stacked, torch.from_numpy(stacked)):
        assert torch.equal(pixels(processor, batch), twice)


@pytest.mark.parametrize("disable_grouping", [True, False])
def test_batch_of_many_sizes_keeps_its_order(disable_grouping):
    images = [random_image(h, w, seed=w) for h, w in [(20, 31), (50, 24), (20, 31), (7, 9), (50, 24)]]
    together = pixels(small(), images, disable_grouping=disable_grouping)
    assert torch.equal(together, torch.cat([pixels(small(), image) for image in images]))


def test_ambiguous_layout_is_settled_by_input_data_format():
    rgb = random_image(3, 20)
    channels_last = pixels(small(), rgb, input_data_format="channels_last")
    assert torch.equal(channels_last, pixels(small(), Image.fromarray(rgb)))


@pytest.mark.parametrize("processor", [small(), vision_transformer(16)])
def test_float_images(processor):
    levels = random_image(24, 30)
    expected = pixels(processor, levels, do_resize=False)
    for dtype in (np.float32, np.float64, np.float16):
        assert torch.equal(pixels(processor, levels.astype(dtype), do_resize=False), expected)
    unit = torch.from_numpy(levels).permute(2, 0, 1) / 255
    for dtype in (torch.float32, torch.float64):
        result = pixels(processor, unit.to(dtype), do_resize=False, do_rescale=False)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    assert pixels(processor, torch.zeros(3, 24, 30)).isfinite().all()  # black is not mistaken for rescaled


@pytest.mark.parametrize("resample", [Image.BILINEAR, Image.BICUBIC])
def test_tensor_kernels_stay_near_pillow(photographs, resample):
    # Float images take the path of images on an accelerator; where both kernels overshoot the range they part.
    image = torch.from_numpy(photographs[0]).permute(2, 0, 1)
    settings = {"resample": resample, "do_rescale": False, "do_normalize": False}
    exact = pixels(VitsImageProcessor(**settings), image)
    near = pixels(VitsImageProcessor(**settings), image.to(torch.float32)).clamp(0, 255)
    difference = (near - exact).abs()
    assert difference.mean() < 0.4  # rounding to levels alone makes 0.25
    assert difference.quantile(0.999) < 2


# Settings


def test_switching_steps_off():
    array = random_image(24, 30)
    chw = torch.from_numpy(array).permute(2, 0, 1)
    processor = small()
    off = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
    assert torch.equal(pixels(processor, array, **off)[0], chw)
    assert torch.equal(pixels(processor, array, **off | {"do_rescale": True})[0], chw / 255)
    assert pixels(processor, array, do_center_crop=False).shape == (1, 3, 20, 25)
    assert pixels(processor, array, do_resize=False).shape == (1, 3, 16, 16)
    assert pixels(processor, array, crop_size=40).shape == (1, 3, 40, 40)  # padded with zeros
    normalized = pixels(processor, array, **off | {"do_normalize": True}, image_mean=[127.5] * 3, image_std=[2.0] * 3)
    assert torch.equal(normalized[0], (chw - 127.5) / 2)


def test_other_channel_counts():
    processor = small(do_convert_rgb=False, image_mean=[0.5], image_std=[0.25])
    grey = Image.fromarray(random_image(24, 30, channels=0))
    assert pixels(processor, grey).shape == (1, 1, 16, 16)
    bands = random_image(24, 30, channels=5)
    result = pixels(processor, bands, input_data_format="channels_last", image_mean=[0.5] * 5, image_std=[0.25] * 5)
    assert result.shape == (1, 5, 16, 16)
    assert torch.equal(result[:, 2:3], pixels(processor, bands[..., 2]))


def test_grayscale_is_pillows():
    """Also of arrays and tensors, of every mode, and where the image is grey already."""
    processor = small(do_grayscale=True, image_mean=[0.5], image_std=[0.25])
    colour = random_image(24, 30)
    image = Image.fromarray(colour)
    expected = pixels(small(do_convert_rgb=False, image_mean=[0.5], image_std=[0.25]), image.convert("L"))
    assert expected.shape == (1, 1, 16, 16)
    for same in (image, image.convert("RGBA"), image.convert("L"), image.convert("L").convert("RGB"), colour):
        assert torch.equal(pixels(processor, same), expected)
    assert torch.equal(pixels(processor, torch.from_numpy(colour).permute(2, 0, 1)), expected)
    torch.testing.assert_close(pixels(processor, colour.astype(np.float32)), expected, atol=0.1, rtol=0)  # no rounding


def test_a_pipeline_gives_a_grey_model_grey_images(tmp_path):
    """transformers' pipelines open every file as RGB."""
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = ViTForImageClassification(ViTConfig(image_size=16, num_channels=1, **size)).eval()
    model.save_pretrained(tmp_path)
    processor = conversion.processor("vit", "ViT-B_16", model)
    assert (processor.image_mean, processor.image_std) == ([0.5], [0.5])
    processor.save_pretrained(tmp_path)
    grey = Image.fromarray(random_image(20, 31, channels=0))
    grey.save(tmp_path / "grey.png")
    scores = {
        row["label"]: row["score"]
        for row in pipeline("image-classification", str(tmp_path))(str(tmp_path / "grey.png"))
    }
    expected = model(pixels(processor, grey)).logits.softmax(-1)[0]
    torch.testing.assert_close(torch.tensor([scores["LABEL_0"], scores["LABEL_1"]]), expected)


@pytest.mark.parametrize("processor", [VitsImageProcessor(), vision_transformer(384), big_vision()])
def test_saved_and_loaded(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = VitsImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    image = random_image(50, 60)
    assert torch.equal(pixels(loaded, image), pixels(processor, image))
    written = set(json.loads((tmp_path / "preprocessor_config.json").read_text()))
    assert written - set(ImagesKwargs.__annotations__) == {"image_processor_type", "convention", "do_grayscale"}
    changed = VitsImageProcessor.from_pretrained(tmp_path, convention="vision_transformer", resample=Image.BILINEAR)
    assert changed.convention == "vision_transformer"


# In transformers


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Save a tiny model and its processor to a folder, as in a Hub repository."""
    path = tmp_path_factory.mktemp("repository")
    config = AutoConfig.for_model(
        "hf_vits_vit",
        image_size=16,
        patch_size=8,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
    )
    torch.manual_seed(0)
    AutoModelForImageClassification.from_config(config).save_pretrained(path)
    vision_transformer(16).save_pretrained(path)
    return path


def test_auto_image_processor(repository):
    processor = AutoImageProcessor.from_pretrained(repository)
    assert type(processor) is VitsImageProcessor
    assert processor.to_dict() == vision_transformer(16).to_dict()


def test_pipelines(repository, tmp_path):
    images = [Image.fromarray(random_image(h, w)) for h, w in [(20, 31), (50, 24)]]
    images[0].save(tmp_path / "image.png")
    classifier = pipeline("image-classification", str(repository), device="cpu")
    expected = classifier.model(pixels(vision_transformer(16), images)).logits.softmax(-1)
    for image, probabilities in zip([str(tmp_path / "image.png"), images[1]], expected, strict=True):
        scores = {row["label"]: row["score"] for row in classifier(image)}
        torch.testing.assert_close(torch.tensor([scores["LABEL_0"], scores["LABEL_1"]]), probabilities)
    extractor = pipeline("image-feature-extraction", str(repository), device="cpu")
    features = extractor(images[1], return_tensors=True)
    assert torch.equal(features, extractor.model(pixels(vision_transformer(16), images[1])).last_hidden_state)
