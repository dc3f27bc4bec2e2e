"""Convert a checkpoint and write model, processor, card and modelling code to the folder OUT.

SYSTEM is an architecture and VARIANT a published variant of it (see `hf-vits list SYSTEM`); both may be left out or be
`auto`: they are then found by the keys, and what no tensor records is assumed as in the nearest variant and printed.
CHECKPOINT is a file of the original, timm, torchvision or transformers: PyTorch (.pth, .pt, .bin; pickles that would
run code are refused), safetensors, .npz, Flax msgpack, or the .index of a TensorFlow checkpoint. It can also be
`user/repository:file` on the Hub, or a folder or repository that timm or transformers saved. If the conversion fails,
nothing is written. Two other values of VARIANT are for a folder or Hub repository saved by save_pretrained:

  transformers   from a class of transformers to the class of hf_vits
  hf_vits        with --to-transformers, from a class of hf_vits to the class of transformers

  hf-vits convert timm/levit_128s.fb_dist_in1k levit-128s
  hf-vits convert auto my_model.pth my-model
  hf-vits convert deit auto my_deit.pth my-deit --set num_attention_heads=4
  hf-vits convert cct cct_7_3x1_32 cct_7_3x1_cifar10.pth cct-cifar10
  hf-vits convert vit ViT-B_16 ViT-B_16.npz vit-384 --set image_size=384
  hf-vits convert branchformer librispeech_e18 valid.acc.ave.pth branchformer --original-config config.yaml
  hf-vits convert deit deit_tiny_patch16_224 deit_tiny.pth deit-tiny --push-to-hub user/deit-tiny
  hf-vits convert vit transformers google/vit-base-patch16-224 vit-ours
  hf-vits convert vit hf_vits vit-ours vit-theirs --to-transformers
"""

import argparse
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "hf-vits convert [SYSTEM [VARIANT]] CHECKPOINT OUT [options]"
    parser.add_argument(
        "words",
        metavar="[SYSTEM [VARIANT]] CHECKPOINT OUT",
        nargs="+",
        help="architecture (`hf-vits list` shows all) and variant, each `auto` where it is not known; file, folder or "
        "Hub repository; folder to write, which must be new or empty",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="configuration fields, values as in YAML",
    )
    parser.add_argument(
        "--original-config",
        type=Path,
        metavar="YAML",
        help="ESPnet's config.yaml beside CHECKPOINT, for sizes that the file does not hold and for the tokens",
    )
    parser.add_argument("--to-transformers", action="store_true", help="write a model of transformers' own class")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it holds a saved model")
    parser.add_argument("--push-to-hub", metavar="REPO", help="also push the model to this Hub repository")
    parser.add_argument("--private", action="store_true", help="if the repository is new, make it private")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.folders import check_free, replaced
    from hf_vits.hub import model_card, push_to_hub, save_for_hub

    name_words(args)
    check_free(args.out, args.overwrite)
    overrides = parse_settings(args.set)
    if args.variant in ("transformers", "hf_vits"):
        model, processor = from_saved(args, overrides)
        card = None
    else:
        model, processor = from_original(args, overrides)
        card = model_card(model, variant=args.variant, source=source_name(args.checkpoint))
    note = None
    if args.to_transformers:
        model, processor = in_transformers_layout(model, processor)
        note = preprocessing_note(processor)
        card = None
    with replaced(args.out) as folder:
        save_for_hub(model, folder, processor, card=card)
    result = {
        "out": str(args.out),
        "class": f"{type(model).__module__.split('.')[0]}.{type(model).__name__}",
        "parameters": model.num_parameters(),
        "files": sorted(path.name for path in args.out.iterdir()),
    }
    if note:
        result["note"] = note
    if args.push_to_hub:
        commit = push_to_hub(
            model, args.push_to_hub, processor, card=args.out / "README.md", private=args.private or None
        )
        result["commit"] = commit.commit_url
    return result


def name_words(args: argparse.Namespace) -> None:
    """Set `system` and `variant`, None where they are to be found, `checkpoint` and `out` from the words given."""
    if not 2 <= len(args.words) <= 4:
        raise ValueError(f"convert takes [SYSTEM [VARIANT]] CHECKPOINT OUT, got {len(args.words)} words: {args.words}")
    *names, args.checkpoint, out = args.words
    args.out = Path(out)
    args.system, args.variant = (None if name == "auto" else name for name in [*names, "auto", "auto"][:2])


