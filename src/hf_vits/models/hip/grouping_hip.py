"""Division of modalities into groups (google-deepmind/hierarchical_perceiver, perceiver_blocks.py)."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn


class Span(NamedTuple):
    """The groups of one modality.

    Attributes:
        count: number of groups.
        final_padding: zeros after the modality, so that its groups are equally long.
        group_padding: zeros after each of its groups, so that all groups of the model are equally long.
    """

    count: int
    final_padding: int
    group_padding: int


def spans(num_groups: int, counts: list[int]) -> list[Span]:
    """Divide `num_groups` among modalities with these index counts.

    Each gets one group; the others go one by one to the modality with the longest groups, the first of equals.
    """
    groups, lengths = [1] * len(counts), [float(count) for count in counts]
    for _ in range(num_groups - len(counts)):
        longest = lengths.index(max(lengths))
        groups[longest] += 1
        lengths[longest] = counts[longest] / groups[longest]
    length = math.ceil(max(lengths))
    own = [math.ceil(count / number) for count, number in zip(counts, groups, strict=True)]
    return [
        Span(number, number * size - count, length - size)
        for count, number, size in zip(counts, groups, own, strict=True)
    ]


class Grouping(nn.Module):
    """Joins modalities to groups, none of which has more than one modality, and divides groups into modalities.

    Padding is zeros, which attention sees like any input.
    """

    def __init__(self, num_groups: int):
        super().__init__()
        self.num_groups = num_groups

    def forward(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Join {name: (batch, index, channels)} to (batch, groups, length of a group, channels)."""
        groups = []
        counts = [value.shape[1] for value in values.values()]
        for span, value in zip(spans(self.num_groups, counts), values.values(), strict=True):
            value = nn.functional.pad(value, (0, 0, 0, span.final_padding)).unflatten(1, (span.count, -1))
            groups.append(nn.functional.pad(value, (0, 0, 0, span.group_padding)))
        return torch.cat(groups, dim=1)

    def split(self, groups: torch.Tensor, counts: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """Divide (batch, groups, length, channels) into {name: (batch, index, channels)} by the index counts.

        As many rows are cut off as `forward` padded, at the end of each group and of each modality. Of latents, which
        have no padding, the original cuts off just as many; where these are more than there are latents, its slice
        ends at a negative index, and so does this one.
        """
        values, first = {}, 0
        for span, name in zip(spans(self.num_groups, list(counts.values())), counts, strict=True):
            own = groups[:, first : first + span.count]
            own = own[:, :, : own.shape[2] - span.group_padding].flatten(1, 2)
            values[name] = own[:, : own.shape[1] - span.final_padding]
            first += span.count
        return values


class Concatenation(nn.Module):
    """Joins all modalities to one group, as Perceiver IO does."""

    def forward(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Join {name: (batch, index, channels)} to (batch, 1, sum of index counts, channels)."""
        return torch.cat(list(values.values()), dim=1)[:, None]

    def split(self, groups: torch.Tensor, counts: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """Divide (batch, 1, length, channels) into {name: (batch, index, channels)}; what lies beyond is empty."""
        values, first = {}, 0
        for name, count in counts.items():
            values[name] = groups[:, 0, first : first + count]
            first += count
        return values


def regroup(latents: torch.Tensor, num_groups: int, transpose: bool) -> torch.Tensor:
    """Divide latents (batch, groups, latents, channels) into another number of groups.

    Args:
        transpose: whether every new group gets latents of all old ones; else neighbours stay together.
    """
    if transpose:
        latents = latents.transpose(1, 2)
    return latents.flatten(1, 2).unflatten(1, (num_groups, -1))
