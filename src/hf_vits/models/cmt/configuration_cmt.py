"""Configuration of CMT of ggjy/CMT.pytorch."""

from huggingface_hub.dataclasses import strict

from ...configuration import VitsHierarchicalConfig, pair


@strict
class CmtConfig(VitsHierarchicalConfig):
    """Configuration of CMT; the defaults are CMT-Ti.

    Args:
        image_size: the only input size, in pixels, since position biases are learned for pairs of its tokens.
        stem_hidden_size: channels of the stem's convolutions.
        depths, hidden_sizes, num_attention_heads: layers, channels and heads per stage.
        sequence_reduction_ratios: per stage, the factor by which height and width of the feature map are reduced for
            keys and values.
        mlp_ratio: intermediate channels of the inverted residuals divided by `hidden_sizes`, rounded down.
        pooler_hidden_size: channels to which the last feature map is projected before average pooling.
        classifier_dropout_prob: dropout before the classifier.
        layer_norm_eps: epsilon of the norms in the layers; patch embeddings have 1e-5.
        drop_path_rate: stochastic depth of the last layer, rising linearly from 0 at the first.
    """

    model_type = "hf_vits_cmt"
    stage_fields = ("depths", "hidden_sizes", "num_attention_heads", "sequence_reduction_ratios")
    size_fields = ("image_size", "num_channels", "stem_hidden_size", *stage_fields)
    size_fields += ("mlp_ratio", "pooler_hidden_size", "layer_norm_eps")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob", "drop_path_rate")

    image_size: int | list[int] | tuple[int, int] = 160
    num_channels: int = 3
    stem_hidden_size: int = 16
    depths: list[int] | tuple[int, ...] = (2, 2, 10, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (46, 92, 184, 368)
    num_attention_heads: list[int] | tuple[int, ...] = (1, 2, 4, 8)
    sequence_reduction_ratios: list[int] | tuple[int, ...] = (8, 4, 2, 1)
    mlp_ratio: float | int = 3.6
    hidden_act: str = "gelu"
    pooler_hidden_size: int = 1280
    layer_norm_eps: float = 1e-6
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    classifier_dropout_prob: float | int = 0.1
    drop_path_rate: float | int = 0.0
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    @property
    def pooler_size(self) -> int:
        return self.pooler_hidden_size

    def query_stride(self, stage: int) -> int:
        """Return the distance of the tokens of a stage, in pixels."""
        return 4 * 2**stage

    def key_stride(self, stage: int) -> int:
        """Return the distance of the tokens for keys and values of a stage, in pixels."""
        return self.query_stride(stage) * self.sequence_reduction_ratios[stage]

    def check(self) -> None:
        super().check()
        self.check_heads()
        for stage in range(len(self.depths)):
            stride = self.key_stride(stage)
            if any(side % stride for side in pair(self.image_size)):
                raise ValueError(
                    f"image_size must be a multiple of {stride} in height and width, so that stage {stage + 1} can "
                    f"reduce its map {self.sequence_reduction_ratios[stage]} times, got image_size={self.image_size} "
                    f"with sequence_reduction_ratios={self.sequence_reduction_ratios}"
                )


__all__ = ["CmtConfig"]
