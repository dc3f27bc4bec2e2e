"""Export a saved model to ONNX, with its configuration, labels and processor, to the folder OUT.

MODEL is a folder or a repository on the Hub. The batch of the graph has any size; images have any size where the
architecture computes at other sizes. The graph is compared with PyTorch in onnxruntime right after the export, and if
it differs by more than 1e-4, nothing is written. With --int8, linear layers have weights of eight bits and quantise
their inputs as they run.

  hf-vits export runs/demo_digits digits-onnx --onnx
  hf-vits export user/cct-digits digits-int8 --onnx --int8
"""

import argparse
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or Hub repository")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write, which must be new or empty")
    parser.add_argument("--onnx", action="store_true", required=True, help="the format, the only one so far")
    parser.add_argument("--int8", action="store_true", help="weights of eight bits in linear layers")
    parser.add_argument("--no-check", action="store_true", help="do not compare the graph with PyTorch")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it holds a saved model")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.deployment.onnx import export_onnx
    from hf_vits.folders import check_free

    from .models import load_model, load_processor

    check_free(args.out, args.overwrite)
    model = load_model(args.model).float()
    options = {"int8": args.int8, "check": not args.no_check, "overwrite": args.overwrite}
    exported = export_onnx(model, args.out, load_processor(args.model), **options)
    return {
        "out": str(args.out),
        "class": type(model).__name__,
        **exported,
        "files": {path.name: path.stat().st_size for path in sorted(args.out.iterdir())},
    }


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts

    facts = [
        ("written to", result["out"]),
        ("class", result["class"]),
        ("outputs", ", ".join(result["outputs"])),
        ("image size", result["sizes"]),
        ("difference from PyTorch", result["difference"]),
        ("the same in int8", result["int8_difference"]),
        ("files", ", ".join(f"{name} ({size:,} bytes)" for name, size in result["files"].items())),
    ]
    print_facts((name, value) for name, value in facts if value is not None)
