"""A new segmentation head on an image encoder, with a processor for whole images."""

import copy
import re
from typing import Any

from transformers import AutoBackbone, PreTrainedModel, UperNetConfig, UperNetForSemanticSegmentation

from hf_vits.configuration import pair
from hf_vits.modeling import IsotropicBackbone
from hf_vits.pretraining.dense_probe.modeling_dense_probe import DenseProbeForSemanticSegmentation
from hf_vits.processing.segmentation import VitsSegmentationProcessor
from hf_vits.recipe import SegmentationRecipe

# Maps of UperNet; its second head takes the third.
_MAPS, _AUXILIARY_MAPS = 4, 3
# Fields of an image processor that the pixels of whole images depend on, too.
_PIXEL_FIELDS = (
    "convention",
    "do_convert_rgb",
    "do_grayscale",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)


def segmenter(recipe: SegmentationRecipe, encoder: PreTrainedModel, head: dict[str, Any]) -> PreTrainedModel:
    """Return a model of semantic segmentation on an encoder, with its weights.

    Args:
        head: configuration fields of the head, such as id2label.

    Raises:
        ValueError: the encoder has no such stages, or none at all.
    """
    if recipe.head != "upernet":
        return DenseProbeForSemanticSegmentation.from_backbone(
            encoder, head=recipe.head, hidden_size=recipe.hidden_size, frozen=recipe.frozen, **head
        )
    backbone = backbone_with(encoder, recipe.stages)
    maps = len(backbone.config.out_indices)
    if recipe.auxiliary and maps < _AUXILIARY_MAPS:
        raise ValueError(
            f"segmentation.auxiliary: the second head takes the third feature map, and there are {maps}: set it to "
            "false, or give more segmentation.stages"
        )
    config = UperNetConfig(
        backbone_config=backbone.config, hidden_size=recipe.hidden_size, use_auxiliary_head=recipe.auxiliary, **head
    )
    model = UperNetForSemanticSegmentation(config)
    model.backbone = backbone
    return model


def backbone_with(encoder: PreTrainedModel, stages: list[int] | None) -> Any:
    """Return the backbone with an encoder's weights that returns the feature maps of stages, the first being 1."""
    known = AutoBackbone._model_mapping
    if type(encoder.config) not in known:
        raise ValueError(
            f"segmentation.head: UperNet needs a backbone with feature maps, which a {type(encoder).__name__} lacks; "
            "use linear or fcn"
        )
    backbone_class = known[type(encoder.config)]
    config = copy.deepcopy(encoder.config)
    depth = len(config.stage_names) - 1
    if stages is None and issubclass(backbone_class, IsotropicBackbone):
        stages = sorted({max(round(depth * number / _MAPS), 1) for number in range(1, _MAPS + 1)})
    elif stages is None:
        stages = list(range(1, depth + 1))[-_MAPS:]
    if stages[-1] > depth:
        raise ValueError(f"segmentation.stages: the {type(encoder).__name__} has {depth}, got {stages[-1]}")
    config.out_indices = stages
    backbone = backbone_class(config)
    missing, unexpected = backbone.model.load_state_dict(encoder.state_dict(), strict=False)
    ignored = backbone._keys_to_ignore_on_load_unexpected
    unexpected = [name for name in unexpected if not any(re.search(pattern, f"model.{name}") for pattern in ignored)]
    if missing or unexpected:
        raise ValueError(f"the weights of a {type(encoder).__name__} do not fit its backbone: {missing + unexpected}")
    return backbone


def segmentation_processor(processor: Any, model: PreTrainedModel) -> VitsSegmentationProcessor:
    """Return the processor of whole images with an encoder's pixels; their shorter side is the model's image size."""
    fields = {name: getattr(processor, name, None) for name in _PIXEL_FIELDS}
    size: Any = model.config.backbone_config.image_size
    return VitsSegmentationProcessor(
        size={"shortest_edge": min(pair(size))}, **{name: value for name, value in fields.items() if value is not None}
    )
