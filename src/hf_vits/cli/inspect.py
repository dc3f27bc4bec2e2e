"""Report what image models have learned, from a folder of images: tables, pictures, and one page to click through.

MODEL is the folder of a saved model or a repository on the Hub: of hf_vits, of transformers (ViT, DeiT, DINOv2, CLIP,
Swin, ResNet and others) or of timm. Several models stand side by side.

The sections, from cheap to dear: predictions; attention heads by block; attention over images; skip connections;
similarity of layers (CKA); components and correspondences of patch descriptors; linear probes; occlusion and shuffled
patches; corruptions; neurons. What does not fit the model, the images or the time is left out, and the page says why.
Without labels, robustness is how often the class stays that of the clean image.

REPORT is a folder; open its index.html. A second run with the same folder adds what is missing.

  hf-vits inspect user/cct-digits --images scans --out report
  hf-vits inspect user/dino-vit-small user/mae-vit-base --images photos --out report --minutes 30
  hf-vits inspect runs/flowers --images photos/test --labels --out report
"""

import argparse
import time
from pathlib import Path
from typing import Any

from .numbers import above_zero, positive


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="MODEL", nargs="+", help="folder or Hub repository")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="images, at any depth")
    parser.add_argument("--labels", action="store_true", help="the folder has a folder for each class")
    parser.add_argument("--out", type=Path, required=True, metavar="REPORT", help="folder to write")
    parser.add_argument(
        "--minutes", type=above_zero, default=10.0, metavar="N", help="time that sections may take (default: 10)"
    )
    parser.add_argument(
        "--most-images",
        type=positive,
        default=128,
        metavar="N",
        help="of more images, N are taken evenly (default: 128)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    from hf_vits.inspection.report import FAILED, PAGE, inspect
    from hf_vits.inspection.study import find_images, make_subject, short_names

    from .models import load_image_model

    images = find_images(args.images, args.labels, args.most_images)
    subjects = [
        make_subject(name, source, *load_image_model(source), images)
        for name, source in zip(short_names(args.models), args.models, strict=True)
    ]
    report = inspect(subjects, images, args.out, args.minutes, started)
    page = args.out / PAGE
    failed = [f"{result['title']}: {result['reason']}" for result in report["sections"] if result["status"] == FAILED]
    if failed:
        raise RuntimeError(f"{page} lacks {len(failed)} sections that failed: {'; '.join(failed)}")
    return {
        "page": str(page),
        "images": len(images.paths),
        "left_out": images.left_out,
        "sections": [
            {key: result.get(key) for key in ("name", "title", "status", "reason", "seconds")}
            for result in report["sections"]
        ],
    }


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts, print_table

    rows = [(row["title"], row["status"], row["seconds"], row["reason"]) for row in result["sections"]]
    print_table(("section", "", "s", "why"), rows)
    for file, why in list(result["left_out"].items())[:10]:
        print(f"left out: {file}: {why}")
    if len(result["left_out"]) > 10:
        print(f"left out: {len(result['left_out']) - 10:,} more files")
    print_facts([("images", result["images"]), ("page", result["page"])])
