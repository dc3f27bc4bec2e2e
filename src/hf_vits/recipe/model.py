"""Sections of a recipe: the model, its initial weights, its teacher and its tokenizer."""

from dataclasses import dataclass, field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .fields import positive


@strict
@dataclass(kw_only=True)
class InitializationRecipe:
    """Weights of a trained model from which a new model starts.

    A new model of clips (ViViT, MViT) starts from an image model or a model of other clips, a classifier of VATT from
    the encoder of a pretrained VATT, Leopart from a backbone of the same sizes, C-Tran from a ResNet of transformers.

    A field other than None needs a model whose `initialize_from` method has it.

    pretrained: directory or Hub repository of the model to start from; a ViT or DeiT may be of transformers.
    inflation: conversion of the patch embedding's kernel to several frames, see `hf_vits.layers.inflation`. None: the
        default of the model's original code.
    positions: adaptation of the position embedding: repeat it for every frame (`tile`), resize it (`resize`), or both
        (`resize_tile`). None: the default of the model's original code.
    temporal_attention: weights of the attention across frames of a factorised self-attention ViViT: those of the image
        model (`copy`), or zeros, so that it adds nothing at first (`zero`). None: the default of the original code.
    """

    pretrained: str
    inflation: Literal["central_frame", "average", "repeat", "rank_pooling"] | None = None
    positions: Literal["tile", "resize", "resize_tile"] | None = None
    temporal_attention: Literal["copy", "zero"] | None = None


@strict
@dataclass(kw_only=True)
class ProbeRecipe:
    """A linear classifier on the features of a frozen encoder (linear probing), as in MAE and DINO.

    num_layers: number of last layers whose features are concatenated: their class tokens, or the means of their tokens
        where there is no class token. With 1 the features are the encoder's pooled output.
    patch_mean: also concatenate the mean of the last layer's patch tokens.
    batch_norm: apply a batch norm without learned parameters before the classifier.
    """

    num_layers: int = positive(default=1)
    patch_mean: bool = False
    batch_norm: bool = False


@strict
@dataclass(kw_only=True)
class SegmentationRecipe:
    """A new segmentation head on an image encoder, for semantic-segmentation.

    The encoder is the one of the model that the recipe names otherwise, with its weights; `model.config.image_size` is
    the size of the crops that are trained on, and of the windows that larger images are divided into.

    head: `upernet`, transformers' UperNet on the feature maps of several stages; `linear` or `fcn`, one layer or a few
        convolutions on the patch tokens of the last layer, as in Leopart.
    frozen: whether only the head is trained; of `linear` and `fcn`.
    stages: numbers of the stages, of a ViT of the layers, whose feature maps UperNet takes, the first being 1. None:
        the last four stages, of a ViT four layers evenly spaced up to the last.
    hidden_size: channels of the head, unless it is linear.
    auxiliary: whether UperNet has a second head on the last stage but one, whose loss counts 0.4.
    """

    head: Literal["upernet", "linear", "fcn"] = "upernet"
    frozen: bool = False
    stages: list[int] | None = None
    hidden_size: int = positive(default=512)
    auxiliary: bool = True

    def validate_head(self):
        if self.head == "upernet" and self.frozen:
            raise ValueError("segmentation.frozen goes with segmentation.head: linear or fcn")
        if self.head != "upernet" and self.stages is not None:
            raise ValueError(f"segmentation.stages goes with segmentation.head: upernet, not {self.head}")

    def validate_stages(self):
        stages = self.stages
        if stages is not None and (not stages or sorted(set(stages)) != stages or stages[0] < 1):
            raise ValueError(f"segmentation.stages must be rising numbers from 1 on, got {stages}")


@strict
@dataclass(kw_only=True)
class ModelRecipe:
    """The model to train and its initial weights.

    Give `system` and `variant` (random weights), these two and `checkpoint`, or `pretrained`.

    system: architecture, by its name in `hf-vits list`. None: `pretrained` is given.
    variant: published variant of that architecture, by its name in `hf-vits list`. None: `pretrained` is given.
    checkpoint: checkpoint file of the original code for that variant, converted as `hf-vits convert` does. None:
        random weights.
    pretrained: directory or Hub repository of a model in transformers' format. None: `system` and `variant` are given.
    initialize_from: trained model whose weights a new model of clips (ViViT, MViT), of clips and sounds (VATT),
        Leopart's backbone, or the backbone of a detector starts from. None: random weights.
    probe: train only a linear classifier on the model's frozen encoder, which may have been pretrained without labels.
        None: train the whole model.
    segmentation: a new segmentation head on the model's encoder. None: for other tasks, and for a pretrained model
        that has such a head.
    target: directory or Hub repository of the trained network whose features a new model (MILAN) learns to predict: an
        encoder of hf_vits or transformers' CLIP. None: for all other models.
    config: configuration fields that differ from the variant's or the pretrained model's, by name.
    processor: fields of the processor that differ from the model's own, by name, such as image_mean. Fields of the
        parts of a joint processor are nested, such as {video_processor: {sampling_rate: 2}}.
    """

    system: str | None = None
    variant: str | None = None
    checkpoint: str | None = None
    pretrained: str | None = None
    initialize_from: InitializationRecipe | None = None
    probe: ProbeRecipe | None = None
    segmentation: SegmentationRecipe | None = None
    target: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)

    def validate_origin(self):
        if self.pretrained is None and (self.system is None or self.variant is None):
            raise ValueError("name either `system` and `variant`, or `pretrained`")
        if self.pretrained is not None and (self.system or self.variant or self.checkpoint):
            raise ValueError("`pretrained` excludes the others: leave out `system`, `variant` and `checkpoint`")
        if self.probe is not None and self.segmentation is not None:
            raise ValueError("`probe` and `segmentation` are both new heads of the model: give one of them")
        if self.initialize_from is not None and (self.pretrained or self.checkpoint):
            raise ValueError("`initialize_from` is for new models: leave out `pretrained` and `checkpoint`")
        if self.target is not None and (self.pretrained or self.checkpoint):
            raise ValueError("`target` is for new models: leave out `pretrained` and `checkpoint`")


@strict
@dataclass(kw_only=True)
class TeacherRecipe:
    """The trained classifier to distil from.

    pretrained: directory or Hub repository of the classifier.
    revision: branch, tag or commit of the Hub repository. None: its default branch.
    """

    pretrained: str
    revision: str | None = None


@strict
@dataclass(kw_only=True)
class TokenizerRecipe:
    """The tokenizer of a speech recognition model that has none, learned from the training texts.

    kind: `characters`, one token per character, or `bpe`, subwords by byte-pair encoding.
    vocab_size: number of subwords, with `bpe` only. None: with `characters`, which need no number.
    lowercase: convert all texts to lower case.
    """

    kind: Literal["characters", "bpe"] = "characters"
    vocab_size: int | None = positive(default=None)
    lowercase: bool = False

    def validate_size(self):
        if (self.kind == "bpe") != (self.vocab_size is not None):
            raise ValueError("tokenizer.vocab_size goes with tokenizer.kind: bpe, and has no default")
