"""What an image is does not depend on how it is opened: by path, by its caller, for training, from `datasets`."""

import base64
import functools
import http.server
import io
import threading

import datasets
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from hf_vits.data.images import FileImages, image_problem
from hf_vits.data.splits import ColumnInputs, Split
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.processing.opening import open_image
from hf_vits.recipe import AugmentationRecipe, ViewsRecipe
from hf_vits.training.examples.batches import SampleKey
from hf_vits.training.examples.image_augmentation import training_transform
from hf_vits.training.examples.images import EvaluationImages, TrainingImages
from hf_vits.training.examples.views import Views

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
KEY = SampleKey(index=0, seed=3, mix_seed=None, shared_seed=3, epoch=0)


def deep(dtype=np.uint16):
    """Return the ramp as levels of 0 to 65535."""
    return RAMP.astype(dtype) * 257


def save(image, path, **options):
    image.save(path, **options)
    return path


def write_pgm(path):
    path.write_bytes(b"P5\n16 16\n65535\n" + deep(">u2").tobytes())
    return path


def colour():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def with_alpha(mode):
    image = colour().convert(mode)
    image.putalpha(Image.fromarray(RAMP))
    return image


def palette_with_transparency():
    image = colour().quantize(16)
    image.info["transparency"] = 3
    return image


GREY = {
    "16-bit.png": lambda path: save(Image.fromarray(deep()), path),
    "16-bit.tiff": lambda path: save(Image.fromarray(deep()), path),
    "16-bit-big-endian.tiff": lambda path: save(Image.frombytes("I;16B", (16, 16), deep(">u2").tobytes()), path),
    "16-bit.pgm": write_pgm,
    "int32-of-8-bits.tiff": lambda path: save(Image.fromarray(RAMP.astype(np.int32)), path),
    "int32-of-16-bits.tiff": lambda path: save(Image.fromarray(deep(np.int32)), path),
    "float-to-1.tiff": lambda path: save(Image.fromarray(RAMP / np.float32(255)), path),
    "float-to-255.tiff": lambda path: save(Image.fromarray(RAMP.astype(np.float32)), path),
    "float-to-65535.tiff": lambda path: save(Image.fromarray(deep(np.float32)), path),
    "8-bit.png": lambda path: save(Image.fromarray(RAMP), path),
}
COLOUR = {
    "rgb.png": lambda path: save(colour(), path),
    "cmyk.jpg": lambda path: save(colour().convert("CMYK"), path),
    "cmyk.tiff": lambda path: save(colour().convert("CMYK"), path),
    "palette.png": lambda path: save(colour().quantize(16), path),
    "transparent-palette.png": lambda path: save(palette_with_transparency(), path, transparency=3),
    "rgb-with-alpha.png": lambda path: save(with_alpha("RGB"), path),
    "grey-with-alpha.png": lambda path: save(with_alpha("L"), path),
    "two-levels.png": lambda path: save(Image.fromarray(RAMP).convert("1"), path),
    "animated.gif": lambda path: save(colour().quantize(8), path, save_all=True, append_images=[colour()]),
}


@pytest.fixture(scope="module")
def processor():
    """A processor that changes nothing but the scale."""
    return VitsImageProcessor(do_resize=False, do_center_crop=False, do_normalize=False)


def decoded_by_datasets(path):
    dataset = datasets.Dataset.from_dict({"image": [{"path": None, "bytes": path.read_bytes()}]})
    return ColumnInputs(dataset.cast_column("image", datasets.Image()), "image")


def in_a_recipe(inputs, processor):
    """Return the image as evaluation, training and two views of a self-supervised method see it."""
    split = Split(inputs, np.zeros(1, np.int64))
    transform = training_transform(AugmentationRecipe(), processor, (16, 16))
    whole = {"num_local": 0, "global_scale": [1.0, 1.0], "flip": 0.0, "color_jitter": 0.0, "grey": 0.0}
    whole |= {"blur": [0.0] * 3, "solarize": [0.0] * 3}
    views = Views(split, ViewsRecipe(**whole), processor, (16, 16), "RGB")
    yield EvaluationImages(split, processor, "RGB")[0]["pixel_values"]
    yield TrainingImages(split, transform, "RGB")[KEY]["pixel_values"]
    yield from views[KEY]["pixel_values"]


