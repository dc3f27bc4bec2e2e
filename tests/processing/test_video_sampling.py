"""Sampling of clips: equality with the originals, bounds of random clips, and refused arguments."""

import numpy as np
import pytest
import torch

from hf_vits.processing.sampling import CONVENTIONS, sample_indices, sample_random_indices

# (frames in the video, its rate, frames in a clip, distance, clips) and what slowfast/datasets/decoder.py takes with
# USE_OFFSET_SAMPLING of a file in which frames are equally long.
SLOWFAST = {
    (300, 30, 16, 4, 2): [
        [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63],
        [236, 240, 244, 248, 252, 257, 261, 265, 269, 273, 278, 282, 286, 290, 294, 299],
    ],
    (250, 25, 16, 4, 1): [[98, 101, 104, 108, 111, 115, 118, 122, 125, 129, 132, 136, 139, 143, 146, 150]],
    (40, 30, 16, 4, 1): [[0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 39, 39, 39, 39, 39, 39]],
    (60, 24, 16, 4, 1): [[4, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40, 44, 47, 50, 54]],
    (600, 60, 8, 8, 2): [[0, 18, 36, 54, 72, 90, 108, 127], [472, 490, 508, 526, 544, 562, 580, 599]],
    (299, 30000 / 1001, 8, 12, 1): [[101, 114, 128, 141, 155, 168, 182, 195]],
}


@pytest.mark.parametrize("case", SLOWFAST, ids=str)
def test_slowfast_takes_what_the_original_takes(case):
    total, fps, num_frames, rate, num_clips = case
    found = sample_indices(total, fps, num_frames, rate, "slowfast", num_clips)
    assert found.tolist() == SLOWFAST[case]


def test_scenic_takes_what_the_original_takes():
    """Expected: first frames of clips of 32, 2 apart, by dmvr's sample_sequence and sample_linspace_sequence."""
    starts = {
        (250, 1): [93],
        (250, 4): [0, 62, 124, 186],
        (100, 4): [0, 12, 24, 36],
        (249, 7): [0, 30, 61, 92, 123, 154, 185],
        (40, 4): [0, 0, 0, 0],
    }
    for (total, num_clips), expected in starts.items():
        found = sample_indices(total, 25, 32, 2, "scenic", num_clips)
        assert found[:, 0].tolist() == expected
        np.testing.assert_array_equal(found, (found[:, :1] + 2 * np.arange(32)) % total)


def test_segments_give_their_middle():
    """Expected: get_seq_frames of slowfast/datasets/ssv2.py for 48 and for 5 frames."""
    middles = [1, 4, 7, 10, 13, 16, 19, 22, 25, 27, 30, 33, 36, 39, 42, 45]
    assert sample_indices(48, 12, 16, convention="slowfast_segments").tolist() == [middles]
    assert sample_indices(5, 12, 8, convention="slowfast_segments").tolist() == [[0, 0, 1, 2, 2, 2, 3, 4]]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("total", [1, 5, 63, 64, 65, 200])
def test_random_clips_are_like_the_others_but_for_their_start(convention, total):
    torch.manual_seed(0)
    clips = np.stack([sample_random_indices(total, 30, 16, 4, convention) for _ in range(200)])
    assert clips.shape == (200, 16)
    assert clips.min() >= 0
    assert clips.max() < total
    fixed = sample_indices(total, 30, 16, 4, convention)[0]
    if convention == "slowfast_segments":
        assert np.abs(clips - fixed).max() <= total / 32 + 1
    elif total >= 64:
        # A start between two frames leaves the original one frame fewer, and the last of the clip is nearer.
        assert (np.diff(clips)[:, :-1] == np.diff(fixed)[:-1]).all()
    room = {"slowfast": total - 64, "slowfast_segments": total / 16, "scenic": total - 61}[convention]
    assert np.ptp(clips[:, 0]) <= max(room, 0) + 1
    assert np.ptp(clips[:, 0]) >= 0.9 * max(room, 0) - 1


def test_random_clips_repeat_with_the_seed():
    for convention in CONVENTIONS:
        torch.manual_seed(7)
        first = sample_random_indices(300, 30, 16, 4, convention)
        torch.manual_seed(7)
        np.testing.assert_array_equal(sample_random_indices(300, 30, 16, 4, convention), first)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"total_num_frames": 0}, "total_num_frames must be a whole number above 0"),
        ({"num_frames": 1.5}, "num_frames must be a whole number"),
        ({"sampling_rate": -1}, "sampling_rate must be"),
        ({"num_clips": 0}, "num_clips must be"),
        ({"fps": 0}, "fps must be above 0"),
        ({"fps": float("nan")}, "fps must be above 0"),
        ({"convention": "uniform"}, "convention must be one of slowfast"),
        ({"convention": "slowfast_segments", "num_clips": 2}, "segments cover the whole video"),
    ],
)
def test_numbers_that_make_no_clip_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        sample_indices(**{"total_num_frames": 100, "fps": 30, "num_frames": 16} | changes)
