"""Videos of scanned digits or garments that move over photographs and cover one another, with their masks.

They are written in the layout of DAVIS, so that label propagation can be measured where no video is at hand. The
photographs are scikit-learn's.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from hf_vits.folders import temporary_folder

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128]
FRAMES, MASKS, LIST = "JPEGImages/480p", "Annotations/480p", "ImageSets/2017/val.txt"
INK = 0.35  # level above which a pixel of a scan is part of the object


def moving_objects(
    folder: Path,
    videos: int = 4,
    frames: int = 20,
    size: tuple[int, int] = (96, 128),
    objects: int = 2,
    seed: int = 0,
    scans: np.ndarray | None = None,
) -> Path:
    """Write videos and their masks to a folder, unless it exists, and return the folder.

    The same arguments give the same videos. They are written completely or not at all.

    Args:
        size: (height, width) of a frame in pixels.
        objects: number of objects in each video, 1 to 7; those with larger numbers are in front.
        scans: grey images of the objects (scans, rows, columns), from 0 to 1, such as Fashion-MNIST's garments; None
            for scikit-learn's digits.
    """
    if not 1 <= objects < len(PALETTE) // 3:
        raise ValueError(f"objects must lie between 1 and {len(PALETTE) // 3 - 1}, got {objects}")
    if folder.is_dir():
        return folder
    digits: Any = load_digits()
    scans = digits.images / 16 if scans is None else scans
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent, f".{folder.name}-") as partial:
        for number in range(videos):
            random = np.random.default_rng((seed, number))
            write(partial, f"video{number:03}", *scene(frames, size, objects, scans, random))
        listed = partial / LIST
        listed.parent.mkdir(parents=True)
        listed.write_text("".join(f"video{number:03}\n" for number in range(videos)), encoding="utf-8")
        os.rename(partial, folder)
    return folder


def scene(
    frames: int, size: tuple[int, int], objects: int, scans: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (frames, height, width, 3) and masks (frames, height, width), both of uint8."""
    pictures = np.repeat(photograph(size, random)[None], frames, axis=0)
    masks = np.zeros(pictures.shape[:3], np.uint8)
    for number in range(1, objects + 1):
        side = int(min(size) * random.uniform(0.35, 0.5))
        levels = np.rint(scans[random.integers(len(scans))] * 255).astype(np.uint8)
        levels = np.asarray(Image.fromarray(levels).resize((side, side), Image.Resampling.BILINEAR)) / 255
        texture = photograph((side, side), random)[..., random.permutation(3)] // 2
        texture += random.integers(0, 128, size=3).astype(np.uint8)
        room = np.array(size) - side
        start, speed = random.uniform(0, room), random.uniform(0.015, 0.04, 2) * size * random.choice([-1, 1], 2)
        for time in range(frames):
            top, left = bounce(start + time * speed, room)
            part = np.s_[time, top : top + side, left : left + side]
            masks[part] = np.where(levels > INK, number, masks[part])
            pictures[part] = np.where((levels > INK)[..., None], texture, pictures[part])
    return pictures, masks


def bounce(place: np.ndarray, room: np.ndarray) -> tuple[int, int]:
    """Return a place (row, column), which may lie outside, reflected at 0 and `room`."""
    row, column = np.abs((place + room) % (2 * np.maximum(room, 1)) - room)
    return int(row), int(column)


def photograph(size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Return a random part (height, width, 3) of one of scikit-learn's photographs, at half of its resolution."""
    samples: Any = load_sample_images()
    image = samples.images[random.integers(len(samples.images))][::2, ::2]
    height, width = size
    if height > image.shape[0] or width > image.shape[1]:
        image = np.asarray(Image.fromarray(image).resize((max(width, 320), max(height, 213))))
    top, left = (random.integers(limit - side + 1) for limit, side in zip(image.shape[:2], size, strict=True))
    return image[top : top + height, left : left + width].copy()


def write(folder: Path, name: str, pictures: np.ndarray, masks: np.ndarray) -> None:
    """Write the frames of a video as JPEG and its masks as palette images."""
    for kind in (FRAMES, MASKS):
        (folder / kind / name).mkdir(parents=True)
    for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        Image.fromarray(picture).save(folder / FRAMES / name / f"{number:05}.jpg", quality=95)
        image = Image.fromarray(mask, "P")
        image.putpalette(PALETTE)
        image.save(folder / MASKS / name / f"{number:05}.png")