def source_name(checkpoint: str) -> str:
    """Return the name of a checkpoint without folders of this machine."""
    return Path(checkpoint).name if Path(checkpoint).exists() else checkpoint


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Parse KEY=VALUE arguments, values written as in YAML, to {key: value}."""
    from hf_vits.parsing import parse_yaml

    parsed = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise ValueError(f"--set takes KEY=VALUE, got {setting!r}")
        parsed[key.strip()] = parse_yaml(text, f"--set {setting[:100]}")
    return parsed


def from_original(args: argparse.Namespace, overrides: dict[str, Any]):
    """Return the model and processor of an original checkpoint file."""
    from hf_vits import conversion
    from hf_vits.conversion.core import variant_fields  # pyright: ignore[reportMissingImports] - of conversion/

    if args.system is not None:
        conversion.system(args.system)
        if args.variant is not None:
            variant_fields(args.system, args.variant)  # raises before a large file is read
    if not args.original_config:
        return conversion.load(args.checkpoint, args.system, args.variant, **overrides)
    if args.system is None or args.variant is None:
        raise ValueError("--original-config needs the names of SYSTEM and VARIANT")
    recipe = read_recipe(args.original_config)
    overrides = conversion.original_fields(args.system, recipe, **overrides)
    model = conversion.convert(args.system, args.variant, conversion.load_checkpoint(args.checkpoint), **overrides)
    return model, conversion.processor(args.system, args.variant, model, recipe)


def read_recipe(path: Path) -> dict[str, Any]:
    from hf_vits.parsing import parse_yaml

    recipe = parse_yaml(path.read_bytes(), str(path))
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} holds no configuration: expected YAML of the form `name: value`")
    return recipe


def from_saved(args: argparse.Namespace, overrides: dict[str, Any]):
    """Return the hf_vits model and the processor of a folder or Hub repository saved by hf_vits or transformers."""
    from hf_vits import conversion
    from hf_vits.conversion.core import name_of  # pyright: ignore[reportMissingImports] - of conversion/

    from .models import load_config, load_model, load_processor

    conversion.system(args.system)
    if args.original_config:
        raise ValueError(f"--original-config is for original checkpoints; {args.checkpoint} has its own configuration")
    if overrides:
        raise ValueError(f"--set is for original checkpoints; {args.checkpoint} has a configuration of its own")
    model_type = load_config(args.checkpoint).model_type
    is_ours = model_type.startswith("hf_vits_")
    if name_of(model_type) != args.system or is_ours != (args.variant == "hf_vits"):
        owner = "hf_vits" if is_ours else "transformers"
        raise ValueError(f"{args.checkpoint} holds a {model_type!r} of {owner}, not a {args.system} of {args.variant}")
    if is_ours and not args.to_transformers:
        raise ValueError(f"{args.checkpoint} is a model of hf_vits already; --to-transformers converts it")
    model = load_model(args.checkpoint) if is_ours else conversion.load(args.checkpoint)[0]
    return model, load_processor(args.checkpoint)


def in_transformers_layout(model, processor):
    """Convert an hf_vits model to transformers' class, and its processor to transformers' with the same settings."""
    from transformers import ViTImageProcessor

    from hf_vits import conversion

    settings = processor.to_dict() if processor is not None else None
    if settings and settings.pop("image_processor_type") == "VitsImageProcessor":
        settings.pop("convention")  # transformers has one way of resizing
        processor = ViTImageProcessor(**settings)
    return conversion.to_transformers(model), processor


def preprocessing_note(processor) -> str | None:
    """Return how the preprocessing of transformers' processor differs from the original's; None if it does not."""
    if processor is None or not processor.do_center_crop:
        return None
    return (
        "the weights are converted exactly; the preprocessing differs slightly: if the margin of the centre crop is "
        "odd, the crop of transformers lies one pixel further up or left than the original's"
    )


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts

    facts = [
        ("written to", result["out"]),
        ("class", result["class"]),
        ("parameters", result["parameters"]),
        ("files", ", ".join(result["files"])),
    ]
    if "note" in result:
        facts.append(("note", result["note"]))
    if "commit" in result:
        facts.append(("pushed", result["commit"]))
    print_facts(facts)
