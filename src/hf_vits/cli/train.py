"""Train a model by a recipe, a YAML file that describes model, data, augmentation, optimizer and output.

Arguments key=value change the recipe. A run that was interrupted is resumed when the same command is run again; a
finished run only prints its results, unless train.length has grown. --check builds everything, draws a page of
augmented examples, takes three steps for their time and memory, and stops; --find-learning-rate tries rising learning
rates for a hundred steps, draws their losses and suggests one. On several processes or machines:
`accelerate launch --num_processes 2 -m hf_vits.training RECIPE [key=value ...]`.

  hf-vits train demo_digits
  hf-vits train recipes/demo_digits.yaml
  hf-vits train recipes/demo_digits.yaml train.length="5 epochs" output.directory=runs/short
  hf-vits train recipes/demo_digits.yaml --check
  hf-vits train recipes/demo_digits.yaml --find-learning-rate
  hf-vits train recipes/cct_fashion_mnist.yaml output.push_to_hub=user/cct-fashion
"""

import argparse
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="file, or the name of a recipe that `hf-vits recipes` lists")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="keys of the recipe, such as train.seed=1")
    trial = parser.add_mutually_exclusive_group()
    trial.add_argument("--check", action="store_true", help="build everything, draw examples, take three steps, stop")
    trial.add_argument("--find-learning-rate", action="store_true", help="suggest a learning rate, and stop")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.training import train

    if args.check or args.find_learning_rate:
        from hf_vits.training.trial import check, find_learning_rate

        return (check if args.check else find_learning_rate)(args.recipe, args.overrides)
    return train(args.recipe, args.overrides)


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts, print_table

    splits = {name: metrics for name, metrics in result.items() if isinstance(metrics, dict)}
    print_facts((name.replace("_", " "), value) for name, value in result.items() if name not in splits)
    columns = list(dict.fromkeys(name for metrics in splits.values() for name in metrics))
    if not splits:
        return
    rows = [(split, *(metrics.get(name) for name in columns)) for split, metrics in splits.items()]
    print_table(("", *columns), rows)
