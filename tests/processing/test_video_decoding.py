"""Reading frames of files by position: containers, frame rates, pixel formats, and files without video."""

from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest

from benchmarks.memory import forget_peak, peak
from hf_vits.processing import decoding
from hf_vits.processing.decoding import VideoReader, probe, read_frames

from ..support.video import encode, encode_sound, numbered, numbers_in

FILES = {
    "h264.mp4": {},
    "h264_without_b_frames.mp4": {"b_frames": 0},
    "h264.mkv": {},
    "h264.ts": {},
    "h264.mov": {"fps": Fraction(30000, 1001)},
    "vp9.webm": {"codec": "libvpx-vp9", "b_frames": 0, "fps": 25},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 0, "fps": 12},
    "mpeg4_with_b_frames.avi": {"codec": "mpeg4"},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p", "b_frames": 0},
    "one_keyframe.mp4": {"keyframe_every": 1000},
    "keyframes_only.mp4": {"keyframe_every": 1, "b_frames": 0},
}


@pytest.fixture
def clip(tmp_path):
    return encode(tmp_path / "clip.mp4", numbered(range(50)))


def all_frames(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("name", FILES)
def test_frames_are_found_in_any_order(tmp_path, name):
    path = encode(tmp_path / name, numbered(range(50)), **FILES[name])
    info = probe(path)
    assert info[0] == 50
    assert info.fps == pytest.approx(float(FILES[name].get("fps", 30)))
    assert (info.height, info.width, info.constant_rate) == (48, 96, True)
    assert info.duration == pytest.approx(50 / info.fps)
    wanted = [49, 0, 13, 13, 47, 12, 24, 48, 1, 11]
    frames = read_frames(path, wanted)
    assert numbers_in(frames) == wanted
    np.testing.assert_array_equal(frames, all_frames(path)[wanted])


@pytest.mark.parametrize("form", [str, lambda path: path.read_bytes(), lambda path: BytesIO(path.read_bytes())])
def test_a_video_is_a_path_or_contents(clip, form):
    video = form(clip)
    assert probe(video) == probe(clip)
    assert numbers_in(read_frames(video, [5, 40])) == [5, 40]


def test_frames_not_asked_for_are_not_decoded(tmp_path):
    """If the frames between two keyframes are overwritten, the frames before and after are still read."""
    path = encode(tmp_path / "clip.mp4", numbered(range(50)), options={"movflags": "faststart"})
    whole = read_frames(path, [5, 30])
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    contents = bytearray(path.read_bytes())
    for packet in packets[12:24]:
        contents[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    np.testing.assert_array_equal(read_frames(bytes(contents), [5, 30]), whole)
    with pytest.raises(OSError, match="damaged"):
        read_frames(bytes(contents), [18])


def test_memory_does_not_grow_with_the_video(tmp_path):
    """100 MB of frames are read four at a time, and all twice, since at first permanent buffers are allocated."""
    frames = numbered(range(1000), 144, 240)
    path = encode(tmp_path / "long.mp4", frames, keyframe_every=50, b_frames=0, options={"preset": "ultrafast"})
    size = frames.nbytes
    del frames
    for _ in range(2):
        forget_peak()
        before = peak()
        for start in range(0, probe(path).num_frames, 99):
            assert numbers_in(read_frames(path, range(start, start + 4))) == [*range(start, start + 4)]
    assert peak() - before < size / 20


# Frame rates


def test_with_a_variable_rate_positions_are_moments(tmp_path):
    """Ten frames in the first second, five in the next; the encoder gives the last one a duration of 1/30 s."""
    times = [*range(0, 1000, 100), *range(1000, 2000, 200)]
    path = encode(tmp_path / "clip.mkv", numbered(range(15)), times=times)
    info = probe(path)
    assert (info.num_frames, info.constant_rate) == (15, False)
    assert info.fps == pytest.approx(15 / (1.8 + 1 / 30), rel=1e-3)
    shown = [sum(time <= 1000 * position / info.fps for time in times) - 1 for position in range(15)]
    assert numbers_in(read_frames(path, range(15))) == shown


def test_times_rounded_to_milliseconds_are_a_constant_rate(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(range(50)), fps=Fraction(30000, 1001))
    assert probe(path).constant_rate
    assert probe(path).fps == pytest.approx(30000 / 1001, rel=1e-6)


def test_a_recording_may_start_late(tmp_path):
    path = encode(tmp_path / "clip.mkv", numbered(range(30)), times=[5000 + 40 * index for index in range(30)])
    assert probe(path).fps == pytest.approx(25)
    assert numbers_in(read_frames(path, [0, 29])) == [0, 29]


# Pixel formats


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("grey.mkv", "ffv1", "gray"),
        ("alpha.mkv", "ffv1", "bgra"),
        ("alpha.mov", "qtrle", "argb"),
        ("ten_bits.mkv", "ffv1", "yuv420p10le"),
        ("sixteen_bits.mkv", "ffv1", "gray16le"),
        ("palette.gif", "gif", "rgb8"),
    ],
)
def test_every_pixel_format_becomes_rgb(tmp_path, name, codec, pixel_format):
    frames = numbered(range(12))
    if pixel_format in ("bgra", "argb"):
        frames = np.concatenate([frames, np.full_like(frames[..., :1], 7)], axis=-1)
    path = encode(tmp_path / name, frames, fps=10, codec=codec, pixel_format=pixel_format, b_frames=0)
    found = read_frames(path, [3, 11])
    assert found.shape == (2, 48, 96, 3)
    assert numbers_in(found) == [3, 11]


