"""Classify, segment or transcribe files, find the objects in them or predict numbers; folders are read at any depth.

MODEL is the folder of a saved model or a repository on the Hub; it determines whether the files are images, videos or
recordings. Of a model of semantic segmentation, a mask (a palette PNG of class numbers) and an overlay of each image
are written to the folder of --masks. If some files cannot be read, the command ends with an error that lists them all,
or leaves them out with --skip-unreadable; videos and recordings are checked before the first is classified.

  hf-vits predict user/cct-digits scan.png
  hf-vits predict runs/demo_digits scans/ more/ --top-k 3 --json
  hf-vits predict runs/demo_digits scans/ --skip-unreadable --figure predictions.png
  hf-vits predict runs/c_tran_scenes scene.png --known digit_3=yes --known letter_a=no
  hf-vits predict runs/scenes_upernet photos/ --masks masks/ --figure segments.png
  hf-vits predict runs/retina_net_scenes photos/ --threshold 0.3 --figure objects.png --coco objects.json
  hf-vits predict runs/moving_digits_mvit clip.mp4 --figure clip.png
  hf-vits predict runs/speaking_digits_vatt clips/ --label three --label "the digit nine"
  hf-vits predict runs/keywords recording.wav --window 1 --figure over_time.png
  hf-vits predict runs/spoken_digits talks/ --beams 16
"""

import argparse
import itertools
import math
from pathlib import Path
from typing import Any

from .numbers import above_zero, positive, score

_THRESHOLD = 0.5  # score of the objects that are shown


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or Hub repository")
    parser.add_argument("files", metavar="FILE_OR_FOLDER", nargs="+", type=Path)
    parser.add_argument("--top-k", type=positive, default=5, metavar="K", help="classes per file (default: 5)")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="inputs per batch (default: 32; for clips of videos and for detectors an eighth of N)",
    )
    parser.add_argument(
        "--window",
        type=above_zero,
        metavar="SECONDS",
        help="length of the windows that longer recordings are cut into",
    )
    parser.add_argument(
        "--beams", type=positive, default=1, metavar="N", help="width of the beam search for speech (default: 1)"
    )
    parser.add_argument(
        "--known",
        type=known,
        action="append",
        default=[],
        metavar="LABEL=yes|no",
        help="a label that is known of all images, for models such as C-Tran (may be given several times)",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME",
        help="a class in words, for models that compare videos with texts, such as VATT (given several times)",
    )
    parser.add_argument(
        "--masks", type=Path, metavar="FOLDER", help="where masks and overlays of images go (default: masks)"
    )
    parser.add_argument(
        "--threshold", type=score, metavar="SCORE", help="score above which objects are shown (default: 0.5)"
    )
    parser.add_argument("--coco", type=Path, metavar="JSON", help="write objects to this file in COCO's format")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw inputs and predictions to this file")


def known(text: str) -> tuple[str, float]:
    """Return a label and 1 or 0 of text such as red=yes."""
    from hf_vits.data.label_columns import state_of

    label, equals, state = text.rpartition("=")
    try:
        value = state_of(state) if equals and label else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"must be LABEL=yes or LABEL=no, got {text!r}")
    return label, value


def run(args: argparse.Namespace) -> dict[str, Any]:
    from .models import class_of, load_config
    from .prediction import check_readable, find_files, kind_of

    kind = kind_of(args.model, class_of(load_config(args.model)))
    if args.known and not kind.__name__.endswith(".images"):
        raise ValueError(f"--known is for images, but {args.model} is no model of images")
    if args.masks and not kind.__name__.endswith(".segmentation"):
        raise ValueError(f"--masks is for semantic segmentation, but {args.model} segments no images")
    by_names = kind.__name__.endswith(".by_names")
    if by_names and (len(args.label) < 2 or args.figure):
        raise ValueError(
            f"{args.model} compares videos with texts: name two classes or more by --label NAME, without --figure, "
            f"got {len(args.label)}"
        )
    if args.label and not by_names:
        raise ValueError(f"--label is for models that compare videos with texts; {args.model} has classes of its own")
    is_detector = kind.__name__.endswith(".objects")
    if (args.coco or args.threshold is not None) and not is_detector:
        raise ValueError(f"--coco and --threshold are for detectors, but {args.model} is none")
    if args.threshold is None:
        args = argparse.Namespace(**vars(args) | {"threshold": _THRESHOLD})
    paths = find_files(args.files, kind.MEDIA)
    unreadable = check_readable(paths, kind.MEDIA, args.skip_unreadable) if kind.CHECKED_FIRST else {}
    try:
        predictions = kind.predict(args, [path for path in paths if path not in unreadable])
    except OSError:
        found = {} if kind.CHECKED_FIRST else check_readable(paths, kind.MEDIA, args.skip_unreadable)
        if not found:
            raise
        unreadable = found
        predictions = kind.predict(args, [path for path in paths if path not in unreadable])
    return {
        "model": args.model,
        "predictions": predictions,
        "unreadable": [{"file": str(path), "problem": problem} for path, problem in unreadable.items()],
    }


def show(result: dict[str, Any]) -> None:
    from .tables import print_table

    if any("numbers" in row for row in result["predictions"]):
        show_numbers(result["predictions"])
        return
    rows = [(row["file"], described(row)) for row in result["predictions"]]
    titles = {"text": "text", "areas": "classes, largest first", "objects": "objects, by falling score"}
    found = (title for key, title in titles.items() if any(key in row for row in result["predictions"]))
    print_table(("file", next(found, "classes, most probable first")), rows)
    for row in result["predictions"]:
        if "windows" in row:
            print_table(("from, s", "to, s", "class", "score"), stretches(row["windows"]), title=row["file"])


def show_numbers(predictions: list[dict[str, Any]]) -> None:
    """Print a table of the predicted numbers of each file, and of each window of files with several."""
    from .tables import print_table

    names = list(predictions[0]["numbers"])
    print_table(("file", *names), [(row["file"], *row["numbers"].values()) for row in predictions])
    for row in predictions:
        if "windows" in row:
            rows = [(one["start"], one["end"], *one["numbers"].values()) for one in row["windows"]]
            print_table(("from, s", "to, s", *names), rows, title=row["file"])


def stretches(windows: list[dict[str, Any]]) -> list[tuple[float, float, str, float]]:
    """Join successive windows with the same class to (start, end, class, mean score)."""
    found = []
    for label, group in itertools.groupby(windows, lambda window: window["label"]):
        same = list(group)
        score = sum(window["score"] for window in same) / len(same)
        found.append((round(same[0]["start"], 2), round(same[-1]["end"], 2), label, score))
    return found


def described(row: dict[str, Any]) -> str:
    """Return the text of a file, its largest classes and its mask, its objects, or its best classes with scores."""
    if "text" in row:
        return row["text"]
    if "areas" in row:
        listed = [f"{area['label']} {area['fraction']:.1%}" for area in row["areas"]]
        return f"{', '.join(listed)}; {row['mask']}"
    if "objects" in row:
        return ", ".join(f"{item['label']} {item['score']:.1%}" for item in row["objects"]) or "nothing"
    questions = row["heads"].values() if "heads" in row else [row["predictions"]]
    return "; ".join(", ".join(f"{entry['label']} {entry['score']:.1%}" for entry in best) for best in questions)
