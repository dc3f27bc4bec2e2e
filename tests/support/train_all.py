"""Train several recipes one after the other: `accelerate launch -m tests.support.train_all RECIPE...`."""

import sys

from accelerate import PartialState

from hf_vits.training import train
from hf_vits.training.launch import missing_processes, start_processes

if __name__ == "__main__":
    if count := missing_processes():
        start_processes(count, "tests.support.train_all", sys.argv[1:])
    else:
        for recipe in sys.argv[1:]:
            train(recipe)
        PartialState().destroy_process_group()
