"""Detectors that start from the backbone of another model."""

import dataclasses
import logging
from typing import Any

from transformers import AutoConfig

import hf_vits
from hf_vits.hub.pull import pull
from hf_vits.models.detection.modeling_detection import DetectorPreTrainedModel
from hf_vits.recipe import InitializationRecipe

logger = logging.getLogger(__name__)


def initialize_backbone(model: DetectorPreTrainedModel, recipe: InitializationRecipe) -> None:
    """Give a detector the backbone of a trained model: of another detector, or an encoder with or without a head.

    What is new, such as norms after the stages where the encoder has none, is logged by name.

    Raises:
        ValueError: the trained model is of another kind or size, or the recipe has options that are not for detectors.
        OSError: it cannot be read.
    """
    options = {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}
    source = options.pop("pretrained")
    if options:
        raise ValueError(f"model.initialize_from: a {type(model).__name__} has no {', '.join(sorted(options))}")
    try:
        saved, backbone = pull(AutoConfig, source), model.backbone.model
        found = getattr(saved, "backbone_config", None) or saved
        if found.model_type != backbone.config.model_type:
            raise ValueError(
                f"model.initialize_from: {source} is of type {found.model_type}, the detector's backbone of type "
                f"{backbone.config.model_type}"
            )
        if found is saved:
            loaded: Any = pull(
                type(backbone), source, config=backbone.config, output_loading_info=True, ignore_mismatched_sizes=True
            )
            weights, info = loaded[0].state_dict(), loaded[1]
        else:
            loaded = pull(getattr(hf_vits, saved.architectures[0]), source, output_loading_info=True)
            weights, info = loaded[0].backbone.model.state_dict(), {"missing_keys": loaded[1]["missing_keys"]}
    except OSError as error:
        raise OSError(f"model.initialize_from: {error}") from error
    expected = backbone.state_dict()
    new = set(info["missing_keys"]) | (expected.keys() - weights.keys())
    wrong = [key[0] for key in info.get("mismatched_keys", ())]
    wrong += [name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape]
    wrong += [name for name in new if "norm" not in name]
    if wrong:
        raise ValueError(
            f"model.initialize_from: {len(wrong)} weights of the backbone are missing in {source} or have another "
            f"shape, such as {', '.join(sorted(wrong)[:5])}: choose sizes by model.config.backbone_config"
        )
    kept = {name: value for name, value in weights.items() if name in expected and name not in new}
    backbone.load_state_dict(kept, strict=False)
    logger.warning(
        "the backbone starts from %s, of which all else is left out; new: %s",
        source,
        ", ".join([*sorted(new), "pyramid and heads"]),
    )
