"""Models, photos and reports for the tests of `hf-vits inspect`."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from PIL import Image

from hf_vits.cli import main
from hf_vits.hub import save_for_hub
from hf_vits.inspection import sections
from tests.support.hub import tiny_model, tiny_processor

CLASSES = ("cat", "dog", "eel")
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: index for index, name in enumerate(CLASSES)}}


def save_models(folder: Path) -> dict[str, Path]:
    """Save a CCT of hf_vits, and a ViT and a ResNet of transformers, all of cats, dogs and eels."""
    torch.manual_seed(0)
    theirs = {
        "vit": hf.ViTForImageClassification(hf.ViTConfig(**VIT, **LABELS, image_size=32)),
        "resnet": hf.ResNetForImageClassification(hf.ResNetConfig(**RESNET, **LABELS)),
    }
    saved = {"cct": save_for_hub(tiny_model("cct"), folder / "cct", tiny_processor())}
    for name, model in theirs.items():
        saved[name] = folder / name
        model.save_pretrained(saved[name])
        hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(saved[name])
    return saved


def save_photos(folder: Path) -> Path:
    """Save two noisy photos of each class, a text file, and an image that cannot be read."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        for index in range(2):
            path = folder / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    (folder / "cat" / "notes.txt").write_text("a cat")
    (folder / "dog" / "broken.jpg").write_bytes(b"no image")
    return folder


def save_report(models: list[Path], photos: Path, out: Path, *arguments: str) -> Path:
    """Write a report with few steps for neurons, and return its folder."""
    before, sections.STEPS = sections.STEPS, 3
    try:
        command = ["inspect", *map(str, models), "--images", str(photos), "--out", str(out), *arguments]
        assert main(command) == 0
    finally:
        sections.STEPS = before
    return out


class Page(HTMLParser):
    """The elements of a page: tags in order with their attributes, text, and whether every tag is closed in order."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())
