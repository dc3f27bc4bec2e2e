"""Configuration of the Compact Transformers of SHI-Labs/Compact-Transformers for images."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsBackboneConfig, VitsConfig, pair


class CctBaseConfig(VitsConfig):
    """Fields that the configurations for images and for text share.

    Attributes:
        kernel_size, stride, padding: of each convolution of the tokenizer, in pixels or cells of its input, or in
            words.
        conv_act: activation after each convolution, a name of transformers' `ACT2FN`; None for none.
        use_max_pool: whether max-pooling follows each convolution.
        pool_kernel_size, pool_stride, pool_padding: of the max-pooling.
        pooling: what the classifier reads: the class "token", or the "sequence" pooled with learned weights.
        drop_path_rate: stochastic depth, rising linearly to the rate.
    """

    size_fields = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps")
    size_fields += ("kernel_size", "stride", "pool_kernel_size", "pool_stride")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")

    kernel_size: int = 3
    stride: int = 1
    padding: int = 1
    conv_act: str | None = "relu"
    use_max_pool: bool = True
    pool_kernel_size: int = 3
    pool_stride: int = 2
    pool_padding: int = 1
    hidden_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    intermediate_size: int = 128
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.1
    drop_path_rate: float | int = 0.1
    pooling: Literal["sequence", "token"] = "sequence"

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.pooling == "token")

    def smallest_length(self, num_conv_layers: int) -> int:
        """Return the side in pixels, or words, of the smallest input that gives the tokenizer a token."""
        length = 1
        for _ in range(num_conv_layers):
            if self.use_max_pool:
                length = max(1, (length - 1) * self.pool_stride + self.pool_kernel_size - 2 * self.pool_padding)
            length = max(1, (length - 1) * self.stride + self.kernel_size - 2 * self.padding)
        return length

    def check_length(self, field: str, num_conv_layers: int) -> None:
        """Raise ValueError where the input that `field` names is too small for the tokenizer."""
        smallest, value = self.smallest_length(num_conv_layers), getattr(self, field)
        if min(pair(value)) < smallest:
            raise ValueError(
                f"{field} must be at least {smallest}, so that the convolutions and poolings give a token, got "
                f"{field}={value} with num_conv_layers={num_conv_layers} of kernel_size={self.kernel_size}, "
                f"stride={self.stride}, padding={self.padding}, pool_kernel_size={self.pool_kernel_size}, "
                f"pool_stride={self.pool_stride} and pool_padding={self.pool_padding}"
            )

    def check(self) -> None:
        super().check()
        self.check_heads()
        if self.padding < 0:
            raise ValueError(f"padding must not be negative, got padding={self.padding}")
        if not 0 <= self.pool_padding <= self.pool_kernel_size // 2:
            raise ValueError(
                f"pool_padding must lie between 0 and half of pool_kernel_size={self.pool_kernel_size}, got "
                f"pool_padding={self.pool_padding}"
            )


@strict
class CctConfig(CctBaseConfig, VitsBackboneConfig):
    """Configuration of ViT-Lite, CVT and CCT; the defaults are CCT-2/3x2 at 32 pixels.

    The three families differ in their fields alone. ViT-Lite: one convolution whose stride is its kernel size, with
    bias, no activation and no max-pooling, and pooling="token". CVT: the same with pooling="sequence". CCT: one or
    more overlapping convolutions without bias, each with ReLU and max-pooling, and pooling="sequence".

    The fields of `CctBaseConfig` apply, and:

    Args:
        image_size: (height, width), or one number for both, in pixels: the size that the position table is made for.
            Other sizes work too.
        num_conv_layers: how many convolutions the tokenizer has.
        conv_hidden_size: channels of the feature maps between convolutions.
        conv_bias: whether the convolutions have a bias.
        position_embedding_type: "learned" table, resized bilinearly to the grid of other input sizes; fixed "sine"
            over the tokens in row-major order, continued for larger inputs; or "none".
        apply_layernorm: whether the backbone's feature maps pass through the final norm.
        reshape_hidden_states: whether the backbone returns feature maps (batch, channels, rows, columns); otherwise
            sequences (batch, 1 + patches, channels), the class token first, as DPT and Depth Anything need.
    """

    model_type = "hf_vits_cct"
    size_fields = (*CctBaseConfig.size_fields, "image_size", "num_channels", "num_conv_layers", "conv_hidden_size")

    image_size: int | list[int] | tuple[int, int] = 32
    num_channels: int = 3
    num_conv_layers: int = 2
    conv_hidden_size: int = 64
    conv_bias: bool = False
    position_embedding_type: Literal["learned", "sine", "none"] = "learned"
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def check(self) -> None:
        super().check()
        self.check_length("image_size", self.num_conv_layers)

    @property
    def patch_size(self) -> int:
        """Side of the patches that the image is cut into, in pixels; 1 where windows overlap or have a border."""
        is_patch = self.stride == self.kernel_size and not self.padding and not self.use_max_pool
        return self.kernel_size**self.num_conv_layers if is_patch else 1


__all__ = ["CctBaseConfig", "CctConfig"]
