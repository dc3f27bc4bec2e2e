"""Show a model's class, number of parameters, cost of one input, labels, preprocessing and configuration.

NAME is the folder of a saved model, a repository on the Hub, or SYSTEM/VARIANT. No weights are read: the model is
built on the meta device. In FLOPs, a multiplication and an addition are two operations; most papers report
multiply-adds, which are half as many.

With --memory, NAME is a recipe, file or name, of a classifier, whose keys --set changes. Shown is what its
training keeps in memory on each device: weights, gradients, optimizer state, EMA and activations, in float32 and
bfloat16 autocast, with and without activation checkpointing. Nothing is allocated.

  hf-vits info cct/cct_7_3x1_32
  hf-vits info vit/B/16 --json
  hf-vits info user/cct-digits
  hf-vits info vit_b16_imagenet1k --memory --devices 8 --set train.accumulation=4
"""

import argparse
from typing import Any

_MOST_SHOWN_LABELS = 12
SIZES = ("activations", "total", "sharded")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="folder, Hub repository, or SYSTEM/VARIANT")
    parser.add_argument("--memory", action="store_true", help="count the memory that training by a recipe needs")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="with --memory, keys of the recipe, such as train.batch_size=1024",
    )
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="with --memory, devices of the run")


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.memory:
        from hf_vits.training.memory import count_memory

        return {"name": args.name, **count_memory(args.name, args.set, processes=args.devices)}
    if args.set:
        raise ValueError("--set is for --memory, which shows the memory that training by a recipe needs")

    from .models import describe_size

    model, processor = describe(args.name)
    config = model.config.to_diff_dict()
    labels = config.pop("id2label", None) or model.config.id2label
    config.pop("label2id", None)
    size = describe_size(model)
    return {
        "name": args.name,
        "class": type(model).__name__,
        "model_type": model.config.model_type,
        **size,
        "flops": count_flops(model),
        "labels": list(labels.values()) if size["classes"] else None,
        "processor": processor.to_dict() if processor is not None else None,
        "config": config,
    }


def describe(name: str):
    """Return the model of that name on the meta device, and its processor or None."""
    from pathlib import Path

    from hf_vits import conversion

    from .models import class_of, empty_model, load_config, load_processor, variant_model

    system, _, variant = name.partition("/")
    if system in conversion.SYSTEMS and variant and not Path(name).is_dir():
        model = variant_model(system, variant)
        return model, conversion.processor(system, variant, model)
    config = load_config(name)
    return empty_model(class_of(config), config), load_processor(name)


def count_flops(model) -> int:
    """Count the floating-point operations of the forward pass of one input.

    Hidden states are requested: without them, some classifiers skip the tokens of the last layer that they do not
    read, but papers count these.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from hf_vits.deployment.inputs import encoder_of, one_input

    # The counter hooks gradients, and fails at views of parameters that were made without them.
    model = encoder_of(model).requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**one_input(model), output_hidden_states=True)
    return counter.get_total_flops()


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts

    if "rows" in result:
        show_memory(result)
        return
    labels = result["labels"]
    facts = [
        ("class", result["class"]),
        ("model type", result["model_type"]),
        ("parameters", result["parameters"]),
        ("input", result["input"]),
        ("cost", f"{result['flops'] / 1e9:.4g} GFLOPs, {result['flops'] / 2e9:.4g} G multiply-adds"),
    ]
    if labels:
        more = f", ... ({len(labels):,} in all)" if len(labels) > _MOST_SHOWN_LABELS else ""
        facts.append(("labels", ", ".join(labels[:_MOST_SHOWN_LABELS]) + more))
    print_facts(facts, title=result["name"])
    if result["processor"]:
        print_facts(sorted(result["processor"].items()), title="\npreprocessing")
    print_facts(sorted(result["config"].items()), title="\nconfiguration")


def show_memory(result: dict[str, Any]) -> None:
    from .tables import print_facts, print_table

    def mib(size: int) -> str:
        return f"{size / 2**20:,.0f} MiB"

    kept = [(name, mib(result[name])) for name in ("weights", "gradients", "optimizer", "average")]
    facts = [(name, result[name]) for name in ("model", "parameters", "batch")]
    print_facts([*facts, *kept], title=result["name"])
    columns = ("precision", "checkpointing", "activations", "total", "total with sharding: full")
    rows = [
        (row["precision"], "on" if row["checkpointing"] else "off", *(mib(row[name]) for name in SIZES))
        for row in result["rows"]
    ]
    print_table(columns, rows)
