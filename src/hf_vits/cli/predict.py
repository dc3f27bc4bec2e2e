"""Classify image files, and those found in folders at any depth.

MODEL is the folder of a saved image classifier or a repository on the Hub. Every file is decoded before the first is
classified; unreadable ones are named and counted and end the command, unless --skip-unreadable leaves them out.

  hf-vits predict user/cct-digits scan.png
  hf-vits predict runs/demo_digits scans/ more/ --top-k 3 --json
  hf-vits predict runs/demo_digits scans/ --skip-unreadable --figure predictions.png
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOST_DRAWN = 48
_MOST_NAMED = 10


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or Hub repository")
    parser.add_argument("images", metavar="IMAGE_OR_FOLDER", nargs="+", type=Path)
    parser.add_argument("--top-k", type=positive, default=5, metavar="K", help="classes per image (default: 5)")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images at a time (default: 32)")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    parser.add_argument("--figure", type=Path, metavar="PNG", help=f"draw the first {_MOST_DRAWN} images there")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def run(args: argparse.Namespace) -> dict[str, Any]:
    from .models import load_classifier

    paths = find_images(args.images)
    unreadable = check_readable(paths, args.skip_unreadable)
    model, processor = load_classifier(args.model)
    readable = [path for path in paths if path not in unreadable]
    predictions = list(classify(model, processor, readable, args.top_k, args.batch_size))
    if args.figure:
        draw(predictions[:_MOST_DRAWN], args.figure)
    return {
        "model": args.model,
        "predictions": predictions,
        "unreadable": [{"file": str(path), "problem": problem} for path, problem in unreadable.items()],
    }


def find_images(arguments: list[Path]) -> list[Path]:
    """Files as they are named, and the image files of folders, each once."""
    from torchvision.datasets.folder import has_file_allowed_extension

    from hf_vits.training.folder import IMG_EXTENSIONS

    found: dict[Path, None] = {}
    for argument in arguments:
        if argument.is_dir():
            inside = [path for path in sorted(argument.rglob("*")) if path.is_file()]
            images = [path for path in inside if has_file_allowed_extension(path.name, IMG_EXTENSIONS)]
            if not images:
                raise FileNotFoundError(
                    f"{argument} has no image files ({' '.join(IMG_EXTENSIONS)}) among its {len(inside)} files"
                )
            found |= dict.fromkeys(images)
        elif argument.is_file():
            found[argument] = None
        else:
            raise FileNotFoundError(f"there is no file or folder {argument}")
    return list(found)


def check_readable(paths: list[Path], skip: bool) -> dict[Path, str]:
    """{unreadable file: why it cannot be decoded}; OSError that names them unless they are to be skipped."""
    from hf_vits.training.folder import find_unreadable

    unreadable = find_unreadable(paths)
    named = "; ".join(f"{path}: {problem}" for path, problem in list(unreadable.items())[:_MOST_NAMED])
    more = f"; and {len(unreadable) - _MOST_NAMED} more" if len(unreadable) > _MOST_NAMED else ""
    found = f"{len(unreadable)} of {len(paths)} image file(s) cannot be read: {named}{more}"
    if len(unreadable) == len(paths) or (unreadable and not skip):
        raise OSError(found if skip else f"{found}. Repair them, or pass --skip-unreadable to leave them out")
    if unreadable:
        print(f"skipping: {found}", file=sys.stderr)
    return unreadable


def classify(model, processor, paths: list[Path], top_k: int, batch_size: int) -> Iterator[dict[str, Any]]:
    """{file, predictions: [{label, score}, ...]} of each image, most probable class first."""
    import torch
    from tqdm import tqdm
    from transformers.image_utils import load_image

    from .models import image_mode

    mode = image_mode(model)
    top_k = min(top_k, model.config.num_labels)
    with torch.inference_mode(), tqdm(total=len(paths), desc="Classifying", unit="image", disable=None) as bar:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            images = [load_image(str(path)).convert(mode) for path in batch]
            pixel_values = processor(images, return_tensors="pt")["pixel_values"].to(model.device, model.dtype)
            scores, classes = model(pixel_values).logits.float().softmax(-1).topk(top_k)
            for path, row, indices in zip(batch, scores.tolist(), classes.tolist(), strict=True):
                ranked = zip(indices, row, strict=True)
                labels = [{"label": model.config.id2label[index], "score": score} for index, score in ranked]
                yield {"file": str(path), "predictions": labels}
            bar.update(len(batch))


def draw(predictions: list[dict[str, Any]], figure: Path) -> None:
    from transformers.image_utils import load_image

    from hf_vits.training.figures import Prediction, draw_predictions

    best = [(load_image(row["file"]), row["predictions"][0]) for row in predictions]
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw_predictions([Prediction(image, None, top["label"], top["score"]) for image, top in best], figure)


def show(result: dict[str, Any]) -> None:
    from .tables import print_table

    rows = [
        (row["file"], ", ".join(f"{entry['label']} {entry['score']:.1%}" for entry in row["predictions"]))
        for row in result["predictions"]
    ]
    print_table(("file", "classes, most probable first"), rows)
