"""Show a model's class, number of parameters, cost of one input, labels, preprocessing and configuration.

NAME is the folder of a saved model, a repository on the Hub, or SYSTEM/VARIANT. No weights are read: the model is
built on the meta device. In FLOPs, a multiplication and an addition are two operations; most papers report
multiply-adds, which are half as many.

  hf-vits info cct/cct_7_3x1_32
  hf-vits info vit/B/16 --json
  hf-vits info user/cct-digits
"""

import argparse
from typing import Any

_MOST_SHOWN_LABELS = 12


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="folder, Hub repository, or SYSTEM/VARIANT")


def run(args: argparse.Namespace) -> dict[str, Any]:
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
