"""Configuration of the Branchformer of espnet/espnet."""

from collections.abc import Callable
from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig
from .subsampling_windows_branchformer import CONVOLUTIONS, convolved_length, subsampling_factor

Branches = Literal["both", "attention", "mlp"]


@strict
class BranchformerConfig(VitsConfig):
    """Configuration of a Branchformer; the defaults are the encoder for AISHELL, of 24 layers.

    Fields that may differ from layer to layer take one value for all or a list with one for each.

    Args:
        num_mel_bins: features of an input frame.
        n_fft, hop_length, mel_mean, mel_standard_deviation: settings of the feature extractor: samples of a window
            and between windows, and mean and standard deviation by which each bin is normalised (None: those of the
            recording).
            The pipeline uses hop_length to cut long recordings; the model itself uses none of them.
        input_layer: "conv2d<n>", convolutions over time and frequency that subsample by n; or a "linear" layer.
        num_attention_heads, hidden_size: sizes of the attention branch.
        attention_type: "softmax", or "fast" for Fastformer's attention, which needs absolute positions.
        position_embedding_type: "relative" to every attention score; "legacy_relative", as in older ESPnet models;
            "absolute", added to the input; or "scaled_absolute", with a learned factor.
        only_backward_positions: whether the relative term is left out for keys after their query (`zero_triu`).
        qk_norm: whether queries and keys are normalised; with absolute positions and softmax attention.
        max_source_positions: frames after subsampling for which position tables are stored; "legacy_relative" counts
            down from it. Longer inputs work too.
        intermediate_size: channels inside the MLP branch; its gate returns half as many.
        conv_depthwise_kernel_size: kernel size of the gate's convolution, odd.
        use_gate_linear: whether a linear layer follows the gate's convolution.
        gate_act: activation of the gate, a name of transformers' `ACT2FN`, "hardtanh" or "selu"; "linear" for none.
        branches: "both", or "attention" or "mlp" alone, per layer.
        merge_method: how branches are merged: "concat"; "learned_average", by weights computed from the branches;
            "fixed_average", by `mlp_branch_weight`. With an average, a single branch is still projected.
        mlp_branch_weight: weight of the MLP branch in a fixed average, per layer.
        attention_branch_drop_rate: probability, in training and once per batch, that a learned average gives the
            attention branch weight 0, per layer.
        drop_path_rate: probability, in training and once per batch, that a layer is skipped, per layer.
        mask_convolutions: whether convolutions ignore padding, so that padding changes no result. If False, as in
            ESPnet, frames near the end of a sequence depend on the values of the padding.
        pooling: input of the classifier: the "mean" or "max" of the frames, or the "first" frame.
        classifier_dropout_prob: dropout rate before pooling.
        vocab_size: number of tokens of `BranchformerForCTC`; `pad_token_id` is CTC's blank.
    """

    model_type = "hf_vits_branchformer"
    size_fields = ("num_mel_bins", "n_fft", "hop_length", "hidden_size", "num_hidden_layers", "num_attention_heads")
    size_fields += ("max_source_positions", "intermediate_size", "conv_depthwise_kernel_size", "layer_norm_eps")
    size_fields += ("vocab_size",)
    rate_fields = ("hidden_dropout_prob", "position_dropout_prob", "attention_probs_dropout_prob")
    rate_fields += ("classifier_dropout_prob",)
    more_activations = {"gate_act": ("hardtanh", "selu")}

    num_mel_bins: int = 80
    n_fft: int = 512
    hop_length: int = 128
    mel_mean: list[float] | tuple[float, ...] | None = None
    mel_standard_deviation: list[float] | tuple[float, ...] | None = None
    input_layer: Literal["conv2d1", "conv2d2", "conv2d4", "conv2d6", "conv2d8", "linear"] = "conv2d4"
    hidden_size: int = 256
    num_hidden_layers: int = 24
    num_attention_heads: int = 4
    attention_type: Literal["softmax", "fast"] = "softmax"
    position_embedding_type: Literal["relative", "legacy_relative", "absolute", "scaled_absolute"] = "relative"
    only_backward_positions: bool = False
    qk_norm: bool = False
    max_source_positions: int = 5000
    intermediate_size: int = 2048
    conv_depthwise_kernel_size: int = 31
    use_gate_linear: bool = False
    gate_act: str = "linear"
    branches: Branches | list[Branches] | tuple[Branches, ...] = "both"
    merge_method: Literal["concat", "learned_average", "fixed_average"] = "concat"
    mlp_branch_weight: float | int | list[float | int] | tuple[float | int, ...] = 0.5
    attention_branch_drop_rate: float | int | list[float | int] | tuple[float | int, ...] = 0.0
    drop_path_rate: float | int | list[float | int] | tuple[float | int, ...] = 0.0
    hidden_dropout_prob: float | int = 0.1
    position_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-12
    mask_convolutions: bool = False
    pooling: Literal["mean", "max", "first"] = "mean"
    classifier_dropout_prob: float | int = 0.0
    vocab_size: int = 4233
    pad_token_id: int | None = 0

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Audio samples per output frame."""
        return self.hop_length * self.subsampling_factor

    @property
    def subsampling_factor(self) -> int:
        return 1 if self.input_layer == "linear" else subsampling_factor(self.input_layer)

    @property
    def uses_relative_positions(self) -> bool:
        return self.position_embedding_type in ("relative", "legacy_relative")

    def per_layer(self, name: str) -> list:
        """Return a field's value for every layer."""
        value = getattr(self, name)
        return list(value) if isinstance(value, list | tuple) else [value] * self.num_hidden_layers

    def check(self) -> None:
        super().check()
        self.check_heads()
        self.check_layers()
        self.check_positions()
        if self.conv_depthwise_kernel_size % 2 == 0:
            raise ValueError(f"conv_depthwise_kernel_size must be odd, got {self.conv_depthwise_kernel_size}")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id, CTC's blank, must lie in [0, vocab_size={self.vocab_size}), got {self.pad_token_id}"
            )
        if self.intermediate_size % 2:
            raise ValueError(f"intermediate_size must be even, got {self.intermediate_size}")
        if self.input_layer in CONVOLUTIONS and convolved_length(self.input_layer, self.num_mel_bins) < 1:
            raise ValueError(f"num_mel_bins={self.num_mel_bins} is too few for input_layer={self.input_layer!r}")

    def check_layers(self) -> None:
        for name in ("branches", "mlp_branch_weight", "attention_branch_drop_rate", "drop_path_rate"):
            values = self.per_layer(name)
            if len(values) != self.num_hidden_layers:
                raise ValueError(
                    f"{name} needs one value for all layers or one for each of {self.num_hidden_layers}, got {values}"
                )
        self.check_range("mlp_branch_weight", lambda weight: 0 < weight < 1, "between 0 and 1")
        self.check_range("attention_branch_drop_rate", lambda rate: 0 <= rate <= 1, "in [0, 1]")
        self.check_range("drop_path_rate", lambda rate: 0 <= rate < 1, "in [0, 1)")

    def check_range(self, name: str, allows: Callable[[float], bool], wanted: str) -> None:
        if not all(map(allows, self.per_layer(name))):
            hint = ", and to leave a branch out name the other in branches" if name == "mlp_branch_weight" else ""
            raise ValueError(f"{name} must be {wanted}{hint}, got {name}={getattr(self, name)}")

    def check_positions(self) -> None:
        if self.hidden_size % 2:
            raise ValueError(f"sine and cosine positions need an even hidden_size, got {self.hidden_size}")
        kind = self.position_embedding_type
        if self.attention_type == "fast" and self.uses_relative_positions:
            raise ValueError(
                f'attention_type="fast" needs position_embedding_type="absolute" or "scaled_absolute", got {kind!r}'
            )
        if self.qk_norm and (self.uses_relative_positions or self.attention_type == "fast"):
            raise ValueError(
                'qk_norm=True needs attention_type="softmax" and position_embedding_type="absolute" or '
                f'"scaled_absolute", got {self.attention_type!r} and {kind!r}'
            )
        if self.only_backward_positions and kind != "relative":
            raise ValueError(f'only_backward_positions=True needs position_embedding_type="relative", got {kind!r}')


__all__ = ["BranchformerConfig"]
