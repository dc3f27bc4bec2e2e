"""Classification of videos by the names of classes alone, with a model that compares clips and texts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .features import evaluating


@torch.no_grad()
def classify_by_names(
    model: Any, processor: Any, videos: Any, names: Sequence[str], templates: Sequence[str] = ("{}",)
) -> Tensor:
    """Return the probability of each class for each video, from the similarity of its central clip to the name.

    Example: `classify_by_names(model, processor, ["clip.mp4"], ["a dog", "a cat"], ["{} plays"])`.

    Args:
        model: `VattModel` or `VattForPreTraining`.
        processor: its `VattProcessor`.
        videos: what its video processor takes, such as paths.
        names: of the classes.
        templates: texts with `{}` in place of the name. The embedding of a class is the mean over its texts, as CLIP's
            (arXiv 2103.00020, section 3.1.4).

    Returns:
        (videos, classes), on the model's device.

    Raises:
        ValueError: there are no names or no templates, a template has no `{}`, or a text has no word that the model
            knows.
    """
    if not names or not templates or not all("{}" in template for template in templates):
        found = f"{list(names)} and {list(templates)}"
        raise ValueError(f"expected names of classes, and templates with {{}}, got {found}")
    texts = [template.format(name) for name in names for template in templates]
    words = processor(text=texts, return_tensors="pt")["input_ids"].to(model.device)
    if unknown := [text for text, row in zip(texts, words, strict=True) if not row.any()]:
        raise ValueError(f"the model knows no word of {', '.join(map(repr, unknown[:5]))}; use words of its captions")
    clips = processor(videos=videos, return_tensors="pt")["pixel_values"].to(model.device, model.dtype)
    with evaluating(model):
        of_texts = normalize(model.get_text_features(words).pooler_output.float(), dim=-1)
        of_clips = normalize(model.get_video_features(clips).pooler_output.float(), dim=-1)
    of_classes = normalize(of_texts.unflatten(0, (len(names), len(templates))).mean(dim=1), dim=-1)
    return (of_clips @ of_classes.T / model.config.temperature).softmax(dim=-1)
