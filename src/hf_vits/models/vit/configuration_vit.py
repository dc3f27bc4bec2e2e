"""Configuration of the Vision Transformers of google-research/vision_transformer and google-research/big_vision."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsBackboneConfig


@strict
class ViTConfig(VitsBackboneConfig):
    """Configuration of a ViT; the defaults are ViT-Ti/16 at 224 pixels.

    Args:
        image_size: (height, width), or one number for both, in pixels, of the position table. Other sizes work too,
            with a resized table.
        patch_size: (height, width) of a patch, in pixels, or for hybrids in cells of the stem's feature map.
        position_embedding_type: "learned" table, fixed "sincos2d", or "none".
        position_embedding_prefix: whether the table has rows for the prefix tokens (vision_transformer, DeiT) or only
            for the patches (big_vision, DeiT III).
        position_interpolation: how the table is resized: "bilinear_aligned" as in both Google originals,
            "bicubic" as in DeiT, "bicubic_offset" as in DINO, "bicubic_scale" (arXiv 2105.10497), or "bilinear".
        use_class_token: whether there is a class token before the patches.
        use_mask_token: whether there is a mask token, which replaces masked patches.
        pooling: input of the classifier: the class "token", the "first" token of whatever kind, the "mean" of the
            patches, "map" (multi-head attention
            pooling), or "none" for every token separately.
        norm_after_pooling: whether the last norm comes after pooling instead of before, as in MAE's fine-tuning;
            `last_hidden_state` is then not normalised.
        representation_size: channels of a linear layer with tanh between pooling and classifier; None for none.
        layer_scale_init_value: initial gamma of layer scale; None for no layer scale.
        drop_path_rate, drop_path_schedule: stochastic depth, rising "linear"ly to the rate or "constant".
        patch_drop_rate: fraction of the patches of each image that is dropped in training.
        stem_depths: bottleneck units per ResNet stage of a hybrid; [] for the ResNet's root alone; None for no ResNet.
        stem_weight_eps, stem_norm_eps: epsilons of the ResNet's weight standardisation, added to the deviation,
            and of its group norms.
        position_initializer_range: standard deviation of the learned table at initialisation; None for
            1/sqrt(hidden_size), as in big_vision.
        head_bias_init: initial bias of the classifier, whose weight starts at zero.
        encoder_stride: side of the square of pixels that the masked image decoder reconstructs per token.
        apply_layernorm: whether the backbone's feature maps pass through the final norm.
        reshape_hidden_states: whether the backbone returns feature maps (batch, channels, rows, columns); otherwise
            sequences (batch, 1 + patches, channels), the class token first, as DPT and Depth Anything need.
    """

    model_type = "hf_vits_vit"
    size_fields = ("image_size", "patch_size", "num_channels", "hidden_size", "num_hidden_layers")
    size_fields += ("num_attention_heads", "intermediate_size", "layer_norm_eps", "representation_size")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate", "patch_drop_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 16
    num_channels: int = 3
    hidden_size: int = 192
    num_hidden_layers: int = 12
    num_attention_heads: int = 3
    intermediate_size: int = 768
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    position_embedding_type: Literal["learned", "sincos2d", "none"] = "learned"
    position_embedding_prefix: bool = True
    position_interpolation: Literal["bilinear_aligned", "bilinear", "bicubic", "bicubic_offset", "bicubic_scale"] = (
        "bilinear_aligned"
    )
    use_class_token: bool = True
    use_mask_token: bool = False
    pooling: Literal["token", "first", "mean", "map", "none"] = "token"
    norm_after_pooling: bool = False
    representation_size: int | None = None
    layer_scale_init_value: float | int | None = None
    drop_path_rate: float | int = 0.0
    drop_path_schedule: Literal["linear", "constant"] = "linear"
    patch_drop_rate: float | int = 0.0
    stem_depths: list[int] | tuple[int, ...] | None = None
    stem_weight_eps: float = 1e-5
    stem_norm_eps: float = 1e-6
    position_initializer_range: float | None = 0.02
    head_bias_init: float | int = 0.0
    encoder_stride: int = 16
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.use_class_token)

    @property
    def pooler_size(self) -> int:
        return self.representation_size or self.hidden_size

    def check(self) -> None:
        super().check()
        self.check_heads()
        # Cells of the map that patches are cut from: pixels, or what a ResNet's root and stages leave.
        self.check_patches(cell=1 if self.stem_depths is None else 4 * 2 ** max(len(self.stem_depths) - 1, 0))
        if self.pooling == "token" and not self.use_class_token:
            raise ValueError('pooling="token" needs use_class_token=True; without one, pool by "mean" or "map"')
        if self.position_embedding_type == "sincos2d" and self.hidden_size % 4:
            raise ValueError(
                f'position_embedding_type="sincos2d" needs a hidden_size that 4 divides, got {self.hidden_size}'
            )


__all__ = ["ViTConfig"]
