"""Train a model by a recipe, a YAML file that describes model, data, augmentation, optimizer and output.

Arguments key=value change the recipe. A run that was interrupted is resumed when the same command is run again; a
finished run only prints its results. On several processes or machines:
`accelerate launch --num_processes 2 -m hf_vits.training RECIPE [key=value ...]`.

  hf-vits train recipes/demo_digits.yaml
  hf-vits train recipes/demo_digits.yaml train.length="5 epochs" output.directory=runs/short
  hf-vits train recipes/cct_fashion_mnist.yaml output.push_to_hub=user/cct-fashion
"""

import argparse
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="keys of the recipe, such as train.seed=1")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.training import train

    return train(args.recipe, args.overrides)


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts, print_table

    splits = {name: metrics for name, metrics in result.items() if isinstance(metrics, dict)}
    print_facts((name.replace("_", " "), value) for name, value in result.items() if name not in splits)
    columns = list(dict.fromkeys(name for metrics in splits.values() for name in metrics))
    rows = [(split, *(metrics.get(name) for name in columns)) for split, metrics in splits.items()]
    print_table(("", *columns), rows)
