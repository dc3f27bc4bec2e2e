"""The demo, `make demo`: convert an original checkpoint of CCT, fine-tune it, push it, pull it and predict with it.

The data are scikit-learn's digits, the Hub runs on 127.0.0.1. The last line printed is
`demo: accuracy=<x> roundtrip=<identical|different> report=<path>`. The exit code is 0 if the accuracy on held-out
images is at least 0.97 and the model that was pulled is the one that was pushed, bit for bit.
"""

import argparse
import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

from hf_vits.data.images import SOURCES
from hf_vits.data.splits import Split, load_classes
from hf_vits.figures.runs import Prediction, draw_predictions
from hf_vits.folders import temporary_folder
from hf_vits.hub import push_to_hub
from hf_vits.recipe import load_recipe
from hf_vits.testing.hub import LoopbackHub
from hf_vits.training import train

ENOUGH_ACCURACY = 0.97
SHOWN_PREDICTIONS = 30
SEED = 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="hf_vits.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=Path("recipes/demo_digits.yaml"))
    parser.add_argument(
        "--report", type=Path, default=Path("demo-report"), help="folder to write, replaced if it is an earlier report"
    )
    args = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # Trainer prints; stdout is for the last line
        results = demo(args.recipe, args.report)
    accuracy, roundtrip = results["test"]["accuracy"], results["roundtrip"]
    print(f"demo: accuracy={accuracy:.4f} roundtrip={roundtrip} report={args.report}", flush=True)
    return 0 if accuracy >= ENOUGH_ACCURACY and roundtrip == "identical" else 1


def demo(recipe: Path, report: Path) -> dict[str, Any]:
    """Run the demo with a recipe for CCT on the digits; return the results, also written to results.json in `report`.

    Raises FileExistsError if `report` is a folder that was not written by an earlier demo.
    """
    if report.exists() and not (report / "results.json").is_file():
        raise FileExistsError(f"{report} exists and is no report of an earlier demo; choose another by --report")
    started = time.perf_counter()
    with temporary_folder() as temporary:
        checkpoint, run = Path(temporary, "cct_2_3x2_32.pth"), Path(temporary, "run")
        step(f"writing {checkpoint.name} as the original code would")
        torch.save(original_checkpoint(), checkpoint)
        step("converting it and fine-tuning it on the digits")
        results = train(recipe, [f"model.checkpoint={checkpoint}", f"output.directory={run}"])
        step("pushing it to a Hub on 127.0.0.1, pulling it, predicting held-out images")
        test = load_classes(load_recipe(recipe).data, SOURCES).test
        results["roundtrip"], predictions = push_and_pull(run, Path(temporary, "home"), test)
        draw_predictions(predictions, run / "predictions.png")
        results["seconds"] = round(time.perf_counter() - started, 1)
        step(f"done in {results['seconds']} s; writing the report")
        write_report(run, report, results)
    return results


def step(what: str) -> None:
    print(f"demo: {what}", file=sys.stderr, flush=True)


def original_checkpoint() -> dict[str, torch.Tensor]:
    """Return a random cct_2_3x2_32 with the original's keys and initialisation (src/utils/transformers.py)."""
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, generator=generator)

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> dict[str, torch.Tensor]:
        weight = {f"{name}.weight": normal(outputs, inputs, std=0.02)}
        return weight | ({f"{name}.bias": torch.zeros(outputs)} if bias else {})

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": torch.ones(128), f"{name}.bias": torch.zeros(128)}

    tensors = {"classifier.positional_emb": normal(1, 64, 128, std=0.2)}
    for index, (outputs, inputs) in enumerate([(64, 3), (128, 64)]):
        shape = (outputs, inputs, 3, 3)
        tensors[f"tokenizer.conv_layers.{index}.0.weight"] = normal(*shape, std=(2 / (9 * inputs)) ** 0.5)
    for index in range(2):
        block = f"classifier.blocks.{index}"
        tensors |= norm(f"{block}.pre_norm") | linear(f"{block}.self_attn.qkv", 384, 128, bias=False)
        tensors |= linear(f"{block}.self_attn.proj", 128, 128) | norm(f"{block}.norm1")
        tensors |= linear(f"{block}.linear1", 128, 128) | linear(f"{block}.linear2", 128, 128)
    return (
        tensors
        | norm("classifier.norm")
        | linear("classifier.attention_pool", 1, 128)
        | linear("classifier.fc", 10, 128)
    )


def push_and_pull(run: Path, home: Path, test: Split) -> tuple[str, list[Prediction]]:
    """Push the model in `run` and pull it; return "identical" or "different", and predictions of the pulled model."""
    pushed = AutoModelForImageClassification.from_pretrained(run)
    processor = AutoImageProcessor.from_pretrained(run)
    with LoopbackHub() as hub, hub.in_process(home, hub.token):
        push_to_hub(pushed, "user/cct-digits", processor, card=run / "README.md")
        pulled = AutoModelForImageClassification.from_pretrained("user/cct-digits")
        body = AutoModel.from_pretrained("user/cct-digits")
        pulled_processor = AutoImageProcessor.from_pretrained("user/cct-digits")
    images = [test.inputs[index] for index in range(len(test))]
    logits = classify(pulled, pulled_processor, images)
    same = (
        same_tensors(pushed.state_dict(), pulled.state_dict())
        and same_tensors(pushed.model.state_dict(), body.state_dict())
        and processor.to_dict() == pulled_processor.to_dict()
        # The same weights may round differently at another place in memory.
        and torch.allclose(classify(pushed, processor, images), logits, atol=1e-5)
    )
    scores, classes = logits.softmax(-1).max(-1)
    names = pulled.config.id2label
    rows = zip(images, test.labels.tolist(), classes.tolist(), scores.tolist(), strict=True)
    predictions = [Prediction(image, names[label], names[best], score) for image, label, best, score in rows]
    # Mistakes first: they are the most interesting.
    predictions.sort(key=lambda prediction: prediction.label == prediction.predicted)
    return ("identical" if same else "different"), predictions[:SHOWN_PREDICTIONS]


def classify(model, processor, images: list) -> torch.Tensor:
    """Return the logits (images, classes)."""
    with torch.inference_mode():
        return model(**processor(images, return_tensors="pt")).logits


def same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def write_report(run: Path, report: Path, results: dict[str, Any]) -> None:
    """Move the folder of the run, without checkpoints to resume from, to `report`, replacing an earlier report."""
    (run / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(run / "checkpoints")
    if report.exists():
        shutil.rmtree(report)
    shutil.move(run, report)


if __name__ == "__main__":
    sys.exit(main())
