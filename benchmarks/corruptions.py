"""The 15 corruptions of ImageNet-C beside the imagecorruptions package, in interleaved rounds of two processes.

imagecorruptions 1.1.2 does not run with today's NumPy, scikit-image and setuptools. An environment of its own for it:

  python3.11 -m venv old && old/bin/pip install "numpy<1.25" "scipy<1.11" "setuptools<70" numba \\
      "scikit-image<0.22" opencv-python-headless && old/bin/pip install --no-deps imagecorruptions==1.1.2
  python -m benchmarks.corruptions --python old/bin/python [--images N] [--severity N] [--rounds N] [--json FILE]

64 images of 224 x 224, smooth random pictures, on one thread. Times are the seconds that a process computes. A row for
each corruption and one for all:

    corruption           its name, or "all"
    hf_vits_ms           median milliseconds of the batch
    imagecorruptions_ms  the same of imagecorruptions, image by image
    ratio                median over rounds of their quotient
    largest_difference   in grey levels, where nothing is random; None elsewhere
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hf_vits.analysis.robustness.corruptions import IMAGENET_C, corrupt
from hf_vits.analysis.robustness.filters import gaussian_blur

from . import commands

DETERMINISTIC = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
# scikit-image 0.22 removed the argument `multichannel`, which imagecorruptions 1.1.2 passes.
ORIGINAL = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from imagecorruptions import corrupt, corruptions

gaussian = corruptions.gaussian
corruptions.gaussian = lambda image, *sizes, multichannel=False, **options: gaussian(
    image, *sizes, channel_axis=-1 if multichannel else None, **options)
images = np.load(sys.argv[1])
for name, severity in map(json.loads, sys.stdin):
    start = time.process_time()
    result = np.stack([corrupt(image, corruption_name=name, severity=severity) for image in images])
    seconds = time.process_time() - start
    np.save(sys.argv[2], result)
    print(json.dumps(seconds), flush=True)
"""


def pictures(count: int, side: int = 224) -> torch.Tensor:
    """Return smooth random pictures (count, 3, side, side), uint8, with edges."""
    generator = torch.Generator().manual_seed(0)
    smooth = gaussian_blur(torch.randn(count, 3, side, side, generator=generator), 6)
    smooth = smooth / smooth.std() * 60 + 128 + 40 * (smooth > 0)
    return smooth.clamp(0, 255).to(torch.uint8)


class Original:
    """A process that runs imagecorruptions.

    Args:
        python: interpreter of an environment that has it.
        images: (count, 3, height, width), uint8.
    """

    def __init__(self, python: str, images: torch.Tensor, folder: Path):
        self.result = folder / "result.npy"
        np.save(folder / "images.npy", images.permute(0, 2, 3, 1).numpy())
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.process: Any = subprocess.Popen(
            [python, "-c", ORIGINAL, str(folder / "images.npy"), str(self.result)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | threads,
        )

    def __call__(self, name: str, severity: int) -> float:
        """Corrupt all images and return the seconds that it took."""
        self.process.stdin.write(json.dumps([name, severity]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process of imagecorruptions ended: see its message above")
        return json.loads(line)


def measure(python: str, images: torch.Tensor, severity: int, rounds: int) -> list[dict]:
    """Return a row for each corruption and one for all together."""
    generator = torch.Generator().manual_seed(0)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in IMAGENET_C}
    differences: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        original = Original(python, images, Path(folder))
        try:
            for number in range(-1, rounds):  # the first warms up: numba compiles, ice is drawn
                for name in IMAGENET_C:
                    theirs = original(name, severity)
                    start = time.process_time()
                    corrupted = corrupt(images, name, severity, generator)
                    ours = time.process_time() - start
                    if number >= 0:
                        times[name].append((ours, theirs))
                    elif name in DETERMINISTIC:
                        result = np.load(original.result).astype(int)
                        differences[name] = int(np.abs(result - corrupted.permute(0, 2, 3, 1).numpy()).max())
        finally:
            original.process.kill()
    times["all"] = [tuple(map(sum, zip(*pairs, strict=True))) for pairs in zip(*times.values(), strict=True)]
    return [
        {
            "corruption": name,
            "hf_vits_ms": 1000 * statistics.median(ours for ours, _ in pairs),
            "imagecorruptions_ms": 1000 * statistics.median(theirs for _, theirs in pairs),
            "ratio": statistics.median(ours / theirs for ours, theirs in pairs),
            "largest_difference": differences.get(name),
        }
        for name, pairs in times.items()
    ]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = commands.make_parser("corruptions", __doc__)
    parser.add_argument("--python", required=True, help="interpreter of an environment with imagecorruptions")
    parser.add_argument("--images", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--severity", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    commands.add_json(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> list[dict]:
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    rows = measure(options.python, pictures(options.images), options.severity, options.rounds)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


if __name__ == "__main__":
    main()
