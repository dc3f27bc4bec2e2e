"""Odd files of images, sound and video: every format that the libraries write, whole and damaged.

A whole file must give the right shape, and where the format is lossless the right values; a damaged one gives some
values or an error that names it.
"""

import math
import re
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random

import av
import numpy as np
import soundfile
import torch
from PIL import Image, ImageOps

from hf_vits.data.audio import audio_problem
from hf_vits.data.images import image_problem
from hf_vits.data.videos import video_problem
from hf_vits.processing.audio import VitsSpectrogramFeatureExtractor, VitsWaveformFeatureExtractor
from hf_vits.processing.decoding import VideoReader
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.processing.opening import open_image, to_mode
from hf_vits.processing.video import VitsVideoProcessor
from hf_vits.processing.waveform import HIGHEST_RATE, LOWEST_RATE, audio_length, load_audio
from tests.support.video import BITS, encode, encode_sound, numbered, numbers_in

from .harness import Case

SMALL, LARGE = 100, 1700
SIZE = {"height": 8, "width": 8}

MODES = (
    "1",
    "L",
    "LA",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "I;16B",
    "F",
    "PA",
    "La",
    "RGBX",
)
# (width, height), with the formats' own limits among them
SIZES = ((1, 1), (1, 3000), (3000, 1), (2, 2), (5, 7), (16, 16), (33, 20), (64, 48), (257, 3), (300, 200))
LOSSLESS = ("BMP", "DIB", "PNG", "PPM", "TGA", "TIFF", "PCX", "SGI", "QOI")
# They hold a picture in formats of their own or need programs that are not installed; Pillow 13 deprecates IM.
LEFT_OUT = ("BUFR", "EPS", "GRIB", "HDF5", "IM", "WMF")


@cache
def image_formats() -> tuple[tuple[str, str], ...]:
    """Return (format, mode) of all images that Pillow can write and read."""
    Image.init()
    found = []
    for name in sorted((Image.SAVE.keys() & Image.OPEN.keys()) - set(LEFT_OUT)):
        for mode in MODES:
            try:
                Image.new(mode, (64, 64)).save(BytesIO(), name)
            except (OSError, ValueError, KeyError):
                continue
            found.append((name, mode))
    return tuple(found)


