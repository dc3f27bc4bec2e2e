"""Conversion of the tensors of a checkpoint to a model."""

from collections.abc import Mapping

from transformers import PreTrainedModel
from transformers.utils import logging

from .checkpoint import unwrap
from .core import converted
from .search import assumption, check_weights, nearest

logger = logging.get_logger(__name__)


def convert(name: str, variant: str | None, state_dict: Mapping, **overrides) -> PreTrainedModel:
    """Convert a checkpoint of the original, or of timm, torchvision or transformers, to a model of ours.

    Args:
        name: a system, one of `SYSTEMS`.
        variant: a published variant of it, one of `variants(name)`, or another library's name of one. None for the
            nearest one, of which only what no tensor records is taken; a warning of the logger names these fields.
        state_dict: {original key: tensor or array}, plain or wrapped in a dict as training scripts save it.
        overrides: configuration fields that replace the variant's, such as `num_hidden_layers` or `image_size` (the
            position table is then resized as the original does it). With `out_features`, a list of stages, systems
            that also convert detectors (CoaT, RegionViT, MViT) return a backbone.

    Returns:
        The model with its head, float32, in eval mode; it computes the same outputs as the original.

    Raises:
        ValueError: the system, variant or a field is unknown, or keys are missing, unexpected or misshapen. The
            message counts them and names the first of each kind.
    """
    tensors = unwrap(state_dict)
    check_weights(tensors)
    if variant is None:
        variant, assumed = nearest(name, tensors, overrides)
        overrides = assumed | overrides
        if assumed:
            logger.warning(assumption(variant, assumed))
    return converted(name, variant, tensors, overrides)
