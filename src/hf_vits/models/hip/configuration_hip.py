"""Configuration of HiP (google-deepmind/hierarchical_perceiver)."""

import math
import re
from collections.abc import Iterable
from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig

# Names of the modalities that classifiers read.
IMAGE, WAVEFORM = "image", "waveform"


@strict
class HipConfig(VitsConfig):
    """Configuration of HiP, of HiPClassBottleneck and of Perceiver IO; the defaults are HiP-Mini.

    A block has one value in each of the lists below. There is an odd number of blocks: encoder, processor (the middle
    block, of one group), decoder. A single block is Perceiver IO, which joins all modalities in its one group.

    Args:
        modalities: {name: (index count, channels)}, or a list of (name, index count, channels). It is kept as a list,
            because the order of modalities determines their groups. Position tables exist for exactly these counts.
            Image classifiers read the modality "image", audio classifiers the modality "waveform".
        datasets: lists of names of modalities that come together in one batch, in the order of their groups; None for
            a single list of all modalities.
        label_modalities: names of modalities that enter and leave at the processor, as in HiPClassBottleneck.
        embedding_size: channels to which the values of every modality are embedded.
        use_position_projection: whether a square matrix projects position embeddings. There is one for the first
            modality of every dataset, one for the second, and so on.
        num_groups: groups of each block; attention stays within a group.
        num_latents: latents of a group in each block.
        num_training_latents: in training, the processor uses a random subset of so many of its latents; None for all.
        hidden_sizes: channels of the latents in each block.
        depths: self-attention layers of each block.
        num_attention_heads, num_cross_attention_heads: heads of self-attention and of cross-attention in each block.
        mlp_ratios, cross_mlp_ratios: width of the MLP over `hidden_sizes`, after self-attention and after
            cross-attention.
        regroup_type: how latents are divided into the groups of the next block: "reshape" keeps neighbours together,
            "transpose_reshape" mixes all groups.
        hidden_dropout_prob, drop_path_rate: of self-attention layers; the latter is the same for all layers.
        mask_ratio: fraction of each modality that is hidden in pretraining.
    """

    model_type = "hf_vits_hip"
    block_fields = ("num_latents", "hidden_sizes", "depths", "num_attention_heads", "num_cross_attention_heads")
    block_fields += ("mlp_ratios", "cross_mlp_ratios")
    size_fields = ("embedding_size", "num_groups", "num_training_latents", "layer_norm_eps")
    size_fields += tuple(name for name in block_fields if name != "depths")
    rate_fields = ("hidden_dropout_prob", "drop_path_rate", "mask_ratio")

    modalities: list | tuple | dict = ((IMAGE, 1024, 3),)
    datasets: list[list[str]] | tuple | None = None
    label_modalities: list[str] | tuple[str, ...] = ()
    embedding_size: int = 32
    use_position_projection: bool = True
    num_groups: list[int] | tuple[int, ...] = (16, 1, 16)
    num_latents: list[int] | tuple[int, ...] = (128, 64, 128)
    num_training_latents: int | None = None
    hidden_sizes: list[int] | tuple[int, ...] = (128, 1024, 128)
    depths: list[int] | tuple[int, ...] = (2, 1, 1)
    num_attention_heads: list[int] | tuple[int, ...] = (4, 32, 4)
    num_cross_attention_heads: list[int] | tuple[int, ...] = (1, 1, 1)
    mlp_ratios: list[int] | tuple[int, ...] = (4, 4, 4)
    cross_mlp_ratios: list[int] | tuple[int, ...] = (1, 1, 1)
    regroup_type: Literal["reshape", "transpose_reshape"] = "reshape"
    hidden_act: str = "relu2"
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    mask_ratio: float | int = 0.75

    def __post_init__(self, **kwargs):
        rows = self.modalities
        if isinstance(rows, dict):
            sizes = rows.items()
            rows = [[name, *(size if isinstance(size, list | tuple) else [size])] for name, size in sizes]
        self.modalities = [list(row) if isinstance(row, tuple) else row for row in rows]
        super().__post_init__(**kwargs)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Index count and channels of each modality, by name."""
        return {name: (count, channels) for name, count, channels in self.modalities}

    @property
    def batches(self) -> list[list[str]]:
        """Names of the modalities of each dataset, in order."""
        return [list(names) for names in self.datasets or [self.sizes]]

    @property
    def processor_index(self) -> int:
        """Index of the processor among the blocks."""
        return len(self.num_groups) // 2

    @property
    def input_sizes(self) -> list[int]:
        """Channels of what each block attends to."""
        return [self.embedding_size, *self.hidden_sizes[:-1]]

    @property
    def hidden_size(self) -> int:
        """Channels of the last block."""
        return self.hidden_sizes[-1]

    @property
    def pooler_size(self) -> int:
        """Channels of the processor, whose latents are pooled."""
        return self.hidden_sizes[self.processor_index]

    @property
    def num_hidden_layers(self) -> int:
        """Number of blocks."""
        return len(self.num_groups)

    @property
    def image_size(self) -> int | None:
        """Side of the square image that has the index count of the modality "image"; None if there is none."""
        count, _ = self.sizes.get(IMAGE, (0, 0))
        side = math.isqrt(count)
        return side if count and side * side == count else None

    @property
    def num_channels(self) -> int | None:
        """Channels of the modality "image"; None if there is none."""
        return self.sizes[IMAGE][1] if IMAGE in self.sizes else None

    def padded_length(self, length: int) -> int:
        """Return the number of samples of the only waveforms that the model takes, whatever the given length."""
        return math.prod(self.sizes[WAVEFORM])

    def inputs_of(self, names: Iterable[str], dataset: list[str]) -> list[str]:
        """Return those of `names` that enter at the first block, in the order of `dataset`."""
        given = set(names)
        return [name for name in dataset if name in given and name not in self.label_modalities]

    def find_dataset(self, names: Iterable[str]) -> int:
        """Return the index of the dataset whose modalities have exactly these names; ValueError if there is none."""
        given = set(names)
        for index, dataset in enumerate(self.batches):
            if given == set(dataset):
                return index
        closest = max(self.batches, key=lambda dataset: len(given & set(dataset)))
        parts = {"missing": set(closest) - given, "unknown or of another dataset": given - set(closest)}
        listed = "; ".join(f"{what}: {', '.join(sorted(map(str, part)))}" for what, part in parts.items() if part)
        raise ValueError(
            f"inputs must have the modalities {' or '.join(', '.join(names) for names in self.batches)}; {listed}. "
            "Pass zeros for a modality that is to be reconstructed"
        )

    def check(self) -> None:
        self.check_modalities()
        super().check()
        self.check_blocks()
        self.check_datasets()

    def check_modalities(self) -> None:
        """Raise ValueError unless every modality has a name, an index count and channels."""
        for row in self.modalities:
            fits = isinstance(row, list) and len(row) == 3 and isinstance(row[0], str)
            fits = fits and all(isinstance(size, int) and size > 0 for size in row[1:])
            if not fits or not re.fullmatch(r"[\w-]+", row[0]):
                raise ValueError(
                    "modalities must be {name: (index count, channels)} or a list of (name, index count, channels), "
                    f"with names of letters, digits, _ and -, and positive sizes, got {row!r}"
                )
        if not self.modalities or len(self.sizes) < len(self.modalities):
            raise ValueError(f"modalities must be one or more, with different names, got {self.modalities}")

    def check_blocks(self) -> None:
        """Raise ValueError unless the blocks follow one another, and the decoder mirrors the encoder."""
        groups, latents, count = self.num_groups, self.num_latents, len(self.num_groups)
        for name in self.block_fields:
            if len(getattr(self, name)) != count:
                raise ValueError(
                    f"{name} needs one value per block, as num_groups={groups} has, got {name}={getattr(self, name)}"
                )
        if any(depth < 0 for depth in self.depths):
            raise ValueError(f"depths must not be negative, got depths={self.depths}")
        if count % 2 == 0 or groups[self.processor_index] != 1:
            raise ValueError(
                "num_groups must have an odd number of blocks, the one in the middle of one group, got "
                f"num_groups={groups}"
            )
        wanted = self.num_training_latents
        if wanted is not None and wanted > latents[self.processor_index]:
            raise ValueError(
                f"num_training_latents must be at most the processor's num_latents={latents[self.processor_index]}, "
                f"got num_training_latents={wanted}"
            )
        for index in range(count):
            self.check_heads_of(index)
            totals = {groups[index - 1] * latents[index - 1]} if index else set()
            if wanted is not None and index == self.processor_index + 1:
                totals.add(wanted)
            for total in totals:
                if total % groups[index]:
                    raise ValueError(
                        f"the {total} latents of block {index - 1} cannot be divided into {groups[index]} groups: "
                        f"got num_groups={groups}, num_latents={latents}, num_training_latents={wanted}"
                    )
            mirror = count - 1 - index
            if index > mirror and (latents[index] != latents[mirror] or groups[mirror] not in (1, groups[index])):
                raise ValueError(
                    f"block {index} adds the output of block {mirror}, and must have as many groups and latents: got "
                    f"num_groups={groups}, num_latents={latents}"
                )

    def check_heads_of(self, index: int) -> None:
        """Raise ValueError unless the heads of a block divide its channels."""
        size, input_size = self.hidden_sizes[index], self.input_sizes[index]
        heads, cross_heads = self.num_attention_heads[index], self.num_cross_attention_heads[index]
        if size % heads or size % cross_heads or input_size % cross_heads:
            raise ValueError(
                f"num_attention_heads and num_cross_attention_heads of block {index} must divide its {size} channels, "
                f"and the latter the {input_size} channels of its input, got {heads} and {cross_heads}"
            )

    def check_datasets(self) -> None:
        """Raise ValueError unless the datasets consist of all modalities, each with as many as there are groups."""
        names, used = set(self.sizes), {name for dataset in self.batches for name in dataset}
        if names != used:
            raise ValueError(
                f"datasets must contain the modalities {', '.join(self.sizes)}, each at least once, got "
                f"datasets={self.datasets}; datasets=None for one dataset of all"
            )
        labels = set(self.label_modalities)
        if labels - names or (labels and len(self.num_groups) == 1):
            raise ValueError(
                "label_modalities must be names of modalities, of a model with blocks before the processor, got "
                f"label_modalities={self.label_modalities}"
            )
        for dataset in self.batches:
            count = len(self.inputs_of(dataset, dataset))
            if len(set(dataset)) < len(dataset) or not count:
                raise ValueError(f"a dataset needs different modalities, not only labels, got {dataset}")
            if len(self.num_groups) > 1 and count > self.num_groups[0]:
                raise ValueError(
                    f"the first block needs a group for each of {count} modalities, got num_groups={self.num_groups}"
                )


__all__ = ["HipConfig"]
