"""Branchformer: layers in which self-attention and a convolutional gating MLP read the same frames side by side.

Peng et al., "Branchformer: Parallel MLP-Attention Architectures to Capture Local and Global Context for Speech
Recognition and Understanding", arXiv 2207.02971; espnet/espnet (espnet2/asr/encoder/branchformer_encoder.py).
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import initialization as init
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import CausalLMOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...layers.attention import Attention, SplitHeads, padding_bias
from ...layers.pooling import FramePooling
from ...layers.sequence_losses import check_labels, ctc_loss
from ...modeling import EncoderOutput, ForClassification, VitsPreTrainedModel, init_as_torch, recorded_states
from .configuration_branchformer import BranchformerConfig
from .fast_attention_branchformer import FastAttention
from .gating_branchformer import SpatialGate
from .layers_branchformer import BranchformerEmbeddings, BranchformerLayer
from .merging_branchformer import BranchMerge
from .relative_attention_branchformer import RelativeSelfAttention
from .subsampling_branchformer import subsample_mask
from .subsampling_windows_branchformer import convolved_length, smallest_length


@dataclass
class BranchformerOutput(EncoderOutput):
    """Output of the encoder; `last_hidden_state` is (batch, frames after subsampling, hidden_size).

    frame_mask: (batch, frames after subsampling), 1 for frames, 0 for padding; None where no mask was given.
    branch_weights: weights of attention and MLP branch (batch, 2) for each layer with a learned average; with
        `output_branch_weights=True`.
    """

    frame_mask: torch.Tensor | None = None
    branch_weights: tuple[torch.Tensor, ...] | None = None


@dataclass
class CtcOutput(CausalLMOutput):
    """Output of a CTC model.

    loss: scalar, where labels were given.
    logits: (batch, frames after subsampling, vocab_size).
    lengths: (batch,), number of frames that are not padding; None where no mask was given.
    The other fields are as in `BranchformerOutput`.
    """

    lengths: torch.Tensor | None = None
    branch_weights: tuple[torch.Tensor, ...] | None = None
    query_states: tuple[torch.Tensor, ...] | None = None
    key_states: tuple[torch.Tensor, ...] | None = None
    value_states: tuple[torch.Tensor, ...] | None = None


class BranchformerPreTrainedModel(VitsPreTrainedModel):
    config_class = BranchformerConfig
    main_input_name = "input_features"
    input_modalities = ("audio",)
    _supports_flash_attn = False  # flash attention supports no bias
    _no_split_modules = ["BranchformerLayer"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(BranchformerLayer),
        "attentions": OutputRecorder(Attention, index=1),
        "branch_weights": OutputRecorder(BranchMerge, index=1),
        "query_states": OutputRecorder(SplitHeads, index=0),
        "key_states": OutputRecorder(SplitHeads, index=1),
        "value_states": OutputRecorder(SplitHeads, index=2),
    }

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as PyTorch; gates start as identity, fast attention with small weights."""
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            init_as_torch(module)
        elif isinstance(module, SpatialGate):
            for layer in (module.convolution, module.linear):
                if layer is not None:
                    init.normal_(layer.weight, std=1e-6)
                    init.ones_(layer.bias)
        elif isinstance(module, FastAttention):
            for layer in (module.query_key, module.query_score, module.key_score, module.projection):
                init.normal_(layer.weight, std=0.02)
                init.zeros_(layer.bias)
        elif isinstance(module, RelativeSelfAttention):
            init.xavier_uniform_(module.content_bias)
            init.xavier_uniform_(module.distance_bias)
        elif isinstance(module, BranchformerEmbeddings):
            if module.position_scale is not None:
                init.ones_(module.position_scale)
        else:
            super()._init_weights(module)

    @torch.no_grad()
    def pruned(self, branch: Literal["attention", "mlp"], layers: Sequence[int] | None = None):
        """Return a smaller model without the other branch, equal to this model with weight 1 for `branch`.

        Args:
            branch: the branch to keep.
            layers: indices of the layers to prune; None for all.

        Returns:
            A model of the same class in evaluation mode, its parameters copied. Raises ValueError for a model that
            concatenates its branches, which have no weights, and for layers without the branch.
        """
        config = deepcopy(self.config)
        if config.merge_method == "concat":
            raise ValueError(
                'pruning needs branches that are averaged: merge_method="learned_average" or "fixed_average", got '
                '"concat"'
            )
        branches = config.per_layer("branches")
        for index in range(len(branches)) if layers is None else layers:
            if branches[index] not in ("both", branch):
                raise ValueError(f"layer {index} has no {branch} branch to keep, it has {branches[index]!r} alone")
            branches[index] = branch
        config.branches = branches
        with no_init_weights():
            smaller = type(self)(config).to(self.device, self.dtype).eval()
        state = self.state_dict()
        smaller.load_state_dict({key: state[key] for key in smaller.state_dict()})
        return smaller

    def _get_feat_extract_output_lengths(self, input_lengths: torch.Tensor | int) -> torch.Tensor | int:
        """Return the number of frames after subsampling for inputs of `input_lengths` frames without padding."""
        name = self.config.input_layer
        if name == "linear":
            return input_lengths
        lengths = convolved_length(name, input_lengths)
        return lengths.clamp(min=0) if isinstance(lengths, torch.Tensor) else max(lengths, 0)


