"""`accelerate launch -m hf_vits.training RECIPE.yaml [section.key=value ...]`."""

import argparse
import json
import os
import sys

# By default OpenMP's threads spin while they wait for one another, and on busy cores a step takes many times longer.
# The variable is read once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from accelerate import PartialState

from . import train
from .launch import missing_processes, start_processes


def main() -> None:
    parser = argparse.ArgumentParser(prog="hf_vits.training", description="Train the model of a recipe.")
    parser.add_argument("recipe", help="YAML file of the run")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to it")
    arguments = parser.parse_args()
    if count := missing_processes():
        start_processes(count, "hf_vits.training", sys.argv[1:])
        return
    results = train(arguments.recipe, arguments.overrides)
    if PartialState().is_main_process:
        print(json.dumps(results, indent=2))
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
