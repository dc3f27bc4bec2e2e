"""List the systems that can be converted or, with SYSTEM, its published variants.

--size, --input and --image-size choose variants, of all systems or of SYSTEM. The numbers of parameters are counted on
models built on the meta device. If published checkpoints differ in their classes, the number is for ImageNet's 1,000.

  hf-vits list
  hf-vits list --task video-classification --licence apache-2.0
  hf-vits list --input image --size ..6M --image-size 224
  hf-vits list cct
  hf-vits list vit --size 20M..100M --json
"""

import argparse
import math
import re
from typing import Any

INPUTS = ("image", "clip", "audio", "text", "several", "arrays")
_UNITS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("system", nargs="?", metavar="SYSTEM", help="list the variants of this system")
    parser.add_argument("--task", help="list only systems of this task")
    parser.add_argument("--licence", help="list only systems whose original weights have this licence")
    parser.add_argument(
        "--size",
        type=size_range,
        metavar="FROM..TO",
        help="list variants with so many parameters: ..6M, 20M..100M or 1B..",
    )
    parser.add_argument("--input", choices=INPUTS, help="list variants that read this")
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="list variants made for images or frames of this size"
    )


def size_range(text: str) -> tuple[float, float]:
    """Return the lowest and highest number of parameters of a text such as 5M..30M."""
    low, dots, high = text.partition("..")
    try:
        bounds = count(low, 0.0), count(high, math.inf)
    except ValueError:
        bounds = None
    if not dots or bounds is None or bounds[0] > bounds[1]:
        raise argparse.ArgumentTypeError(f"must be FROM..TO, such as ..6M, 20M..100M or 1B.., got {text!r}")
    return bounds


def count(text: str, default: float) -> float:
    """Return the number of a text such as 300K, 6M or 1.5B; ValueError for others."""
    if not text:
        return default
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.strip().upper())
    if found is None:
        raise ValueError(text)
    return float(found[1]) * _UNITS[found[2]]


def run(args: argparse.Namespace) -> dict[str, Any]:
    chosen = {key: getattr(args, key) for key in ("size", "input", "image_size") if getattr(args, key) is not None}
    if args.system is None:
        rows = systems(args.task, args.licence)
        return {"variants": variants([row["system"] for row in rows], **chosen)} if chosen else {"systems": rows}
    if args.task or args.licence:
        raise ValueError("--task and --licence choose among systems; leave SYSTEM out")
    from tqdm import tqdm

    from hf_vits import conversion

    from .models import describe_size, variant_model

    names = list(conversion.variants(args.system))
    if chosen:
        names = [row["variant"] for row in variants([args.system], **chosen)]
    bar = tqdm(names, "Counting parameters", unit="variant", leave=False, disable=None)
    return {
        "system": args.system,
        "variants": [{"variant": name, **describe_size(variant_model(args.system, name))} for name in bar],
    }


def variants(
    systems: list[str],
    size: tuple[float, float] = (0.0, math.inf),
    input: str | None = None,
    image_size: int | None = None,
) -> list[dict[str, Any]]:
    """Return the variants of systems that fit, without importing PyTorch.

    Args:
        size: lowest and highest number of parameters.
        input: what they read, one of `INPUTS`.
        image_size: side of their images or frames in pixels.
    """
    from hf_vits.hub.facts import variant_sizes

    sizes = variant_sizes()
    rows = [{"system": name, "variant": variant, **row} for name in systems for variant, row in sizes[name].items()]
    return [
        row
        for row in rows
        if size[0] <= row["parameters"] <= size[1]
        and input in (None, row["input"])
        and (image_size is None or image_size in sides(row["image_size"]))
    ]


def sides(image_size: int | list[int] | None) -> list[int | None]:
    """Return the height and width of an image size of `variant_sizes`."""
    return [*image_size] if isinstance(image_size, list) else [image_size]


def systems(task: str | None, licence: str | None) -> list[dict[str, Any]]:
    """Return the systems from their facts alone, without importing PyTorch; ValueError for an unknown filter."""
    from hf_vits.hub.facts import FACTS, variant_sizes

    rows = [
        {
            "system": name,
            "title": FACTS[name].title,
            "variants": len(sizes),
            "task": FACTS[name].task,
            "licence": FACTS[name].licence,
            "code": FACTS[name].repositories,
        }
        for name, sizes in variant_sizes().items()
    ]
    for key, wanted in (("task", task), ("licence", licence)):
        known = sorted({row[key] for row in rows})
        if wanted is not None and wanted not in known:
            raise ValueError(f"no system has the {key} {wanted!r}; there are {', '.join(known)}")
        rows = [row for row in rows if wanted in (None, row[key])]
    return rows


def show(result: dict[str, Any]) -> None:
    from .tables import print_table

    if "systems" in result:
        rows = [
            (row["system"], row["title"], row["variants"], row["task"], row["licence"], " ".join(row["code"]))
            for row in result["systems"]
        ]
        print_table(("system", "architecture", "variants", "task", "licence", "original code"), rows)
        return
    if "system" not in result:
        rows = [
            (row["system"], row["variant"], row["parameters"], row["input"], row["image_size"])
            for row in result["variants"]
        ]
        print_table(("system", "variant", "parameters", "input", "image size"), rows)
        return
    rows = [(row["variant"], row["parameters"], row["input"], row["classes"]) for row in result["variants"]]
    print_table(("variant", "parameters", "input", "classes"), rows, title=result["system"])