@pytest.mark.parametrize("name", [*GREY, *COLOUR])
def test_every_way_to_open_a_file_gives_the_same_levels(processor, tmp_path, name):
    path = (GREY | COLOUR)[name](tmp_path / name)
    levels = np.stack([RAMP] * 3, axis=-1) if name in GREY else np.asarray(Image.open(path).convert("RGB"))
    right = torch.from_numpy(levels.copy()).permute(2, 0, 1) / 255
    with Image.open(path) as opened:
        ways = [processor(opened, return_tensors="pt").pixel_values[0]]
    ways.append(processor(str(path), return_tensors="pt").pixel_values[0])
    ways.append(processor(open_image(path, "RGB"), return_tensors="pt").pixel_values[0])  # hf-vits predict
    ways += in_a_recipe(FileImages([path]), processor)
    ways += in_a_recipe(decoded_by_datasets(path), processor)
    for number, pixels in enumerate(ways):
        assert torch.allclose(pixels, right, atol=1e-6), number
    assert open_image(path, "L").size == (16, 16)
    assert image_problem(path) is None


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_every_file(processor, tmp_path, ending, orientation):
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(blocks), tmp_path / f"photo.{ending}", exif=exif, quality=100)
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
    assert upright.size == ((16, 24) if orientation > 4 else (24, 16))
    right = processor(upright, return_tensors="pt").pixel_values[0]
    assert torch.equal(processor(str(path), return_tensors="pt").pixel_values[0], right)
    for inputs in (FileImages([path]), decoded_by_datasets(path)):
        split = Split(inputs, np.zeros(1, np.int64))
        assert torch.equal(EvaluationImages(split, processor, "RGB")[0]["pixel_values"], right)
    assert open_image(path).getexif().get(0x0112, 1) == 1  # nothing that follows turns it again


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_plain_tiff_files_are_turned_once_and_with_their_own_rows(tmp_path, mode, orientation):
    """Pillow 13 maps TIFF files of these modes to memory, if it opens them by path, and mixes up their rows."""
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 7, 3), dtype=np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(stored, tmp_path / "scan.tiff", exif=exif)
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    assert np.array_equal(np.asarray(open_image(path)), np.asarray(stored.transpose(turns[orientation])))


def test_what_pillow_raises_for_a_damaged_file_names_it(tmp_path):
    path = save(colour(), tmp_path / "cut.qoi")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(OSError, match=r"cannot open the image .*cut\.qoi: not enough "):  # a ValueError of Pillow
        open_image(path)
    assert image_problem(path).startswith("not enough ")


def test_a_deep_image_is_turned_as_well(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = save(Image.fromarray(deep()), tmp_path / "scan.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(path)), RAMP[::-1, ::-1])


def test_damaged_exif_is_ignored(tmp_path):
    path = save(colour(), tmp_path / "photo.png", exif=b"Exif\0\0no TIFF header")
    assert np.array_equal(np.asarray(open_image(path)), np.asarray(colour()))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (np.full((4, 4), 70_000, np.int32), "int32 pixels from 70000 to 70000, expected 0 to 255 or 0 to 65535"),
        (np.full((4, 4), -1, np.int32), "int32 pixels from -1 to -1"),
        (np.full((4, 4), 1e6, np.float32), "float32 pixels from 1e.06 to 1e.06, expected 0 to 1, 0 to 255 or 0 to"),
        (np.full((4, 4), np.nan, np.float32), "float32 pixels from nan to nan"),
    ],
)
def test_levels_without_a_known_range_are_refused_before_training(processor, tmp_path, levels, message):
    path = save(Image.fromarray(levels), tmp_path / "odd.tiff")
    with pytest.raises(ValueError, match=rf"odd\.tiff: got {message}"):
        open_image(path)
    with pytest.raises(ValueError, match=message), Image.open(path) as opened:
        processor(opened)
    assert "expected 0 to" in image_problem(path)


def test_files_that_are_no_images_are_named(tmp_path, monkeypatch):
    whole = save(colour().resize((200, 200)), tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    for name, problem in (("cut.jpg", "truncated"), ("text.png", "cannot identify")):
        with pytest.raises(OSError, match=rf"cannot open the image .*{name}: .*{problem}"):
            open_image(tmp_path / name)
    with pytest.raises(IsADirectoryError, match="expected an image file, got the folder "):
        open_image(tmp_path)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(OSError, match=r"cannot open the image .*whole\.jpg: .*decompression bomb"):
        open_image(tmp_path / "whole.jpg")


@pytest.fixture
def address(tmp_path):
    """Address of a server of the files in tmp_path."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls_and_base64(processor, tmp_path, address):
    path = GREY["16-bit.png"](tmp_path / "scan.png")
    encoded = base64.b64encode(path.read_bytes()).decode()
    for source in (f"{address}/scan.png", encoded, f"data:image/png;base64,{encoded}"):
        assert np.array_equal(np.asarray(open_image(source)), RAMP)
        assert len(processor(source, return_tensors="pt").pixel_values.unique()) == 256
    with pytest.raises(OSError, match=r"cannot download http.*nowhere\.png.*404"):
        open_image(f"{address}/nowhere.png")
    with pytest.raises(ValueError, match="expected a valid path, URL or base64 string of an image, got 'nowhere"):
        open_image("nowhere.png")
    with pytest.raises(OSError, match="cannot identify"):
        open_image(base64.b64encode(b"no image at all").decode())


def test_an_image_in_memory_is_taken_as_it_is(processor):
    """Its range is its maker's affair: 0 to 255 here, as for arrays."""
    stored = io.BytesIO()
    Image.fromarray(RAMP.astype(np.float32)).save(stored, "TIFF")
    image = Image.open(stored).copy()
    assert torch.allclose(processor(image, return_tensors="pt").pixel_values[0, 0], torch.from_numpy(RAMP) / 255)
    with pytest.raises(ValueError, match="look rescaled already"):
        processor(Image.fromarray(RAMP / np.float32(255)))
