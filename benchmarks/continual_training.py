"""A training step with attention regularisation beside the original's own code: CPU time and peak memory.

    python -m benchmarks.continual_training --original CLONE [--network NAME] [--batch N] [--steps N] [--rounds N]

CLONE is a clone of github.com/srvCodes/continual_learning_with_vit, which needs einops. A step is `train_epoch` of its
approach/olwf_asym.py on one batch of the second task, with the symmetric form: the frozen previous model and the new
one forward, cross-entropy, distillation of the earlier task's logits, regularisation of the attention scores, backward
and SGD. The networks are those of its scripts: `ovit`, ViT-Ti/16 at 224 pixels with heads of 50 and 10 classes for
CIFAR-100, and `early_conv`, Early-conv ViT with two heads of 20 classes for ImageNet-32, at 32 pixels (5 tokens). Each
side runs in processes of its own, in turns; the CPU time of a step is the smallest of all its steps, the memory the
peak of its process.
"""

import argparse
import contextlib
import copy
import importlib
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .processes import SIDES, compare, measured

# {network: (classes of its heads, pixels)}
NETWORKS = {"ovit": ((50, 10), 224), "early_conv": ((20, 20), 32)}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("continual_training", description=__doc__.partition("\n")[0])
    parser.add_argument("--original", type=Path, required=True, metavar="CLONE")
    parser.add_argument("--network", choices=NETWORKS, default="ovit", help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="images (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="after a first, per process (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each side (default: %(default)s)")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def ours(network: str, images: Tensor, labels: Tensor) -> Callable[[], None]:
    from hf_vits import EarlyConvViTConfig, EarlyConvViTForImageClassification, ViTConfig, ViTForImageClassification
    from hf_vits.layers.recorded_attention import Attended, recording_attention
    from hf_vits.objectives import IncrementalCriterion, PooledDistillationLoss

    heads, size = NETWORKS[network]
    fields = {"image_size": size, "num_labels": sum(heads)}
    if network == "ovit":
        config = ViTConfig(**fields, hidden_size=192, num_attention_heads=3, intermediate_size=768, pooling="token")
        model = ViTForImageClassification(config).train()
    else:
        model = EarlyConvViTForImageClassification(EarlyConvViTConfig(**fields)).train()
    old = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    criterion, regularizer = IncrementalCriterion(heads, distillation=1.0), PooledDistillationLoss(symmetric=True)

    def pool(attended: Attended) -> Tensor:
        return regularizer.pool_scores(attended.query, attended.key, attended.scaling)

    def step() -> None:
        with torch.no_grad(), recording_attention(old, pool) as before:
            old_logits = old(images).logits
        with recording_attention(model, pool) as after:
            logits = model(images).logits
        loss = criterion(logits, labels, 1, old_logits)[0] + regularizer.compare(before, after)[0]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10000.0)
        optimizer.step()

    return step


def original(clone: Path, network: str, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a step of the original's approach, without its loggers and stored examples."""
    members = {"loggers.exp_logger": "ExperimentLogger", "datasets.exemplars_dataset": "ExemplarsDataset"}
    for name, member in members.items():
        package = name.partition(".")[0]
        sys.modules[package] = types.ModuleType(package)
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name], member, list)
    # Its packages import all approaches and networks, with what each of them needs.
    for package in ("approach", "networks"):
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(clone / "src" / package)]
    # It registers its networks with a description that today's timm does not take.
    sys.modules["timm.models.registry"] = types.ModuleType("registry")
    setattr(sys.modules["timm.models.registry"], "register_model", lambda function: function)
    approaches = importlib.import_module("approach.olwf_asym")
    networks = importlib.import_module(f"networks.{'ovit' if network == 'ovit' else 'early_conv_vit_net'}")
    # The file says by comments which network's recording it uses.
    for name in ("start_rec", "stop_rec", "get_attention_list"):
        setattr(approaches, name, getattr(networks, name))
    if network == "ovit":
        backbone = networks.OVisionTransformer(embed_dim=192, num_classes=0, num_heads=3)
    else:
        backbone = networks.EarlyConvViT(num_classes=1, dim=768, depth=12, heads=12, mlp_dim=2048)
    heads, _ = NETWORKS[network]
    width = 192 if network == "ovit" else 768
    backbone.fc, backbone.head_var = torch.nn.Linear(width, 1), "fc"
    model = importlib.import_module("networks.network").LLL_Net(backbone, remove_existing_head=True)
    for classes in heads:
        model.add_head(classes)
    approach = approaches.Appr(model, "cpu", lr=0.01, exemplars_dataset=[], sym=True)
    approach.model_old = copy.deepcopy(model).eval().requires_grad_(False)
    approach._n_classes, approach._task_size = sum(heads), heads[1]
    approach.optimizer = approach._get_optimizer()

    def step() -> None:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            approach.train_epoch(1, [(images, labels)])

    return step


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Run the steps of one side in this process."""
    torch.manual_seed(0)
    heads, size = NETWORKS[args.network]
    images, labels = torch.randn(args.batch, 3, size, size), torch.randint(heads[0], sum(heads), (args.batch,))
    if args.child == "ours":
        return measured(ours(args.network, images, labels), args.steps)
    return measured(original(args.original, args.network, images, labels), args.steps)


def main() -> None:
    args = parse_arguments()
    if args.child:
        print(json.dumps(measure(args)))
    else:
        compare("benchmarks.continual_training", sys.argv[1:], args.rounds)


if __name__ == "__main__":
    main()