def test_colours_survive(tmp_path):
    frames = np.zeros((8, 32, 48, 3), dtype=np.uint8)
    frames[:] = (200, 100, 30)
    path = encode(tmp_path / "clip.mp4", frames)
    assert np.abs(read_frames(path, [4]).astype(int) - [200, 100, 30]).max() <= 4


def test_odd_sizes(tmp_path):
    frames = numbered(range(5), height=31, width=99)[:, :, :97]
    path = encode(tmp_path / "clip.mkv", frames, codec="ffv1", pixel_format="bgr0", b_frames=0)
    np.testing.assert_array_equal(read_frames(path, range(5)), frames)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_recording_is_read_upright(tmp_path, turns):
    upright = np.zeros((6, 32, 48, 3), dtype=np.uint8)
    upright[:, :16, :24] = 255
    stored = np.rot90(upright, -turns, axes=(1, 2))
    path = encode(tmp_path / "clip.mp4", stored, rotation=90 * turns)
    frames = read_frames(path, [0, 5])
    assert np.abs(frames.astype(int) - upright[:2]).max() < 60


@pytest.mark.parametrize(("codec", "pixel_format"), [("libx264", "yuv420p10le"), ("libx264", "yuv420p")])
def test_more_than_eight_bits_never_go_through_torchcodec(tmp_path, monkeypatch, codec, pixel_format):
    """It rounds them differently; the pixels may not depend on whether it is installed."""
    opened = []

    def decoder(*args, **kwargs):
        opened.append(args)
        raise RuntimeError("not for real")

    monkeypatch.setattr(decoding, "torchcodec_decoder", lambda: decoder)
    path = encode(tmp_path / "clip.mp4", numbered(range(12)), codec=codec, pixel_format=pixel_format)
    assert numbers_in(read_frames(path, [3, 11])) == [3, 11]
    assert len(opened) == (pixel_format == "yuv420p")


# Recordings that were cut without encoding them again


