"""List the systems that can be converted or, with SYSTEM, its published variants.

The numbers of parameters are counted on models built on the meta device. If published checkpoints differ in their
classes, the number is for ImageNet's 1,000.

  hf-vits list
  hf-vits list cct
  hf-vits list vit --json
"""

import argparse
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("system", nargs="?", metavar="SYSTEM", help="list the variants of this system")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    from hf_vits import conversion
    from hf_vits.hub.facts import FACTS

    from .models import describe_size, variant_model

    if args.system is None:
        names = {name: conversion.variants(name) for name in conversion.SYSTEMS}
        return {
            "systems": [
                {
                    "system": name,
                    "title": FACTS[name].title,
                    "variants": len(variants),
                    "code": FACTS[name].repositories,
                }
                for name, variants in names.items()
            ]
        }
    bar = tqdm(conversion.variants(args.system), "Counting parameters", unit="variant", leave=False, disable=None)
    return {
        "system": args.system,
        "variants": [{"variant": name, **describe_size(variant_model(args.system, name))} for name in bar],
    }


def show(result: dict[str, Any]) -> None:
    from .tables import print_table

    if "systems" in result:
        rows = [(row["system"], row["title"], row["variants"], " ".join(row["code"])) for row in result["systems"]]
        print_table(("system", "architecture", "variants", "original code"), rows)
        return
    rows = [(row["variant"], row["parameters"], row["input"], row["classes"]) for row in result["variants"]]
    print_table(("variant", "parameters", "input", "classes"), rows, title=result["system"])
