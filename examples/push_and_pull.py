"""Share a model on the Hub and load it again, with hf_vits and where hf_vits is not imported.

    hf auth login
    python examples/push_and_pull.py YOUR_NAME/vit-digits [--private] [--steps 200]

Trains a tiny ViT on scikit-learn's digits, pushes it with its image processor, a model card and the modelling code,
and pulls it back twice: through the Auto classes here, and in a new Python process that does not import hf_vits and
runs the repository's own code (`trust_remote_code=True`). `HF_ENDPOINT` names another Hub than huggingface.co. The
last line printed is `hub: accuracy=<on held-out images> here=<same|different> elsewhere=<same|different>
repository=<name>`: the accuracy of the pulled model, and whether it computes the logits of the model that was pushed.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_digits
from tqdm import trange
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_vits import ViTConfig, ViTForImageClassification, VitsImageProcessor, push_to_hub

NUM_TEST = 360  # the last images test

# What someone else runs: no hf_vits, only the repository.
ELSEWHERE = """
import sys
import torch
from transformers import AutoModelForImageClassification

repository, pixel_values, logits = sys.argv[1:]
model = AutoModelForImageClassification.from_pretrained(repository, trust_remote_code=True)
assert not any(name.split(".")[0] == "hf_vits" for name in sys.modules)
with torch.inference_mode():
    torch.save(model(torch.load(pixel_values)).logits, logits)
"""


def train(pixel_values: torch.Tensor, labels: torch.Tensor, steps: int) -> ViTForImageClassification:
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=10,
    )
    model = ViTForImageClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in trange(steps, desc="training"):
        batch = torch.randint(len(labels), (64,))
        model(pixel_values[batch], labels=labels[batch]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.inference_mode()
def predict(model: torch.nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    """Return logits (images, classes)."""
    return model(pixel_values).logits


def predict_elsewhere(repository: str, pixel_values: torch.Tensor) -> torch.Tensor:
    """Return the logits that a Python process computes which loads the repository without hf_vits."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "pixel_values.pt"), Path(folder, "logits.pt")
        torch.save(pixel_values, inputs)
        subprocess.run([sys.executable, "-c", ELSEWHERE, repository, inputs, outputs], check=True)
        return torch.load(outputs)


def compare(first: torch.Tensor, second: torch.Tensor) -> str:
    return "same" if torch.allclose(first, second, atol=1e-5) else "different"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", help="name on the Hub, such as user/vit-digits; made where there is none")
    parser.add_argument("--private", action="store_true", help="make a private repository")
    parser.add_argument("--steps", type=int, default=200, help="of training")
    args = parser.parse_args(arguments)
    torch.manual_seed(0)

    digits = load_digits()
    images = [Image.fromarray((image * 255 / 16).astype("uint8")) for image in digits.images]
    labels = torch.from_numpy(digits.target)
    processor = VitsImageProcessor(
        size={"height": 8, "width": 8}, do_center_crop=False, do_grayscale=True, image_mean=[0.3], image_std=[0.4]
    )
    pixel_values = processor(images, return_tensors="pt").pixel_values
    model = train(pixel_values[:-NUM_TEST], labels[:-NUM_TEST], args.steps)

    commit = push_to_hub(model, args.repository, processor, private=args.private or None)
    print(commit.commit_url)

    pulled = AutoModelForImageClassification.from_pretrained(args.repository)
    pulled_processor = AutoImageProcessor.from_pretrained(args.repository)
    inputs = pulled_processor(images[-NUM_TEST:], return_tensors="pt").pixel_values
    logits = predict(pulled, inputs)
    accuracy = (logits.argmax(-1) == labels[-NUM_TEST:]).float().mean().item()
    here = compare(predict(model, pixel_values[-NUM_TEST:]), logits)
    elsewhere = compare(predict_elsewhere(args.repository, inputs), logits)
    print(f"hub: accuracy={accuracy:.3f} here={here} elsewhere={elsewhere} repository={args.repository}")


if __name__ == "__main__":
    main()