def cut(source, target, skip: int) -> None:
    """Copy all packets but the first `skip`, or for MP4 all, with times before 0, which makes an edit list."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        shift = int(skip / 30 / stream.time_base) if target.suffix == ".mp4" else 0
        for number, packet in enumerate(old.demux(stream)):
            if packet.dts is not None and (shift or number >= skip):
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                new.mux(packet)


@pytest.mark.parametrize("skip", [6, 15, 30])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_cut_recordings_give_what_a_player_shows(tmp_path, name, skip):
    cut(encode(tmp_path / f"whole_{name}", numbered(range(60))), tmp_path / name, skip)
    shown = all_frames(tmp_path / name)
    assert len(shown) <= 60 - skip
    assert probe(tmp_path / name).num_frames == len(shown)
    np.testing.assert_array_equal(read_frames(tmp_path / name, range(len(shown))), shown)


def test_a_title_in_latin_1_is_no_fault(tmp_path):
    path = encode(tmp_path / "clip.mp4", numbered(range(5)), metadata={"title": "TITLE"})
    path.write_bytes(path.read_bytes().replace(b"TITLE", b"caf\xe9\xff"))
    assert numbers_in(read_frames(path, [4])) == [4]


# Files that are no videos


def test_an_unknown_codec_is_named(tmp_path):
    path = encode(tmp_path / "clip.mp4", numbered(range(5)))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(OSError, match=r"clip\.mp4 holds a video in a codec .*does not know"):
        probe(path)


@pytest.mark.parametrize("contents", [b"", b"not a video at all" * 100, bytes(5000)])
def test_what_is_no_video_is_refused(tmp_path, contents):
    path = tmp_path / "clip.mp4"
    path.write_bytes(contents)
    for source, name in ((path, r"clip\.mp4"), (contents, "the video")):
        with pytest.raises(OSError, match=rf"{name} is empty, cut short, or no video"):
            probe(source)


@pytest.mark.parametrize("kept", [0.95, 0.5, 0.05])
@pytest.mark.parametrize(("name", "options"), [("clip.mp4", {}), ("fast.mp4", {"movflags": "faststart"})])
def test_a_file_cut_short_is_refused(tmp_path, name, options, kept):
    whole = encode(tmp_path / "whole.mp4", numbered(range(50)), options=options).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(OSError, match=rf"{name} .*cut short"):
        read_frames(path, [0])


def test_a_file_cut_before_its_first_frame_is_refused(tmp_path):
    whole = encode(
        tmp_path / "whole.avi", numbered([5]), codec="mjpeg", pixel_format="yuvj422p", b_frames=0
    ).read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: whole.index(b"movi") + 60])
    with pytest.raises(OSError, match=r"cut\.avi .*cut short"):
        read_frames(path, [0])


def test_of_a_stream_cut_short_what_is_there_counts(tmp_path):
    """Matroska does not store its number of frames, so a part of a file is a valid file."""
    whole = encode(tmp_path / "whole.mkv", numbered(range(50)), codec="mjpeg", pixel_format="yuvj420p", b_frames=0)
    path = tmp_path / "clip.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    info = probe(path)
    assert 20 < info.num_frames < 30
    assert numbers_in(read_frames(path, [info.num_frames - 2])) == [info.num_frames - 2]


@pytest.mark.parametrize(("name", "codec"), [("sound.wav", "pcm_s16le"), ("sound.mkv", "pcm_s16le")])
def test_sound_alone_is_refused(tmp_path, name, codec):
    with pytest.raises(ValueError, match=r"holds no video, only audio"):
        probe(encode_sound(tmp_path / name, codec))


def test_missing_files_and_other_types_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no video file at .*gone\.mp4"):
        probe(tmp_path / "gone.mp4")
    with pytest.raises(FileNotFoundError, match="no video file"):
        probe(tmp_path)
    with pytest.raises(TypeError, match="got int"):
        probe(3)


@pytest.mark.parametrize("indices", [[50], [-1], [0, 99]])
def test_frames_outside_the_video_are_refused(clip, indices):
    with pytest.raises(IndexError, match="has frames 0 to 49"):
        read_frames(clip, indices)


@pytest.mark.parametrize("indices", [[], [0.5], [[1, 2]], ["1"]])
def test_positions_are_whole_numbers(clip, indices):
    with pytest.raises(ValueError, match="expected a list of positions"):
        read_frames(clip, indices)


def test_files_are_closed(clip):
    with VideoReader(clip) as reader:
        reader.read([0])
    with pytest.raises((OSError, AssertionError, ValueError)):
        reader.read([0])


def test_without_pyav_the_error_says_what_to_install(clip, monkeypatch):
    monkeypatch.setattr(decoding, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'hf_vits\[video\]'"):
        probe(clip)
