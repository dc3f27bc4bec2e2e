"""Configuration of the video vision transformers of google-research/scenic (projects/vivit)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig


@strict
class VivitConfig(VitsConfig):
    """Configuration of a ViViT; the defaults are ViViT-B/16x2, model 1 of the paper.

    Args:
        image_size: (height, width) of a frame, or one number for both, in pixels.
        num_frames: frames of a clip. Position tables have this size and length and are resized to other inputs.
        tubelet_size: (frames, height, width) of a token.
        num_sampled_frames: number of evenly spaced frames that are used of a clip, with tubelets of one frame; None
            for all frames. For some lengths, the original's rounding gives one more.
        attention_type: models 1 to 4 of the paper. "spacetime": all tokens attend to each other.
            "factorized_encoder": an encoder for each frame, then an encoder over the frames.
            "factorized_self_attention": layers with an attention within frames and an attention across frames.
            "factorized_dot_product": half of the heads attend within frames, half across frames.
        num_hidden_layers: layers of the encoder; of a factorised encoder, layers of the encoder for each frame.
        num_temporal_layers: layers of a factorised encoder's encoder over the frames; with 0, frames are averaged.
        attention_order: order of the two attentions of a layer, for "factorized_self_attention".
        pooling: input of the classifier: a class "token" before the patches; the "first" token, without a class token;
            "mean", "max" or "sum" of the tokens. A factorised encoder pools each frame in the same way.
        representation_size: channels of a linear layer with tanh between pooling and classifier; None for none.
        drop_path_rate: stochastic depth of the last layer, rising linearly from 0 in each encoder.
        head_sizes: number of classes of each head, for a classifier with several heads, such as nouns and verbs, in
            one linear layer; None for one head.
    """

    model_type = "hf_vits_vivit"
    size_fields = ("image_size", "num_frames", "tubelet_size", "num_sampled_frames", "num_channels", "hidden_size")
    size_fields += ("num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps")
    size_fields += ("representation_size", "head_sizes")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")
    layer_scale_init_value = None  # no field: none of these models has layer scale

    image_size: int | list[int] | tuple[int, int] = 224
    num_frames: int = 32
    tubelet_size: list[int] | tuple[int, int, int] = (2, 16, 16)
    num_sampled_frames: int | None = None
    num_channels: int = 3
    attention_type: Literal[
        "spacetime", "factorized_encoder", "factorized_self_attention", "factorized_dot_product"
    ] = "spacetime"
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_temporal_layers: int = 4
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    attention_order: Literal["time_space", "space_time"] = "time_space"
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    pooling: Literal["token", "first", "mean", "max", "sum"] = "token"
    representation_size: int | None = None
    head_sizes: list[int] | tuple[int, ...] | None = None

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.pooling == "token" and not self.averages_frames)

    @property
    def averages_frames(self) -> bool:
        """Whether a factorised encoder averages the frames instead of encoding them."""
        return self.attention_type == "factorized_encoder" and self.num_temporal_layers == 0

    @property
    def pooler_size(self) -> int:
        return self.representation_size or self.hidden_size

    @property
    def num_layers(self) -> int:
        """Number of layers of all encoders."""
        return self.num_hidden_layers + self.num_temporal_layers * (self.attention_type == "factorized_encoder")

    def check(self) -> None:
        super().check()
        self.check_heads()
        self.check_clips()
        self.check_attention()
        if self.head_sizes is not None and sum(self.head_sizes) != self.num_labels:
            raise ValueError(
                f"head_sizes={self.head_sizes} are {sum(self.head_sizes)} classes together, so num_labels must be as "
                f"many, got num_labels={self.num_labels}"
            )

    def check_clips(self) -> None:
        if self.num_sampled_frames is not None and self.tubelet_size[0] != 1:
            raise ValueError(
                f"num_sampled_frames={self.num_sampled_frames} frames are embedded one by one: tubelet_size must be "
                f"(1, height, width), got tubelet_size={self.tubelet_size}"
            )
        self.check_patches("tubelet_size")
        if self.num_frames % self.tubelet_size[0]:
            raise ValueError(
                "num_frames must be a multiple of the tubelets' frames, got "
                f"num_frames={self.num_frames} and tubelet_size={self.tubelet_size}"
            )

    def check_attention(self) -> None:
        if self.num_temporal_layers < 0:
            raise ValueError(f"num_temporal_layers must not be negative, got {self.num_temporal_layers}")
        divided = ("factorized_self_attention", "factorized_dot_product")
        if self.attention_type in divided and self.pooling in ("token", "first"):
            raise ValueError(
                f'attention_type="{self.attention_type}" has no place for a class token: pooling must be "mean", '
                f'"max" or "sum", got "{self.pooling}"'
            )
        if self.attention_type == "factorized_dot_product" and self.num_attention_heads % 2:
            raise ValueError(
                "half of the heads attend across frames: num_attention_heads must be even, got "
                f"num_attention_heads={self.num_attention_heads}"
            )


__all__ = ["VivitConfig"]