class BranchformerModel(BranchformerPreTrainedModel):
    """Branchformer encoder; `pooler_output` is the classifier's input."""

    _input_embed_layer = "subsampling"

    def __init__(self, config: BranchformerConfig):
        super().__init__(config)
        self.embeddings = BranchformerEmbeddings(config)
        self.layers = nn.ModuleList(BranchformerLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = FramePooling(config.pooling, config.classifier_dropout_prob)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BranchformerOutput:
        """Encode speech.

        Args:
            input_features: (batch, frames, num_mel_bins), normalised by the feature extractor.
            attention_mask: (batch, frames), 0 for padding, 1 for frames. Sequences are padded at their end.
        """
        self.check_inputs(input_features, attention_mask)
        hidden_states, position_states = self.embeddings(input_features.to(self.norm.weight.dtype))
        frame_mask = None if attention_mask is None else self.frame_mask(attention_mask)
        bias = None if frame_mask is None else padding_bias(frame_mask[:, None], hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, position_states, frame_mask, bias, **kwargs)
        hidden_states = self.norm(hidden_states)
        pooled = self.pooler(hidden_states, frame_mask)
        return BranchformerOutput(
            last_hidden_state=hidden_states,
            pooler_output=pooled,
            frame_mask=None if frame_mask is None else frame_mask.long(),
        )

    def frame_mask(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames) to boolean (batch, frames after subsampling)."""
        mask, name = attention_mask > 0, self.config.input_layer
        return mask if name == "linear" else subsample_mask(name, mask, self.config.mask_convolutions)

    def check_inputs(self, input_features: torch.Tensor | None, attention_mask: torch.Tensor | None) -> None:
        bins, name = self.config.num_mel_bins, self.config.input_layer
        if input_features is None or input_features.ndim != 3 or input_features.shape[2] != bins:
            found = "nothing" if input_features is None else f"shape {tuple(input_features.shape)}"
            raise ValueError(f"You have to specify input_features: (batch, frames, {bins}), got {found}")
        least = 1 if name == "linear" else smallest_length(name)
        if input_features.shape[1] < least:
            raise ValueError(
                f"input_features have {input_features.shape[1]} frames, and {name} needs at least {least}: pad them"
            )
        if attention_mask is not None and attention_mask.shape != input_features.shape[:2]:
            raise ValueError(
                f"attention_mask must be (batch, frames) = {tuple(input_features.shape[:2])}, got "
                f"{tuple(attention_mask.shape)}"
            )


class BranchformerForCTC(BranchformerPreTrainedModel):
    """Branchformer with a CTC head, which predicts a token or blank for every frame."""

    # The loss is a mean over recordings, not over tokens, so that Trainer has to average it over accumulated parts.
    accepts_loss_kwargs = False

    def __init__(self, config: BranchformerConfig):
        super().__init__(config)
        self.model = BranchformerModel(config)
        self.ctc_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CtcOutput:
        """Recognise speech.

        Args:
            input_features, attention_mask: as in `BranchformerModel.forward`.
            labels: (batch, tokens), padded at the end with -100. The loss is summed over each sequence and averaged
                over the batch; a sequence too short for its labels counts as 0.

        Returns:
            loss where labels were given, and logits (batch, frames after subsampling, vocab_size).
        """
        outputs = self.model(input_features, attention_mask, return_dict=True, **kwargs)
        logits = self.ctc_head(outputs.last_hidden_state)
        loss, mask = None, outputs.frame_mask
        if labels is not None:
            check_labels(labels, self.config.vocab_size, outputs.last_hidden_state.shape[0])
            loss = ctc_loss(logits, mask, labels, self.config.pad_token_id)
        return CtcOutput(
            loss=loss,
            logits=logits,
            lengths=None if mask is None else mask.sum(dim=1),
            branch_weights=outputs.branch_weights,
            **recorded_states(outputs),
        )


class BranchformerForAudioClassification(ForClassification, BranchformerPreTrainedModel):
    """Branchformer with a linear classifier on its pooled frames, as ESPnet's linear decoder."""

    model_class = BranchformerModel

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ):
        """Classify recordings.

        Args:
            input_features, attention_mask: as in `BranchformerModel.forward`.
            labels: as in `classify`.
        """
        outputs = self.model(input_features, attention_mask, return_dict=True, **kwargs)
        return self.classify(outputs, labels, **kwargs)


__all__ = [
    "BranchformerForAudioClassification",
    "BranchformerForCTC",
    "BranchformerModel",
    "BranchformerPreTrainedModel",
]
