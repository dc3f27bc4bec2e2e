"""List the systems that can be converted or, with SYSTEM, its published variants.

The numbers of parameters are counted on models built on the meta device. If published checkpoints differ in their
classes, the number is for ImageNet's 1,000.

  hf-vits list
  hf-vits list --task video-classification --licence apache-2.0
  hf-vits list cct
  hf-vits list vit --json
"""

import argparse
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("system", nargs="?", metavar="SYSTEM", help="list the variants of this system")
    parser.add_argument("--task", help="list only systems of this task")
    parser.add_argument("--licence", help="list only systems whose original weights have this licence")


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.system is None:
        return {"systems": systems(args.task, args.licence)}
    if args.task or args.licence:
        raise ValueError("--task and --licence choose among systems; leave SYSTEM out")
    from tqdm import tqdm

    from hf_vits import conversion

    from .models import describe_size, variant_model

    bar = tqdm(conversion.variants(args.system), "Counting parameters", unit="variant", leave=False, disable=None)
    return {
        "system": args.system,
        "variants": [{"variant": name, **describe_size(variant_model(args.system, name))} for name in bar],
    }


def systems(task: str | None, licence: str | None) -> list[dict[str, Any]]:
    """Return the systems from their facts alone, without importing PyTorch; ValueError for an unknown filter."""
    from hf_vits.hub.facts import FACTS, variant_counts

    rows = [
        {
            "system": name,
            "title": FACTS[name].title,
            "variants": count,
            "task": FACTS[name].task,
            "licence": FACTS[name].licence,
            "code": FACTS[name].repositories,
        }
        for name, count in variant_counts().items()
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
    rows = [(row["variant"], row["parameters"], row["input"], row["classes"]) for row in result["variants"]]
    print_table(("variant", "parameters", "input", "classes"), rows, title=result["system"])
