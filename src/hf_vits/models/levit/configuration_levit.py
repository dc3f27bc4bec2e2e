"""Configuration of LeViT of facebookresearch/LeViT."""

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class LevitConfig(VitsHierarchicalConfig):
    """Configuration of LeViT; the defaults are LeViT-128S.

    Args:
        image_size: largest input, in pixels, since attention biases are learned for the distances of its tokens.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage. The downsampling attention
            before a stage has (channels of the previous stage) // downsampling_key_dim heads.
        key_dim: channels of a head's queries and keys, one number or one per stage.
        downsampling_key_dim: the same in the downsampling attentions; None for the first stage's.
        attention_ratio, downsampling_attention_ratio: channels of a head's values divided by `key_dim`, in the layers
            and in the downsampling attention.
        mlp_ratio: intermediate channels of the MLP divided by `hidden_sizes`.
        drop_path_rate: stochastic depth, the same in all layers.
        distilled: whether there is a second classifier, trained by distillation; their logits are averaged.
    """

    model_type = "hf_vits_levit"
    size_fields = ("image_size", "num_channels", "depths", "hidden_sizes", "num_attention_heads", "key_dim")
    size_fields += ("downsampling_key_dim", "attention_ratio", "downsampling_attention_ratio", "mlp_ratio")
    rate_fields = ("drop_path_rate",)

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 3, 4)
    hidden_sizes: list[int] | tuple[int, ...] = (128, 256, 384)
    num_attention_heads: list[int] | tuple[int, ...] = (4, 6, 8)
    key_dim: int | list[int] | tuple[int, ...] = 16
    downsampling_key_dim: int | None = None
    attention_ratio: float | int = 2
    downsampling_attention_ratio: float | int = 4
    mlp_ratio: float | int = 2
    hidden_act: str = "hardswish"
    drop_path_rate: float | int = 0.0
    distilled: bool = True
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def key_dims(self) -> list[int]:
        """Channels of a head's queries and keys in the layers of each stage."""
        return [self.key_dim] * len(self.depths) if isinstance(self.key_dim, int) else list(self.key_dim)

    @property
    def key_dim_between(self) -> int:
        """Channels of a head's queries and keys in the downsampling attentions."""
        return self.key_dims[0] if self.downsampling_key_dim is None else self.downsampling_key_dim

    def check(self) -> None:
        super().check()
        if len(self.key_dims) != len(self.depths):
            raise ValueError(f"key_dim needs one value or one per stage, got {self.key_dim} for depths={self.depths}")
        self.check_ratio("attention_ratio", self.key_dims)
        self.check_ratio("downsampling_attention_ratio", [self.key_dim_between])
        if self.hidden_sizes[0] % 8:
            raise ValueError(
                "the stem doubles its channels three times: the first of hidden_sizes must be a multiple of 8, got "
                f"hidden_sizes={self.hidden_sizes}"
            )
        if min(self.hidden_sizes) < self.key_dim_between:
            raise ValueError(
                "a stage needs channels for one head at least: hidden_sizes must not be below key_dim, got "
                f"hidden_sizes={self.hidden_sizes} and key_dim={self.key_dim_between}"
            )


__all__ = ["LevitConfig"]
