"""`accelerate launch -m hf_vits.training RECIPE.yaml [section.key=value ...]`."""

import argparse
import json
import sys

from accelerate import PartialState

from hf_vits.training import train
from hf_vits.training.launch import missing_processes, start_processes


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
