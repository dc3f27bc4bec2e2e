"""Which labels are known where a model that takes known labels is evaluated."""

import hashlib
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_vits.layers.multi_label import UNKNOWN


def unknown_indices(pixel_values: np.ndarray, num_labels: int, num_known: int) -> list[int]:
    """Return the labels of an image that are unknown, in the order drawn, always the same for the same image.

    QData/C-Tran, dataloaders/data_utils.py: the seed is the SHA-1 of the image, preprocessed, in hexadecimal.

    Args:
        pixel_values: float32 (channels, height, width).
        num_known: how many of the `num_labels` labels are known.
    """
    digest = hashlib.sha1(np.ascontiguousarray(pixel_values)).hexdigest()
    return Random(digest).sample(range(num_labels), num_labels - num_known)


def unknown_concepts(
    groups: Mapping[int, Sequence[int]], known_groups: Sequence[int], certainty: np.ndarray | None
) -> list[int]:
    """Return the concepts of an image that are unknown where whole groups of them are known, in order.

    QData/C-Tran, dataloaders/cub312_dataset.py, for CUB-200-2011.

    Args:
        groups: {number of a group: its concepts}.
        known_groups: numbers of the groups that are known; without any, all concepts are unknown.
        certainty: (concepts,), how certain the annotator was; concepts of certainty 1, not visible, stay unknown.
            None: all are certain.
    """
    num_concepts = sum(len(concepts) for concepts in groups.values())
    is_unknown = np.ones(num_concepts, dtype=bool)
    for number in known_groups:
        is_unknown[list(groups[number])] = False
    if certainty is not None:
        is_unknown |= certainty[:num_concepts] == 1
    return np.flatnonzero(is_unknown).tolist()


def known_except(labels: np.ndarray, unknown: Sequence[int]) -> np.ndarray:
    """Return known labels (num_labels,): `labels` where they are not unknown, nor NaN."""
    known = np.where(np.isnan(labels), UNKNOWN, np.round(np.nan_to_num(labels)))
    known[list(unknown)] = UNKNOWN
    return known.astype(np.float32)


def known_states(model: PreTrainedModel, known: Mapping[str, bool | float] | Sequence[tuple]) -> torch.Tensor:
    """Return known labels (num_labels,) from {name of a label: whether it is positive}.

    Raises ValueError for a name that is no label of the model, or a model that takes no known labels.
    """
    if "known_labels" not in getattr(model, "own_arguments", ()) or not getattr(
        model.config, "use_known_labels", True
    ):
        raise ValueError(f"a {type(model).__name__} takes no known labels; C-Tran does")
    known, names = dict(known), [model.config.id2label[index] for index in range(model.config.num_labels)]
    positions = {name: index for index, name in enumerate(names)}
    if unknown := [name for name in known if name not in positions]:
        raise ValueError(
            f"{', '.join(map(repr, unknown))} is no label of the model, whose labels are {', '.join(names[:20])}"
            f"{', ...' if len(names) > 20 else ''}"
        )
    states = torch.full((len(names),), float(UNKNOWN))
    for name, state in known.items():
        states[positions[name]] = float(state)
    return states
