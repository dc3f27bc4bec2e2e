"""Configuration of NTS-Net with perturbed top-k (google-research/google-research, ptopk_patch_selection/ntsnet.py)."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig
from .configuration_patch_cnn import PatchCnnConfig
from .configuration_patch_selection import FeatureConfig, PatchSelectionConfig

RESNET50 = {"image_size": 448, "network": "resnet", "hidden_sizes": [64, 128, 256, 512], "depths": [3, 4, 6, 3]}
RESNET50 |= {"layer_type": "bottleneck"}
# By how much the two forms of squeeze and excitation narrow the channels.
SQUEEZE_D, SQUEEZE_X = 4, 16


@strict
class NtsNetConfig(VitsConfig):
    """Configuration of NTS-Net with perturbed top-k; the defaults are the published model of birds.

    Args:
        image_size: (height, width) or side in pixels.
        feature_config: configuration of the convolutional network, or a dict of its fields; None for ResNet-50. Its
            feature map has a stride of the smallest of `anchor_strides`.
        proposal_size: channels of the three maps of which the anchors are scored.
        communication: how these maps are changed together: "none", "squeeze_excite_d" (a factor per channel),
            "squeeze_excite_x" (the same on their input), or "transformer" (over the cells of all maps, which has
            positions of the maps of `image_size` alone).
        num_hidden_layers, num_attention_heads, hidden_dropout_prob, layer_norm_eps: of this transformer.
        anchor_strides, anchor_sizes, anchor_scales: of the anchors of each map: their distance and base size in
            pixels, and factors of the size.
        anchor_aspect_ratios: width over height of anchors.
        num_parts: how many parts are selected.
        part_size: side in pixels to which parts are resized.
        num_samples, sigma, sigma_schedule, jacobian: as in `PatchSelectionConfig`.
        dropout_prob: of the features of image and parts.
        entropy_weight: weight of the entropy of the scores in the loss.
    """

    model_type = "hf_vits_nts_net"
    sub_configs: ClassVar[dict[str, type]] = {"feature_config": PatchCnnConfig}
    size_fields = ("image_size", "proposal_size", "num_parts", "part_size", "num_samples", "anchor_strides")
    size_fields += ("anchor_sizes", "anchor_aspect_ratios", "num_hidden_layers", "num_attention_heads")
    size_fields += ("layer_norm_eps",)
    rate_fields = ("dropout_prob", "hidden_dropout_prob")
    keys_to_ignore_at_inference = [
        *PatchSelectionConfig.keys_to_ignore_at_inference,
        *("image_logits", "part_logits", "image_features"),
    ]

    image_size: int | list[int] | tuple[int, int] = 448
    feature_config: FeatureConfig = None
    proposal_size: int = 128
    communication: Literal["none", "squeeze_excite_d", "squeeze_excite_x", "transformer"] = "squeeze_excite_d"
    num_hidden_layers: int = 2
    num_attention_heads: int = 8
    hidden_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-6
    anchor_strides: list[int] | tuple[int, ...] = (32, 64, 128)
    anchor_sizes: list[int] | tuple[int, ...] = (48, 96, 192)
    anchor_scales: list[list[float | int]] | tuple = ((2 ** (1 / 3), 2 ** (2 / 3)),) * 2 + (
        (1, 2 ** (1 / 3), 2 ** (2 / 3)),
    )
    anchor_aspect_ratios: list[float | int] | tuple[float | int, ...] = (0.667, 1, 1.5)
    num_parts: int = 4
    part_size: int = 224
    num_samples: int = 500
    sigma: float | int = 0.05
    sigma_schedule: Literal["linear", "constant"] = "linear"
    jacobian: Literal["diagonal", "full"] = "diagonal"
    dropout_prob: float | int = 0.5
    entropy_weight: float | int = -0.05

    def __post_init__(self, **kwargs):
        if not isinstance(self.feature_config, PatchCnnConfig):
            self.feature_config = PatchCnnConfig(**(self.feature_config or RESNET50))
        super().__post_init__(**kwargs)

    @property
    def num_channels(self) -> int:
        """Channels of the images."""
        return self.feature_config.num_channels

    @property
    def hidden_size(self) -> int:
        """Channels of the features."""
        return self.feature_config.hidden_size

    @property
    def num_anchors(self) -> list[int]:
        """Number of anchors of a cell in each map."""
        return [len(scales) * len(self.anchor_aspect_ratios) for scales in self.anchor_scales]

    def anchors(self) -> list[list[tuple[int, int]]]:
        """Return the sizes (height, width) in pixels of the anchors of each map."""
        return [
            [
                (int(size * scale / float(ratio) ** 0.5), int(size * scale * float(ratio) ** 0.5))
                for scale in scales
                for ratio in self.anchor_aspect_ratios
            ]
            for size, scales in zip(self.anchor_sizes, self.anchor_scales, strict=True)
        ]

    def check(self) -> None:
        super().check()
        if not 3 == len(self.anchor_strides) == len(self.anchor_sizes) == len(self.anchor_scales):
            raise ValueError(
                "anchor_strides, anchor_sizes and anchor_scales need a value for each of the three maps, got "
                f"{self.anchor_strides}, {self.anchor_sizes} and {self.anchor_scales}"
            )
        if not all(self.num_anchors):
            raise ValueError(
                "anchor_aspect_ratios and the anchor_scales of each map need one value or more, got "
                f"anchor_aspect_ratios={self.anchor_aspect_ratios} and anchor_scales={self.anchor_scales}"
            )
        if any(min(size) < 1 for sizes in self.anchors() for size in sizes):
            raise ValueError(
                f"anchors must be at least a pixel high and wide, got anchor_sizes={self.anchor_sizes}, "
                f"anchor_scales={self.anchor_scales} and anchor_aspect_ratios={self.anchor_aspect_ratios}"
            )
        if self.sigma < 0:
            raise ValueError(f"sigma must not be negative, got sigma={self.sigma}")
        if self.communication == "squeeze_excite_d" and self.proposal_size < SQUEEZE_D:
            raise ValueError(
                f"proposal_size must be at least {SQUEEZE_D} with communication='squeeze_excite_d', got "
                f"proposal_size={self.proposal_size}"
            )
        if self.communication == "squeeze_excite_x" and self.hidden_size < SQUEEZE_X:
            raise ValueError(
                f"feature_config needs {SQUEEZE_X} channels or more in its last map with "
                f"communication='squeeze_excite_x', got {self.hidden_size}"
            )
        if self.communication == "transformer" and self.proposal_size % self.num_attention_heads:
            raise ValueError(
                "proposal_size must be a multiple of num_attention_heads, got "
                f"proposal_size={self.proposal_size} and num_attention_heads={self.num_attention_heads}"
            )
        if self.feature_config.network == "flat" or self.feature_config.append_position:
            raise ValueError(
                'feature_config needs network="resnet" or "ats" without append_position, for a feature map of the '
                f"image, got network={self.feature_config.network!r}"
            )


__all__ = ["NtsNetConfig"]
