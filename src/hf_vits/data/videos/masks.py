"""Videos as folders of frames, with a mask of each frame or with keypoints.

Layouts: DAVIS and YouTube-VOS (objects), VIP (parts of people), JHMDB (keypoints).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hf_vits.data.folders import class_directories, visible_files
from hf_vits.processing.opening import open_image

from ..images import IMAGES

# (folder of the frames, folder of the masks, list of a split's videos); in the folders, one folder per video.
LAYOUTS = (
    ("JPEGImages/480p", "Annotations/480p", "ImageSets/2017/{split}.txt"),
    ("Images", "Annotations/Category_ids", "lists/{split}_videos.txt"),
    ("JPEGImages", "Annotations", "ImageSets/{split}.txt"),
)
SPLITS = {"validation": "val", "test": "val"}  # DAVIS and VIP publish the masks of these
KEYPOINT_FRAMES, KEYPOINTS = "Rename_Images", "joint_positions"


class Frames(Sequence[Image.Image]):
    """The frames of a video in files, opened when they are asked for."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return open_image(self.paths[index], "RGB")


class MaskedVideo(NamedTuple):
    """A video and its masks: frames, and the file of each frame's mask, in order."""

    name: str
    frames: Frames
    mask_files: list[Path]

    def mask(self, index: int) -> np.ndarray:
        """Return the mask of a frame, (height, width) of uint8.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no image of numbers, or of another size than its frame.
        """
        mask = read_mask(self.mask_files[index])
        size = self.frames[index].size[::-1]
        if mask.shape != size:
            raise ValueError(f"{self.mask_files[index]} is of {mask.shape} pixels, its frame of {size}")
        return mask

    def masks(self) -> np.ndarray:
        """Return the masks of all frames, (frames, height, width) of uint8."""
        return np.stack([self.mask(index) for index in range(len(self.frames))])


class PoseVideo(NamedTuple):
    """A video and its keypoints (frames, keypoints, 2), x and y in pixels."""

    name: str
    frames: Frames
    keypoints: np.ndarray


def read_mask(path: Path) -> np.ndarray:
    """Return the numbers in a palette or grey image, (height, width) of uint8."""
    with path.open("rb") as file, Image.open(file) as image:
        if image.mode not in ("P", "L", "1"):
            raise ValueError(f"{path} must be a palette or grey image, whose values number objects, got {image.mode}")
        return np.asarray(image).astype(np.uint8)


def load_masked_videos(root: Path, split: str = "val") -> list[MaskedVideo]:
    """Return the videos of a split of a folder in one of `LAYOUTS`; without a list of the split, all of them.

    Raises:
        FileNotFoundError: the folder has no such layout, or a video has no frames.
        ValueError: a video has not one mask for each frame.
    """
    for frames, masks, listed in LAYOUTS:
        if (root / frames).is_dir() and (root / masks).is_dir():
            names = video_names(root / frames, root / listed.format(split=SPLITS.get(split, split)))
            return [masked_video(name, root / frames / name, root / masks / name) for name in names]
    known = "; ".join(f"{frames} and {masks}" for frames, masks, _ in LAYOUTS)
    raise FileNotFoundError(f"{root} needs a folder of frames and one of masks, with a folder per video: {known}")


def video_names(frames: Path, listed: Path) -> list[str]:
    """Return the names in a list of videos, or where there is no list the names of all folders of frames."""
    if not listed.is_file():
        return [folder.name for folder in class_directories(frames)]
    return [line.split()[0] for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]


def masked_video(name: str, frames: Path, masks: Path) -> MaskedVideo:
    """Return the video in a folder of frames and a folder of masks."""
    files = frame_files(frames)
    mask_files = {path.stem: path for path in visible_files(masks) if path.suffix.lower() == ".png"}
    if lacking := [path for path in files if path.stem not in mask_files]:
        raise ValueError(f"video {name}: {len(lacking)} frames have no mask in {masks}, the first {lacking[0].name}")
    return MaskedVideo(name, Frames(files), [mask_files[path.stem] for path in files])


def frame_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, in the order of their names."""
    files = [path for path in visible_files(folder) if path.name.lower().endswith(IMAGES.endings)]
    if not files:
        raise FileNotFoundError(f"{folder} has no frames ({' '.join(IMAGES.endings)})")
    return files


def load_pose_videos(root: Path) -> list[PoseVideo]:
    """Return the videos of a folder in the layout of JHMDB: Rename_Images and joint_positions, class by class.

    Raises:
        FileNotFoundError: a folder or a file of keypoints is missing.
        ValueError: a video has fewer frames than keypoints.
    """
    from scipy.io import loadmat

    if not (root / KEYPOINT_FRAMES).is_dir():
        raise FileNotFoundError(f"{root} has no {KEYPOINT_FRAMES}: give a folder in the layout of JHMDB")
    videos = []
    for kind in class_directories(root / KEYPOINT_FRAMES):
        for folder in class_directories(kind):
            name = f"{kind.name}/{folder.name}"
            positions = loadmat(root / KEYPOINTS / name / "joint_positions.mat")["pos_img"]  # (2, keypoints, frames)
            keypoints = positions.transpose(2, 1, 0) - 1.0  # MATLAB counts from 1
            files = frame_files(folder)
            if len(files) < len(keypoints):
                raise ValueError(f"video {name} has {len(files)} frames and keypoints of {len(keypoints)}")
            videos.append(PoseVideo(name, Frames(files[: len(keypoints)]), keypoints))
    return videos
