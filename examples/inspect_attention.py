"""Draw where the class token of a ViT looks in an image, head by head.

    python examples/inspect_attention.py MODEL IMAGE [--layer -1] [--fraction 0.6] [--picture attention.png]

MODEL is a folder or a Hub repository: any ViT or DeiT of hf_vits (such as `dino/backbone`, which
`examples/dino_own_folder.py` writes) or of transformers (such as `facebook/dino-vits16`).
The picture shows the image, the attention averaged over heads and of each head, and below each, in yellow, the fewest
patches that hold `--fraction` of it. One line is printed per head: how many patches these are. A head that spreads its
attention evenly needs that fraction of all patches; a head that looks at one thing needs few.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, BaseImageProcessor, PreTrainedModel

import hf_vits  # registers its models with the Auto classes  # noqa: F401
from hf_vits.analysis.attention import attended_region


@torch.inference_mode()
def class_attention(model: PreTrainedModel, pixel_values: torch.Tensor, layer: int) -> torch.Tensor:
    """Return the attention (heads, rows, columns) of the class token of one image to its patches.

    Args:
        pixel_values: (1, channels, height, width).
        layer: from 0; negative numbers count from the last layer.

    Raises:
        ValueError: the model does not return attentions of a class token, or has no such layer.
    """
    num_prefix_tokens = getattr(model.config, "num_prefix_tokens", 1)  # class token, distillation token
    attentions = model(pixel_values, output_attentions=True).attentions
    if not attentions or not num_prefix_tokens:
        raise ValueError(f"expected a ViT with a class token and attentions, got {type(model).__name__}")
    if not -len(attentions) <= layer < len(attentions):
        raise ValueError(f"layer must be in [{-len(attentions)}, {len(attentions) - 1}], got {layer}")
    rows, columns = (side // model.config.patch_size for side in pixel_values.shape[-2:])
    return attentions[layer][0, :, 0, num_prefix_tokens:].unflatten(-1, (rows, columns))


def as_picture(pixel_values: torch.Tensor, processor: BaseImageProcessor) -> np.ndarray:
    """Return the image (height, width, channels), 0 to 1, that the model was given."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    return (pixel_values[0] * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()


def draw(picture: np.ndarray, attention: torch.Tensor, chosen: torch.Tensor, path: Path) -> None:
    """Write attention maps (maps, rows, columns) over the image, and below each its most attended patches."""
    height, width = picture.shape[:2]
    figure = Figure(figsize=(2 * (1 + len(attention)), 4.4 * height / width), layout="constrained")
    panels = figure.subplots(2, 1 + len(attention))
    for panel in panels.flat:
        panel.set_axis_off()
        panel.imshow(picture, cmap="gray", extent=(0, width, height, 0))
    panels[0, 0].set_title("image")
    titles = ["mean", *(f"head {head}" for head in range(1, len(attention)))]
    for column, title, values, kept in zip(panels.T[1:], titles, attention, chosen, strict=True):
        column[0].set_title(title)
        column[0].imshow(values.numpy(), extent=(0, width, height, 0), alpha=0.8)
        marked = np.ma.masked_array(np.ones(kept.shape), ~kept.numpy())
        column[1].imshow(marked, extent=(0, width, height, 0), alpha=0.7, cmap="autumn", vmin=0, vmax=1)
    figure.savefig(path, dpi=100)


def main(arguments: Sequence[str] | None = None) -> torch.Tensor:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder or Hub repository of a ViT")
    parser.add_argument("image", type=Path, help="image file")
    parser.add_argument("--layer", type=int, default=-1, help="layer to draw, from 0; -1 is the last")
    parser.add_argument("--fraction", type=float, default=0.6, help="of the attention that the lower row keeps")
    parser.add_argument("--picture", type=Path, default=Path("attention.png"), help="image file to write")
    args = parser.parse_args(arguments)

    processor = AutoImageProcessor.from_pretrained(args.model)
    model = AutoModel.from_pretrained(args.model, attn_implementation="eager").eval()
    pixel_values = processor(Image.open(args.image), return_tensors="pt").pixel_values

    heads = class_attention(model, pixel_values, args.layer)
    attention = torch.cat([heads.mean(dim=0, keepdim=True), heads])
    chosen = attended_region(attention.flatten(1), args.fraction).view_as(attention)
    draw(as_picture(pixel_values, processor), attention, chosen, args.picture)
    for head, kept in enumerate(chosen[1:], start=1):
        print(f"head {head}: {args.fraction:.0%} of the attention on {kept.sum()} of {kept.numel()} patches")
    return attention


if __name__ == "__main__":
    main()
