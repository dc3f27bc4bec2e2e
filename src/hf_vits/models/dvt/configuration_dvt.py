"""Configuration of the Dynamic Vision Transformer of blackfeather-wang/Dynamic-Vision-Transformer."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsBackboneConfig


@strict
class DvtConfig(VitsBackboneConfig):
    """Configuration of DVT; the defaults are DVT_T2t_vit_12.

    Args:
        image_size: (height, width), or one number for both, in pixels, of the position tables. Other sizes work too,
            with resized tables.
        stem: how an image becomes tokens: "t2t" by the soft splits of T2T-ViT, "patch" by one convolution, as in DeiT.
        kernel_sizes, strides, paddings: of the first soft split or of the patches, in pixels, one value per network.
            Each network has an exit.
        token_layer, token_size, token_dropout_prob: layers between the soft splits, as in `T2TConfig`.
        num_hidden_layers: layers of each network.
        attention_scale: factor on the attention scores; None for 1/sqrt(head_dim).
        feature_reuse: whether each layer of the second and later networks reads the tokens of the network before.
        reused_size: channels that each layer makes from the reused tokens.
        reuse_intermediate_size: channels between the two linear layers that make them.
        relation_reuse: whether the attention scores of the network before are added to the scores of the second and
            later networks.
        relation_ratio: intermediate channels of the convolutions over all reused scores, divided by
            num_hidden_layers * num_attention_heads.
        exit_thresholds: confidence, the largest softmax probability, with which an image leaves at each exit; a value
            above 1 closes an exit. The last exit's value is not read and may be left out. None: every image passes
            all networks, and the last one's logits count.
        drop_path_rate: stochastic depth, rising linearly from 0 over the layers of a network.
        apply_layernorm: whether the backbone's feature maps pass through the final norm.
        reshape_hidden_states: whether the backbone returns feature maps (batch, channels, rows, columns); otherwise
            sequences (batch, 1 + patches, channels), the class token first, as DPT and Depth Anything need.
    """

    model_type = "hf_vits_dvt"
    size_fields = ("image_size", "kernel_sizes", "strides", "num_channels", "token_size", "hidden_size")
    size_fields += ("num_hidden_layers", "num_attention_heads", "intermediate_size", "reused_size")
    size_fields += ("reuse_intermediate_size", "relation_ratio", "attention_scale", "layer_norm_eps")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "token_dropout_prob", "drop_path_rate")
    keys_to_ignore_at_inference = [*VitsBackboneConfig.keys_to_ignore_at_inference, "exit_logits", "exits"]

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    stem: Literal["t2t", "patch"] = "t2t"
    kernel_sizes: list[int] | tuple[int, ...] = (14, 11, 7)
    strides: list[int] | tuple[int, ...] = (8, 6, 4)
    paddings: list[int] | tuple[int, ...] = (3, 5, 2)
    token_layer: Literal["performer", "transformer"] = "performer"
    token_size: int = 64
    token_dropout_prob: float | int = 0.1
    num_hidden_layers: int = 12
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 512
    attention_scale: float | None = None
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = False
    feature_reuse: bool = True
    reused_size: int = 48
    reuse_intermediate_size: int = 128
    relation_reuse: bool = True
    relation_ratio: int = 3
    exit_thresholds: list[float | int] | tuple[float | int, ...] | None = None
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    # No fields: T2T-ViT's layers read them, and none of these models has layer scale or LocalViT's feed-forward.
    layer_scale_init_value = None
    feed_forward = "mlp"

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    @property
    def num_exits(self) -> int:
        """Number of networks, each with an exit."""
        return len(self.kernel_sizes)

    def check(self) -> None:
        super().check()
        self.check_heads()
        if self.token_size % 2:
            raise ValueError(f"the performer has half as many features as channels: token_size={self.token_size}")
        if self.num_exits < 2:
            raise ValueError(f"kernel_sizes needs a value for at least two networks, got {self.kernel_sizes}")
        for name in ("strides", "paddings"):
            if len(getattr(self, name)) != self.num_exits:
                raise ValueError(
                    f"{name} needs one value per network, as kernel_sizes={self.kernel_sizes} has, got "
                    f"{name}={getattr(self, name)}"
                )
        for kernel_size, padding in zip(self.kernel_sizes, self.paddings, strict=True):
            if not 0 <= padding <= kernel_size // 2:
                raise ValueError(
                    f"paddings must lie between 0 and half of kernel_sizes={self.kernel_sizes}, got "
                    f"paddings={self.paddings}"
                )
        if self.exit_thresholds is not None:
            self.check_thresholds(len(self.exit_thresholds))

    def check_thresholds(self, count: int) -> None:
        """Raise ValueError unless there is a threshold for each exit, or for each but the last."""
        if count not in (self.num_exits - 1, self.num_exits):
            raise ValueError(
                f"exit_thresholds needs one value for each of {self.num_exits} exits, or for all but the last, got "
                f"{count} values"
            )


__all__ = ["DvtConfig"]
