"""Classification of videos and sounds by the names of classes alone, with a model that compares them with texts."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .features import evaluating


@torch.no_grad()
def classify_by_names(
    model: Any,
    processor: Any,
    inputs: Any,
    names: Sequence[str],
    templates: Sequence[str] = ("{}",),
    modality: Literal["video", "audio"] = "video",
) -> Tensor:
    """Return the probability of each class for each input, from its similarity to the name of the class.

    Of a video, it is the similarity of the central clip. Sounds are compared through the space of video and audio, see
    `VattModel.get_audio_features`.

    Example: `classify_by_names(model, processor, ["clip.mp4"], ["a dog", "a cat"], ["{} plays"])`.

    Args:
        model: `VattModel` or `VattForPreTraining`.
        processor: its `VattProcessor`.
        inputs: what its video processor or feature extractor takes, such as paths.
        names: of the classes.
        templates: texts with `{}` in place of the name. The embedding of a class is the mean over its texts, as CLIP's
            (arXiv 2103.00020, section 3.1.4).
        modality: of the inputs.

    Returns:
        (inputs, classes), on the model's device.

    Raises:
        ValueError: there are no names or no templates, the modality is another, a template has no `{}`, or a text has
            no word that the model knows.
    """
    if modality not in ("video", "audio"):
        raise ValueError(f'modality must be "video" or "audio", got {modality!r}')
    if not names or not templates or not all("{}" in template for template in templates):
        found = f"{list(names)} and {list(templates)}"
        raise ValueError(f"expected names of classes, and templates with {{}}, got {found}")
    texts = [template.format(name) for name in names for template in templates]
    words = processor(text=texts, return_tensors="pt")["input_ids"].to(model.device)
    if unknown := [text for text, row in zip(texts, words, strict=True) if not row.any()]:
        raise ValueError(f"the model knows no word of {', '.join(map(repr, unknown[:5]))}; use words of its captions")
    given = processor(**{"videos" if modality == "video" else "audio": inputs}, return_tensors="pt")
    values = {name: value.to(model.device, model.dtype) for name, value in given.items()}
    features = model.get_video_features if modality == "video" else model.get_audio_features
    with evaluating(model):
        of_texts = normalize(model.get_text_features(words).pooler_output.float(), dim=-1)
        of_inputs = normalize(features(**values, space="text").pooler_output.float(), dim=-1)
    of_classes = normalize(of_texts.unflatten(0, (len(names), len(templates))).mean(dim=1), dim=-1)
    return (of_inputs @ of_classes.T / model.config.temperature).softmax(dim=-1)
