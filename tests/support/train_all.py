"""Train several recipes one after the other: `accelerate launch -m tests.support.train_all RECIPE...`."""

import sys

from hf_vits.training import train

for recipe in sys.argv[1:]:
    train(recipe)
