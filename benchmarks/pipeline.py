"""Time to prepare images for training and evaluation, beside timm's transforms and decoding alone.

    python -m benchmarks.pipeline [--work WORK] [--json FILE] [--seconds S]

The images are 500x375 JPEG files, cut from photographs. A step opens and prepares the next ones, in one thread, as in
a worker of a `DataLoader`: for training with DeiT's recipe (bicubic random resized crop to 224 pixels, flip,
RandAugment, normalisation, erasing), each image by itself; for evaluation (resize to 256, centre crop) in batches of
32. timm's RandAugment fails on some images with newer versions of Pillow; these are counted. A row per work:

    work                       "training" or "evaluation"
    ours_ms, peers_ms          median milliseconds per batch, of the others {name: milliseconds}; "decoding" is
                               `Image.open(...).convert("RGB")` alone, and no peer
    ratio, ratio_quartiles     our time divided by timm's, and the quartiles of this over the rounds
    rounds                     number of rounds
    images_per_second          that ours prepares
    timm_failures              number of images
"""

import argparse
import io
import itertools
import statistics
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from timm.data import create_transform

from hf_vits.data.splits import Split
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.processing.opening import open_image
from hf_vits.recipe import AugmentationRecipe, RandAugmentRecipe
from hf_vits.training.examples.batches import SampleKey
from hf_vits.training.examples.image_augmentation import training_transform
from hf_vits.training.examples.images import EvaluationImages, TrainingImages

from . import commands
from .rounds import interleave, summarize
from .steps import Step

WORKS = ("training", "evaluation")
BATCH_SIZE, NUM_IMAGES = 32, 64
WIDTH, HEIGHT = 500, 375
DEIT = AugmentationRecipe(
    crop_scale=[0.08, 1.0],
    interpolation="bicubic",
    flip=0.5,
    randaugment=RandAugmentRecipe(ops=2, magnitude=9.0, std=0.5),
    erasing=0.25,
)


class JpegImages:
    """JPEG files in memory, decoded when they are asked for."""

    def __init__(self) -> None:
        draw = np.random.RandomState(0)
        photographs = load_sample_images().images
        self.contents = []
        for index in range(NUM_IMAGES):
            photograph = photographs[index % len(photographs)]
            top, left = draw.randint(photograph.shape[0] - HEIGHT), draw.randint(photograph.shape[1] - WIDTH)
            written = io.BytesIO()
            Image.fromarray(photograph[top : top + HEIGHT, left : left + WIDTH]).save(written, "JPEG", quality=90)
            self.contents.append(written.getvalue())

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, index: int) -> Image.Image:
        return open_image(self.contents[index])

    def plain(self, index: int) -> Image.Image:
        """Decode an image as most data sets do."""
        return Image.open(io.BytesIO(self.contents[index])).convert("RGB")


class Timm:
    """timm's transform of either work, which counts the images on which it fails."""

    def __init__(self, images: JpegImages, work: str) -> None:
        augmented = {"auto_augment": "rand-m9-mstd0.5-inc1", "re_prob": 0.25, "re_mode": "pixel"}
        options = augmented if work == "training" else {"crop_pct": 0.875}
        self.transform = create_transform(
            224, is_training=work == "training", interpolation="bicubic", color_jitter=None, **options
        )
        self.images, self.failures = images, 0

    def __call__(self, indices: list[int]) -> None:
        for index in indices:
            try:
                self.transform(self.images.plain(index))
            except (TypeError, ValueError):
                self.failures += 1


def make_ours(images: JpegImages, work: str) -> Callable[[list[int]], None]:
    """Return a function that prepares the images of a batch."""
    split, processor = Split(images, np.zeros(len(images), dtype=np.int64)), VitsImageProcessor()
    if work == "evaluation":
        return EvaluationImages(split, processor, "RGB").__getitems__
    samples, seeds = TrainingImages(split, training_transform(DEIT, processor, (224, 224)), "RGB"), itertools.count()

    def prepare(indices: list[int]) -> None:
        for index in indices:
            samples[SampleKey(index, next(seeds), mix_seed=None, shared_seed=0, epoch=0)]

    return prepare


def make_step(prepare: Callable[[list[int]], object]) -> Step:
    """Return a function that prepares the next batch."""
    indices = itertools.cycle(range(NUM_IMAGES))

    def step() -> None:
        prepare([next(indices) for _ in range(BATCH_SIZE)])

    return step


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows, in one thread."""
    torch.set_num_threads(1)
    images = JpegImages()

    def measure(work: str, note: Callable[[str], None]) -> dict:
        note("rounds")
        timm = Timm(images, work)
        steps = {
            "ours": make_step(make_ours(images, work)),
            "timm": make_step(timm),
            "decoding": make_step(lambda indices: [images.plain(index) for index in indices]),
        }
        times = interleave(steps, arguments.seconds)
        decoding = statistics.median(times.pop("decoding"))
        row = summarize(times)
        row["peers_ms"]["decoding"] = decoding
        throughput = {"images_per_second": 1e3 * BATCH_SIZE / row["ours_ms"], "timm_failures": timm.failures}
        return {"work": work} | row | throughput

    return commands.measure_all(arguments.work or WORKS, measure, str, arguments.json, console)


def table(rows: list[dict]) -> Table:
    """Return a table of milliseconds per image."""
    columns = ("ours", "timm", "decoding", "ratio", "quartiles", "rounds", "images/s", "timm fails")
    result = commands.make_table("one thread: median ms per image of 500x375 pixels", ("work",), columns)
    for row in rows:
        times = (row["ours_ms"], row["peers_ms"]["timm"], row["peers_ms"]["decoding"])
        cells = (f"{ms / BATCH_SIZE:.2f}" for ms in times)
        rest = (f"{row['images_per_second']:.0f}", str(row["timm_failures"]))
        result.add_row(row["work"], *cells, *commands.ratio_cells(row), *rest)
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = commands.make_parser("pipeline", __doc__)
    parser.add_argument("--work", choices=WORKS, action="append", help="repeatable; default: both")
    commands.add_json(parser)
    parser.add_argument("--seconds", type=float, default=20, help="of timing per row (default: %(default)s)")
    console = Console()
    commands.show(table(run(parser.parse_args(arguments), console)), console)


if __name__ == "__main__":
    main()