def picture(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    """Return a random image of a mode."""
    width, height = size
    values = np.random.RandomState(seed)
    if mode == "F":
        return Image.fromarray(values.rand(height, width).astype(np.float32))
    if mode.startswith("I"):
        levels = values.randint(0, 65536, (height, width))
        if mode == "I":
            return Image.fromarray(levels.astype(np.int32))
        return Image.frombytes(mode, size, levels.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    bands = 1 if mode in ("1", "L", "P") else len(Image.new(mode, (1, 1)).getbands())
    pixels = values.randint(0, 256, (height, width, bands), dtype=np.uint8)
    if mode == "1":
        return Image.fromarray(pixels[..., 0]).convert("1")
    if mode == "P":
        return Image.fromarray(pixels[..., 0]).convert("RGB").quantize(min(16, width * height))
    return Image.frombytes(mode, size, pixels.tobytes())


def image_case(random: Random) -> Case:
    kind, mode = random.choice(image_formats())
    size, seed = random.choice(SIZES), random.randrange(2**32)
    options, orientation = {}, random.choice([0, 0, *range(1, 9)])
    if kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") and orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    else:
        orientation = 1
    if kind == "JPEG":
        options |= random.choice([{}, {"progressive": True}, {"quality": 1}, {"subsampling": 0}, {"dpi": (0, 0)}])
    if kind == "TIFF":
        options |= random.choice([{}, {"compression": "tiff_lzw"}, {"compression": "packbits"}])
    if kind in ("GIF", "PNG", "WEBP", "TIFF") and random.random() < 0.2:
        options |= {"save_all": True, "append_images": [picture(mode, size, seed + 1)]}
    if kind == "ICO":
        options["sizes"] = [size]  # by default Pillow before 13 writes icons of 16 pixels and more alone
    damage = odd_bytes(random)
    name = "picture" + random.choice([f".{kind.lower()}", ".jpg", "", ".png.txt", " \u00e9\U0001f600.png"])

    def run(folder: Path) -> None:
        image, path = picture(mode, size, seed), folder / name
        try:
            if kind == "ICO" and max(size) > 256:
                raise ValueError("an icon has at most 256 x 256 pixels")
            image.save(path, kind, **options)
            Image.open(path).load()  # Pillow before 13 cannot read all it writes: YCbCr in TIFF
        except (OSError, ValueError, KeyError, SystemError):  # a size or option that the format does not have
            picture("RGB", size, seed).save(path, "PNG")
            options.clear()
        whole = damage is None
        if damage is not None:
            path.write_bytes(damage(path.read_bytes()))
        problem = image_problem(path)
        assert not (whole and problem), problem
        opened = open_image(path, "RGB")
        if whole and kind not in ("ICO", "ICNS", "SPIDER", "AVIF"):
            turned = orientation > 4 and bool(options)
            assert opened.size == (size[::-1] if turned else size), (opened.size, size)
        if whole and kind in LOSSLESS and mode in ("L", "RGB", "RGBA", "P", "1") and "save_all" not in options:
            expected = to_mode(ImageOps.exif_transpose(with_orientation(image, options)), "RGB")
            np.testing.assert_array_equal(np.asarray(opened), np.asarray(expected))
        pixels = VitsImageProcessor(size=SIZE, do_center_crop=False)(str(path), return_tensors="pt").pixel_values
        assert pixels.shape == (1, 3, 8, 8)
        assert pixels.isfinite().all()
        if max(opened.size) < 200:
            VitsImageProcessor(size={"shortest_edge": 8}, crop_size=8)(images=opened, return_tensors="pt")

    return Case(f"image {kind} {mode} {size} {sorted(options)} {damage and damage.__name__}", words(name, damage), run)


def with_orientation(image: Image.Image, options: dict) -> Image.Image:
    image = image.copy()
    if "exif" in options:
        image.getexif()[0x0112] = options["exif"][0x0112]
    return image


def words(name: str, damage) -> tuple[str, ...]:
    """Return the words of a case: a whole file has none, as it must be read."""
    return () if damage is None else (name,)


Damage = Callable[[bytes], bytes]


def odd_bytes(random: Random, probability: float = 0.6) -> Damage | None:
    """Return a function that damages the bytes of a file, or None."""
    if random.random() > probability:
        return None
    seed = random.randrange(2**32)

    def cut(content: bytes) -> bytes:
        return content[: Random(seed).randrange(len(content) or 1)]

    def flip(content: bytes) -> bytes:
        draw, changed = Random(seed), bytearray(content)
        for _ in range(draw.choice([1, 1, 3, 20, len(content) // 20 + 1])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        return bytes(changed)

    def flip_header(content: bytes) -> bytes:
        draw, changed = Random(seed), bytearray(content)
        for _ in range(draw.choice([1, 2, 6])):
            changed[draw.randrange(min(len(changed), 64))] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])
        return bytes(changed)

    def zeroed(content: bytes) -> bytes:
        start = Random(seed).randrange(len(content))
        return content[:start] + bytes(len(content) - start)

    def without_middle(content: bytes) -> bytes:
        start, end = sorted(Random(seed).choices(range(len(content)), k=2))
        return content[:start] + content[end:]

    def doubled(content: bytes) -> bytes:
        return content * 2

    def noise_behind(content: bytes) -> bytes:
        return content + Random(seed).randbytes(1000)

    def noise(content: bytes) -> bytes:
        return Random(seed).randbytes(Random(seed).choice([0, 1, 4, 1000]))

    return random.choice(
        [cut, cut, flip, flip, flip_header, flip_header, zeroed, without_middle, doubled, noise_behind, noise]
    )


# sound

RATES = (1, 99, 100, 4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192_000, 768_000, 2**31 - 1)
LENGTHS = (0, 1, 2, 17, 1000, 5000, 20_000)
PLAIN = {"PCM_16": 2e-4, "PCM_24": 1e-5, "PCM_32": 1e-5, "FLOAT": 1e-6, "DOUBLE": 1e-6, "PCM_S8": 0.02, "PCM_U8": 0.02}


@cache
def sound_formats() -> tuple[tuple[str, str], ...]:
    """Return (format, subtype) of all files that libsndfile can write and reads again as it wrote them."""
    return tuple(
        (kind, subtype)
        for kind in sorted(soundfile.available_formats())
        for subtype in sorted(soundfile.available_subtypes(kind))
        if kind not in ("RAW", "SD2", "PAF") and soundfile.check_format(kind, subtype)
    )


def sound_case(random: Random) -> Case:
    common = [pair for pair in sound_formats() if pair[0] in ("WAV", "FLAC", "OGG", "MP3", "WAVEX", "RF64", "AIFF")]
    kind, subtype = random.choice(common if random.random() < 0.7 else sound_formats())
    rate, channels, length = random.choice(RATES), random.choice([1, 1, 2, 3, 6, 8, 40]), random.choice(LENGTHS)
    if kind == "OGG":  # libsndfile crashes when it writes Vorbis at impossible rates
        rate = min(rate, 192_000)
    seed, damage = random.randrange(2**32), odd_bytes(random)
    if kind == "WAV" and random.random() < 0.3:
        damage = odd_header(random)
    name = f"sound.{kind.lower()}"
    to_rate = random.choice([8000, 16000, 16000, 22050])
    is_valid = damage is None and LOWEST_RATE <= rate <= HIGHEST_RATE and length and channels <= 32
    is_valid = is_valid and (kind != "SDS" or length > 60)  # findings/soundfile_sds_one_block.sh

    def run(folder: Path) -> None:
        path = folder / name
        samples = np.random.RandomState(seed % 2**32).uniform(-0.5, 0.5, (length, channels)).astype(np.float32)
        written = rate
        try:
            soundfile.write(path, samples, rate, subtype, format=kind)
        except (soundfile.LibsndfileError, ValueError, RuntimeError):  # a rate or channels that the format lacks
            samples, written = samples[:, :1], 16000
            soundfile.write(path, samples, written, "PCM_16", format="WAV")
        if damage is not None:  # libsndfile leaves a FLAC file without samples empty
            path.write_bytes(damage(path.read_bytes() or b"fLaC"))
        problem = audio_problem(path)
        if is_valid:
            assert problem is None, problem
        waveform = load_audio(path, to_rate)
        assert waveform.ndim == 1
        assert waveform.isfinite().all()
        if is_valid:
            stored = soundfile.info(path)
            if stored.subtype in PLAIN and stored.format not in ("SDS", "SVX"):
                assert len(waveform) == math.ceil(length * to_rate / stored.samplerate), (len(waveform), stored)
                if stored.samplerate == to_rate:
                    np.testing.assert_allclose(waveform, samples.mean(axis=1), atol=PLAIN[stored.subtype])
            assert audio_length(path)[1] == stored.samplerate
        if len(waveform) < 2**18:
            waves = VitsWaveformFeatureExtractor(sampling_rate=to_rate, padding=True)
            assert waves(str(path), return_tensors="pt").input_values.shape == (1, len(waveform))
            VitsSpectrogramFeatureExtractor(sampling_rate=to_rate)(waveform, return_tensors="pt")

    # A sound shorter than a window, of an impossible rate or with too many channels is refused.
    known = () if is_valid and length * to_rate / rate > 2000 else (name, "samples", "window")
    return Case(f"sound {kind} {subtype} {rate} Hz {channels}x{length} {damage and damage.__name__}", known, run)


def odd_header(random: Random) -> Damage:
    """Return a function that changes a number in the header of a WAV file."""
    place = random.choice([4, 16, 20, 22, 24, 28, 32, 34, 40])
    value = random.choice([0, 1, 2, 3, 255, 65535, 2**31 - 1, 2**32 - 1, random.randrange(2**32)])

    def header(content: bytes) -> bytes:
        size = 2 if place in (20, 22, 32, 34) else 4
        return content[:place] + (value % 256**size).to_bytes(size, "little") + content[place + size :]

    return header


# video

# (container, codec, pixel format)
VIDEOS = (
    ("mp4", "libx264", "yuv420p"),
    ("mp4", "libx264", "yuv444p"),
    ("mp4", "libx264", "yuv420p10le"),
    ("mkv", "libx264", "gray"),
    ("mov", "libx264", "yuv420p"),
    ("ts", "libx264", "yuv420p"),
    ("mp4", "mpeg4", "yuv420p"),
    ("avi", "mpeg4", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("webm", "libvpx", "yuv420p"),
    ("avi", "mjpeg", "yuvj422p"),
    ("mov", "prores_ks", "yuv422p10le"),
    ("mov", "qtrle", "rgb24"),
    ("mov", "png", "rgba"),
    ("avi", "ffv1", "yuv420p"),
    ("mkv", "ffv1", "gbrp"),
    ("avi", "rawvideo", "bgr24"),
    ("mkv", "huffyuv", "yuv422p"),
    ("mpg", "mpeg2video", "yuv420p"),
    ("wmv", "wmv2", "yuv420p"),
    ("flv", "flv", "yuv420p"),
    ("ogv", "libtheora", "yuv420p"),
    ("gif", "gif", "rgb8"),
)


def write_video(path: Path, **fields) -> bool:
    """Write a video; return False where this FFmpeg has no such codec, and write it as H.264 in an MP4 file."""
    try:
        encode(path, **fields)
    except (av.FFmpegError, ValueError, KeyError):
        frames = fields["frames"]
        even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
        encode(path.with_suffix(".mp4"), even)
        path.with_suffix(".mp4").rename(path)
        return False
    return True


def video_case(random: Random) -> Case:
    container, codec, pixel_format = random.choice(VIDEOS)
    # FFmpeg does not recognise a transport stream of a few packets.
    count = 20 if container == "ts" else random.choice([1, 1, 2, 3, 8, 20])
    height, width = random.choice([(48, 96), (48, 96), (48, 96), (2, 96), (16, 3000 // BITS * BITS), (240, 12)])
    fields = {
        "fps": random.choice([1, 12, 25, 30, 60]),
        "keyframe_every": random.choice([1, 4, 100]),
        "b_frames": 2 if codec in ("libx264",) and random.random() < 0.5 else 0,
        "rotation": random.choice([0, 0, 0, 90, 180, 270]) if container in ("mp4", "mov") else 0,
    }
    title = random.random() < 0.2 and container in ("mp4", "mov", "mkv", "avi", "webm")
    kind = random.choice(["whole", "whole", "damaged", "damaged", "damaged", "cut", "codec", "sound", "empty", "thin"])
    damage = odd_bytes(random, 1.0) if kind == "damaged" else None
    name = f"clip.{container}"
    keep_from = random.randrange(1, 12)

    def run(folder: Path) -> None:
        path = folder / name
        made = numbered(range(count), height, width)
        if kind == "thin":  # frames of 1x3000 pixels
            path = path.with_suffix(".avi")
            made = np.zeros((count, *((1, 3000) if count % 2 else (3000, 1)), 3), np.uint8)
            encode(path, made, codec="png", pixel_format="rgb24", b_frames=0)
        elif kind == "sound":
            path = encode_sound(path.with_suffix(".mkv"))
        elif kind == "empty":
            path = path.with_suffix(".avi")
            encode(path, made[:0].reshape(0, height, width, 3), codec="mpeg4", b_frames=0)
        elif kind == "cut":
            path = cut_without_encoding(
                encode(folder / "whole.mp4", numbered(range(20))), folder / "clip.mp4", keep_from
            )
        else:
            write_video(path, frames=made, codec=codec, pixel_format=pixel_format, **fields)
        if title:
            path = with_latin_title(path)
        if kind == "codec":
            path.write_bytes(re.sub(rb"avc1|H264|XVID|FMP4|V_VP8|V_VP9|MJPG|FFV1", b"Qq9z", path.read_bytes()))
        elif damage:
            path.write_bytes(damage(path.read_bytes()))
        problem = video_problem(path)
        with VideoReader(path) as video:
            info = video.info
            frames = video.read(np.arange(min(info.num_frames, 40)))
        assert frames.dtype == np.uint8
        assert frames.shape[3] == 3
        if kind == "whole":
            assert problem is None, problem
            assert info.num_frames == count or (container, codec) == ("gif", "gif"), info
            if height == 48 and not fields["rotation"] and codec not in ("gif", "wmv2"):
                assert numbers_in(frames) == list(range(count)), numbers_in(frames)
        processor = VitsVideoProcessor(num_frames=2, size={"shortest_edge": 16}, crop_size=SIZE)
        assert processor(str(path), return_tensors="pt").pixel_values.shape == (1, 2, 3, 8, 8)

    named = () if kind == "whole" and width != 3000 // BITS * BITS else ("clip", "resizing the shorter side")
    return Case(
        f"video {kind} {name} {codec} {pixel_format} {count}x{height}x{width} {damage and damage.__name__}", named, run
    )


def cut_without_encoding(whole: Path, path: Path, first: int) -> Path:
    """Copy the packets of a video from number `first` on."""
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number >= first and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def with_latin_title(path: Path) -> Path:
    """Give a video a title in Latin-1, as old programs write it."""
    titled = path.with_name(f"clip_titled{path.suffix}")
    with av.open(str(path)) as source, av.open(str(titled), "w") as target:
        target.metadata["title"] = "Gr\u00fcn TITLE"
        stream = target.add_stream_from_template(source.streams[0])
        for packet in source.demux(source.streams[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = titled.read_bytes()
    titled.write_bytes(content.replace("Gr\u00fcn TITLE".encode(), b"Gr\xfcn  TITLE"))
    return titled


def prepare() -> None:
    torch.set_num_threads(1)
    image_formats(), sound_formats()


def make(random: Random) -> Case:
    """Make an image, a sound or a video."""
    return random.choice([image_case, image_case, sound_case, video_case])(random)
