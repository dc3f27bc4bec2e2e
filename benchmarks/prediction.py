"""Classification of a folder of JPEGs by `hf-vits predict` and by transformers' image-classification pipeline.

    python -m benchmarks.prediction [--images N] [--rounds N] [--threads N]

The model is a DeiT-Ti at 224 pixels, the images are photographs of 500 x 375 pixels. Both read the same files with the
same weights, in interleaved rounds of one process; the pipeline has the batch size at which it is fastest. Times are
seconds of the CPU, which other processes disturb little, and of the clock.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from transformers import DeiTImageProcessor, ViTConfig, ViTForImageClassification, pipeline

from hf_vits import conversion
from hf_vits.cli.predict import configure
from hf_vits.cli.predict import run as predict

from .commands import make_parser

BATCH_SIZES = (1, 8, 32)
SIZES = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}


def write_photos(folder: Path, count: int) -> list[Path]:
    """Write photographs of 500 x 375 pixels as JPEGs, each another part of a picture, and return their paths."""
    source = Image.fromarray(load_sample_image("china.jpg"))  # 640 x 427
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        left, top = number * 7 % 140, number * 11 % 52
        source.crop((left, top, left + 500, top + 375)).save(path, quality=90)
    return paths


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the CPU and of the clock that a function takes."""
    start = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("prediction", __doc__)
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    command = argparse.ArgumentParser()
    configure(command)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        paths = write_photos(folder / "photos", args.images)
        fields = conversion.variants("deit")["deit_tiny_patch16_224"]
        model = conversion.system("deit").model_class(fields)
        model = model(model.config_class(**fields | {"num_labels": 1000})).eval()
        model.save_pretrained(folder / "ours")
        conversion.processor("deit", "deit_tiny_patch16_224", model).save_pretrained(folder / "ours")
        peer = ViTForImageClassification(ViTConfig(**SIZES, num_labels=1000)).eval()
        classify = pipeline("image-classification", model=peer, image_processor=DeiTImageProcessor())
        runs: dict[str, Callable[[], object]] = {
            "hf-vits predict": lambda: predict(command.parse_args([str(folder / "ours"), str(folder / "photos")]))
        }
        for size in BATCH_SIZES:
            runs[f"pipeline, batches of {size}"] = lambda size=size: classify(list(map(str, paths)), batch_size=size)
        best = {run: (float("inf"), float("inf")) for run in runs}
        for _ in range(args.rounds):
            for label, run in runs.items():
                best[label] = tuple(map(min, best[label], timed(run)))  # pyright: ignore[reportArgumentType]
    for label, (cpu, clock) in best.items():
        print(f"{label}: {cpu:.2f} s of the CPU, {clock:.2f} s of the clock, for {args.images} images")
    own = best["hf-vits predict"]
    for kind, index in (("CPU", 0), ("clock", 1)):
        peers = min(found[index] for label, found in best.items() if label.startswith("pipeline"))
        print(f"by the {kind}, the pipeline takes {peers / own[index]:.2f} times as long")


if __name__ == "__main__":
    main()
