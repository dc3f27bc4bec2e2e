"""Configuration of the Co-scale conv-attentional image Transformer of mlpc-ucsd/CoaT."""

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig


@strict
class CoatConfig(VitsHierarchicalConfig):
    """Configuration of CoaT and CoaT-Lite; the defaults are CoaT-Lite Tiny.

    Args:
        image_size: side of the images that the image processor makes, in pixels; the model does not depend on it.
        depths, hidden_sizes: serial layers and channels per stage; each stage is one scale.
        num_parallel_layers: number of layers, after the last stage, that process all scales but the first together;
            0 for CoaT-Lite. These scales must have the same `hidden_sizes` and `mlp_ratios`.
        num_attention_heads: heads at every scale.
        patch_size: side of the first stage's patches, in pixels; every later stage merges 2 x 2 tokens.
        mlp_ratios: intermediate channels of the MLP divided by `hidden_sizes`, per stage.
        relative_window_sizes, relative_window_heads: window sizes of the convolutional relative positions, and the
            number of heads with each; they add up to `num_attention_heads`.
        drop_path_rate: stochastic depth, the same in every layer.
    """

    model_type = "hf_vits_coat"
    size_fields = ("image_size", "num_channels", "depths", "hidden_sizes", "num_attention_heads", "patch_size")
    size_fields += ("mlp_ratios", "relative_window_sizes", "relative_window_heads", "layer_norm_eps")
    stage_fields = ("depths", "hidden_sizes", "mlp_ratios")
    rate_fields = ("hidden_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 224
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 256, 320)
    num_parallel_layers: int = 0
    num_attention_heads: int = 8
    patch_size: int = 4
    mlp_ratios: list[float | int] | tuple[float | int, ...] = (8, 8, 4, 4)
    relative_window_sizes: list[int] | tuple[int, ...] = (3, 5, 7)
    relative_window_heads: list[int] | tuple[int, ...] = (2, 3, 3)
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    def check(self) -> None:
        super().check()
        self.check_heads()
        self.check_parallel_layers()

    def check_heads(self) -> None:
        if any(size % self.num_attention_heads for size in self.hidden_sizes):
            raise ValueError(
                "every stage's hidden_sizes must be a multiple of num_attention_heads, got "
                f"hidden_sizes={self.hidden_sizes} and num_attention_heads={self.num_attention_heads}"
            )
        windows, heads = self.relative_window_sizes, self.relative_window_heads
        if len(windows) != len(heads) or any(window % 2 == 0 for window in windows):
            raise ValueError(
                "relative_window_sizes must be odd numbers, one for each of relative_window_heads, got "
                f"relative_window_sizes={windows} and relative_window_heads={heads}"
            )
        if sum(heads) != self.num_attention_heads:
            raise ValueError(
                f"relative_window_heads must add up to num_attention_heads={self.num_attention_heads}, got "
                f"relative_window_heads={heads}"
            )

    def check_parallel_layers(self) -> None:
        if self.num_parallel_layers < 0:
            raise ValueError(f"num_parallel_layers must not be negative, got {self.num_parallel_layers}")
        for name in ("hidden_sizes", "mlp_ratios"):
            values = getattr(self, name)
            if self.num_parallel_layers and len(set(values[1:])) != 1:
                raise ValueError(
                    f"parallel layers need the same {name} in at least one stage after the first and in all of them, "
                    f"got {name}={values} with num_parallel_layers={self.num_parallel_layers}"
                )


__all__ = ["CoatConfig"]
