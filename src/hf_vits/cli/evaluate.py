"""Measure a model on labelled images, videos or recordings.

Methods (--method):

  classify       the model's own classifier: top-1 and top-5 accuracy, cross-entropy, confusion matrix
  segment        the model's own segmentation: IoU and accuracy of each class, on images with masks
  exits          early exits (DVT): accuracy and multiply-adds of each exit, and of thresholds for 59 budgets, found on
                 the validation images, or on the training images if there are no others
  knn            k nearest neighbours among the features of training images, as in DINO
  prototypes     the nearest class mean among frozen features, which learns new classes without training (2205.01586)
  linear         a linear classifier on frozen features, as in DINO or, with --probe mae, as in MAE
  low-shot       a logistic regression on frozen features, trained on few images, as in DINO and iBOT
  clusters       k-means of patch tokens, whose clusters are matched with the classes of masks: mean IoU, as in Leopart
  foreground     patches in the foreground, by clusters inside the class token's attention, as in Leopart
  communities    segments without labels: communities of clusters of the foreground, as in Leopart
  segmentation   a linear or FCN head on frozen patch tokens, as in Leopart
  propagate      labels of the first frame of videos, propagated by the similarity of features: masks of objects
                 (J&F as DAVIS computes it), parts (mIoU, as VIP) or keypoints (PCK, as JHMDB), as in CRW and SFC

knn, prototypes, linear and low-shot measure the encoder of any image model, such as one pretrained without labels.
They compute the features of each image once, with the preprocessing of evaluation; a recipe with `model.probe` trains
a linear classifier on random crops, as the originals do.

DATA is one of

  a folder       with a subfolder of files per class, named as the model's class. For knn, linear and low-shot, the
                 class folders can be in folders named train and test; otherwise a fifth of each class is held out
  RECIPE.yaml    the data of a training recipe, by default its test split; see --split. For videos the recipe also
                 gives the number of views whose scores are averaged, which is otherwise one
  digits         scikit-learn's 1,797 scanned digits: all of them, with those the model may have been trained on; for
                 knn, linear and low-shot a fifth is held out
  scenes         digits on photographs, with masks, for clusters, foreground, communities, segmentation and segment.
                 For these a folder has the folders train/images, train/masks, test/images, test/masks and, if classes
                 have names, classes.txt with a name per line; for segment one split is enough
  a folder       for propagate, in the layout of DAVIS, YouTube-VOS, VIP or JHMDB; or `moving-objects`, made here
  a name         of a dataset that datasets.load_dataset loads; see --split

  hf-vits evaluate runs/demo_digits recipes/demo_digits.yaml
  hf-vits evaluate user/cct-cifar10 uoft-cs/cifar10 --split test --json
  hf-vits evaluate runs/flowers photos/test --figure confusion.png
  hf-vits evaluate runs/moving_digits_mvit recipes/moving_digits_mvit.yaml
  hf-vits evaluate runs/scenes_upernet recipes/scenes_upernet.yaml --figure segments.png
  hf-vits evaluate runs/fashion_mnist_dvt recipes/fashion_mnist_dvt.yaml --method exits --figure exits.png
  hf-vits evaluate runs/fashion_mnist_dvt recipes/fashion_mnist_dvt.yaml --method exits --budget 0.005 --save
  hf-vits evaluate user/ibot-flowers photos --method knn --neighbours 5 20
  hf-vits evaluate user/dino-vit-small photos --method prototypes
  hf-vits evaluate user/mae-vit-base photos --method linear --probe mae
  hf-vits evaluate user/dino-vit-base photos --method linear --layers 1 --patch-mean
  hf-vits evaluate user/dino-vit-small photos --method low-shot --shots 1 5 10%
  hf-vits evaluate user/leopart-vit-small voc --method clusters --clusters 21 500 --picture segments.png
  hf-vits evaluate runs/sfc_resnet18_youtube_vos DAVIS --method propagate --map-stage 3 --semantic user/moco-resnet-50
"""

import argparse
from pathlib import Path
from typing import Any

from . import evaluation
from .numbers import positive


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or Hub repository")
    parser.add_argument("data", metavar="DATA", help="folder, recipe, `digits` or name of a dataset")
    parser.add_argument(
        "--method", choices=evaluation.METHODS, help="(default: classify, or segment for models that segment)"
    )
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="(default: test)")
    parser.add_argument("--config", metavar="NAME", help="configuration of a dataset, if it has several")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=64,
        metavar="N",
        help="inputs per batch (default: 64; for videos an eighth of N)",
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    masks = parser.add_argument_group(f"--method {', '.join(evaluation.MASKED)}")
    masks.add_argument("--image-size", type=positive, metavar="N", help="side of the images (default: the model's)")
    masks.add_argument("--picture", type=Path, metavar="PNG", help="draw segments beside the truth to this file")
    for method in evaluation.METHODS:
        evaluation.load(method).configure(
            # An option that is not given is not set, so that `run` can refuse options of other methods.
            parser.add_argument_group(f"--method {method}", argument_default=argparse.SUPPRESS)
        )


def run(args: argparse.Namespace) -> dict[str, Any]:
    args.method = args.method or evaluation.default(args.model)
    if args.method not in evaluation.MASKED and (args.image_size or args.picture):
        raise ValueError(f"--image-size and --picture go with --method {', '.join(evaluation.MASKED)}")
    for method in evaluation.METHODS:
        for option, default in evaluation.load(method).OPTIONS.items():
            if method == args.method:
                vars(args).setdefault(option, default)
            elif option in args and option not in evaluation.load(args.method).OPTIONS:
                raise ValueError(f"--{option.replace('_', '-')} goes with --method {method}, not {args.method}")
    return evaluation.load(args.method).evaluate(args)


def show(result: dict[str, Any]) -> None:
    evaluation.load(result.get("method", "classify")).show(result)
