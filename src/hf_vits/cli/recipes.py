"""List the recipes of the package with what they train and reached, or copy one as the start of an own one.

`hf-vits train NAME` trains one without a copy. Recipes can be chosen by task, architecture and data.

  hf-vits recipes
  hf-vits recipes --task video-classification
  hf-vits recipes --architecture cct --data fashion_mnist
  hf-vits recipes copy demo_digits
  hf-vits recipes copy cct_fashion_mnist clothes.yaml
"""

import argparse
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "copy"), default="list", help="(default: list)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="recipe to copy")
    parser.add_argument("path", nargs="?", metavar="FILE", type=Path, help="new file (default: NAME.yaml)")
    for option in ("task", "architecture", "data"):
        parser.add_argument(f"--{option}", help=f"list only recipes of this {option.replace('data', 'data source')}")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from hf_vits.recipe import library

    wanted = {key: value for key in ("task", "architecture", "data") if (value := getattr(args, key)) is not None}
    if args.action == "copy":
        if args.name is None or wanted:
            raise ValueError("hf-vits recipes copy NAME [FILE] takes the name of a recipe and no filters")
        return {"copied": args.name, "file": str(library.copy(args.name, args.path))}
    if args.name is not None:
        raise ValueError("hf-vits recipes list takes only --task, --architecture and --data")
    found = [asdict(library.describe(name)) for name in library.names()]
    for key, value in wanted.items():
        known = sorted({row[key] for row in found})
        if value not in known:
            raise ValueError(f"no recipe has the {key} {value!r}; there are {', '.join(known)}")
    return {"recipes": [row for row in found if all(row[key] == value for key, value in wanted.items())]}


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts, print_table

    if "copied" in result:
        print_facts(result.items())
        return
    columns = ("name", "task", "architecture", "data", "summary")
    print_table(columns, [tuple(row[column] for column in columns) for row in result["recipes"]])
