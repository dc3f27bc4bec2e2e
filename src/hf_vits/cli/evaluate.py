"""Measure a model on labelled images, videos or recordings.

--method says how:

  classify       by its own classifier: top-1, top-5, cross-entropy, the confusion matrix
  knn            by the nearest neighbours of its features among training images, as DINO
  linear         by a linear classifier of its frozen features, as DINO or, with --probe mae, as MAE
  low-shot       by a logistic regression of its frozen features, learned from few images, as DINO and iBOT

All but the first are for image models of any kind, such as those that were pretrained without labels, whose encoder
is measured. They compute each image's features once, as it is evaluated; a recipe with `model.probe` trains a linear
classifier on random crops, as the originals do.

DATA is one of

  a folder       with a folder of files per class, named as the model names the class; to learn from features, these
                 can be in folders named train and test, else a fifth of each class is measured
  RECIPE.yaml    the data of a training recipe; --split says which part, by default the test part it held out. Of
                 videos it also says how many views are averaged; otherwise that is one
  digits         scikit-learn's 1,797 scanned digits: all of them, those that a model was trained on included; to
                 learn from features, a fifth of them are measured
  a name         of a dataset that datasets.load_dataset loads; --split says which part

  hf-vits evaluate runs/demo_digits recipes/demo_digits.yaml
  hf-vits evaluate user/cct-cifar10 uoft-cs/cifar10 --split test --json
  hf-vits evaluate runs/flowers photos/test --figure confusion.png
  hf-vits evaluate runs/moving_digits_mvit recipes/moving_digits_mvit.yaml
  hf-vits evaluate user/ibot-flowers photos --method knn --neighbours 5 20
  hf-vits evaluate user/mae-vit-base photos --method linear --probe mae
  hf-vits evaluate user/dino-vit-base photos --method linear --layers 1 --patch-mean
  hf-vits evaluate user/dino-vit-small photos --method low-shot --shots 1 5 10%
"""

import argparse
from typing import Any

from . import evaluation
from .predict import positive


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or Hub repository")
    parser.add_argument("data", metavar="DATA", help="folder, recipe, `digits` or name of a dataset")
    parser.add_argument("--method", choices=evaluation.METHODS, default="classify", help="(default: classify)")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="(default: test)")
    parser.add_argument("--config", metavar="NAME", help="configuration of a dataset that has several")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=64,
        metavar="N",
        help="inputs at a time (default: 64; an eighth as many videos)",
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    for method in evaluation.METHODS:
        evaluation.load(method).configure(
            # What is not given stays away, so that one method's options are not taken for another's.
            parser.add_argument_group(f"--method {method}", argument_default=argparse.SUPPRESS)
        )


def run(args: argparse.Namespace) -> dict[str, Any]:
    for method in evaluation.METHODS:
        for option, default in evaluation.load(method).OPTIONS.items():
            if method == args.method:
                vars(args).setdefault(option, default)
            elif option in args:
                raise ValueError(f"--{option.replace('_', '-')} goes with --method {method}, not {args.method}")
    return evaluation.load(args.method).evaluate(args)


def show(result: dict[str, Any]) -> None:
    evaluation.load(result.get("method", "classify")).show(result)
