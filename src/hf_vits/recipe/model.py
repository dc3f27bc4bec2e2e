"""The sections of a recipe that say which model is trained, from which it starts and from which it learns."""

from dataclasses import dataclass, field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .fields import positive


@strict
@dataclass(kw_only=True)
class InitializationRecipe:
    """The image model, or the one of other clips, that a model of clips starts from.

    pretrained: its directory or Hub repository; a ViT or DeiT may be transformers' own.
    inflation, positions, temporal_attention: see `initialize_from` of the model's class, which may not have them all;
        none: as the original does it.
    """

    pretrained: str
    inflation: Literal["central_frame", "average", "repeat", "rank_pooling"] | None = None
    positions: Literal["tile", "resize", "resize_tile"] | None = None
    temporal_attention: Literal["copy", "zero"] | None = None


@strict
@dataclass(kw_only=True)
class ProbeRecipe:
    """A linear classifier on the features of a frozen encoder, as MAE and DINO judge theirs.

    num_layers: how many of the last layers give features: class tokens, or means where there is none; with 1 it is
        what the encoder pools.
    patch_mean: whether the mean of the last layer's patches is a feature too.
    batch_norm: whether a batch norm without parameters stands before the classifier.
    """

    num_layers: int = positive(default=1)
    patch_mean: bool = False
    batch_norm: bool = False


@strict
@dataclass(kw_only=True)
class ModelRecipe:
    """Where the model comes from: `system` and `variant` (from scratch), these and `checkpoint`, or `pretrained`.

    system, variant: a published variant by name (`hf-vits list` shows them).
    checkpoint: an original checkpoint file of that variant, converted as `hf-vits convert` does.
    pretrained: directory or Hub repository of any transformers image classifier.
    initialize_from: an image model whose weights a model of clips (ViViT, MViT) starts from, in place of random ones.
    probe: train a linear classifier on the model's encoder, which stays as it is; the model may be of any kind, such
        as one that was pretrained without labels.
    config: configuration fields that differ from the variant's or the pretrained model's.
    processor: image processor fields that differ, such as image_mean.
    """

    system: str | None = None
    variant: str | None = None
    checkpoint: str | None = None
    pretrained: str | None = None
    initialize_from: InitializationRecipe | None = None
    probe: ProbeRecipe | None = None
    config: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)

    def validate_origin(self):
        if self.pretrained is None and (self.system is None or self.variant is None):
            raise ValueError("name either `system` and `variant`, or `pretrained`")
        if self.pretrained is not None and (self.system or self.variant or self.checkpoint):
            raise ValueError("`pretrained` stands alone: leave out `system`, `variant` and `checkpoint`")
        if self.initialize_from is not None and (self.pretrained or self.checkpoint):
            raise ValueError("`initialize_from` is for new models: leave out `pretrained` and `checkpoint`")


@strict
@dataclass(kw_only=True)
class TeacherRecipe:
    """The classifier to distil from.

    pretrained: its directory or Hub repository.
    revision: branch, tag or commit of the repository; none: its main branch.
    """

    pretrained: str
    revision: str | None = None


@strict
@dataclass(kw_only=True)
class TokenizerRecipe:
    """The tokens of speech recognition, learned from the training texts; for a model that comes without any.

    kind: a token per character, or subwords by byte-pair encoding (bpe).
    vocab_size: of subwords.
    lowercase: whether texts are lowercased.
    """

    kind: Literal["characters", "bpe"] = "characters"
    vocab_size: int | None = positive(default=None)
    lowercase: bool = False

    def validate_size(self):
        if (self.kind == "bpe") != (self.vocab_size is not None):
            raise ValueError("tokenizer.vocab_size goes with tokenizer.kind: bpe, and has no default")
