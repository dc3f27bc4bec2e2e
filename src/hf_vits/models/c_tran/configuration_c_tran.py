"""Configuration of C-Tran (QData/C-Tran)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ...configuration import VitsConfig, check_maps, nested_config, pair

# What is given may be a dict; from construction on it is a configuration, with the fields of whatever backbone.
if TYPE_CHECKING:
    BackboneConfig = Any
else:
    BackboneConfig = dict[str, Any] | PreTrainedConfig | None

# Smallest side in pixels for which Inception v3 has a feature map, and for which its auxiliary head has one.
INCEPTION_SIDE, AUXILIARY_SIDE = 75, 299


@strict
class CTranConfig(VitsConfig):
    """Configuration of C-Tran; the defaults are the model for VOC 2007, with a ResNet-101.

    `num_labels` (or `id2label`) is the number of labels, each of which is a token.

    Args:
        backbone: "resnet" or "inception_v3", as torchvision has them, or "auto" for the one of `backbone_config`.
        backbone_config: configuration of any model of `AutoBackbone`, whose last feature map is used; a dict must name
            its `model_type`. None unless `backbone` is "auto".
        image_size: side of the images in pixels of training and evaluation; the model takes any size.
        embedding_size: channels of the first convolution, 64 for ResNet-101 and 32 for Inception v3. The other widths
            of these two are proportional to it.
        depths: number of bottleneck blocks in each stage of the ResNet.
        auxiliary_head: whether Inception v3 has its auxiliary classifier, which needs images of 299 pixels or more.
        feature_projection: whether a 1x1 convolution maps the feature map's channels to `hidden_size`; without it they
            must be equal.
        hidden_size: channels of the tokens.
        use_known_labels: whether an embedding of its state (unknown, negative, positive) is added to each label's
            embedding (label mask training). Without it, known labels are ignored.
        known_label_fraction: in training with labels but without given `known_labels`, the largest fraction of the
            labels that are made known; their number is drawn uniformly from 0 to it.
        feature_dropout_prob: dropout on the feature map and on the logits of the auxiliary head.
        loss_reduction: the loss is the "sum" of the binary cross-entropies of all unknown labels of the batch, or
            their "mean".
        auxiliary_loss_weight: weight of the auxiliary head's loss.
    """

    model_type = "hf_vits_c_tran"
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}
    size_fields = ("image_size", "num_channels", "embedding_size", "depths", "hidden_size", "num_hidden_layers")
    size_fields += ("num_attention_heads", "intermediate_size", "layer_norm_eps")
    rate_fields = ("feature_dropout_prob", "hidden_dropout_prob", "attention_probs_dropout_prob")

    backbone: Literal["resnet", "inception_v3", "auto"] = "resnet"
    backbone_config: BackboneConfig = None
    image_size: int | list[int] | tuple[int, int] = 576
    num_channels: int = 3
    embedding_size: int = 64
    depths: list[int] | tuple[int, ...] = (3, 4, 23, 3)
    auxiliary_head: bool = False
    feature_projection: bool = False
    hidden_size: int = 2048
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    intermediate_size: int = 2048
    hidden_act: str = "relu"
    layer_norm_eps: float = 1e-5
    use_known_labels: bool = True
    known_label_fraction: float | int = 0.75
    feature_dropout_prob: float | int = 0.0
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    loss_reduction: Literal["sum", "mean"] = "sum"
    auxiliary_loss_weight: float | int = 0.0

    def __post_init__(self, **kwargs):
        if self.backbone_config is not None:
            self.backbone_config = nested_config(
                "backbone_config", self.backbone_config, {"model_type": "hf_vits_deit"}
            )
        if self.problem_type is None:
            self.problem_type = "multi_label_classification"
        super().__post_init__(**kwargs)

    @property
    def num_prefix_tokens(self) -> int:
        """Number of label tokens, which come before the image tokens."""
        return self.num_labels  # pyright: ignore[reportReturnType]

    @property
    def feature_size(self) -> int | None:
        """Channels of the backbone's last feature map; None where only the backbone knows."""
        if self.backbone == "resnet":
            return 4 * self.embedding_size * 2 ** (len(self.depths) - 1)
        return 64 * self.embedding_size if self.backbone == "inception_v3" else None

    def check(self) -> None:
        super().check()
        self.check_heads()
        if (self.backbone == "auto") != (self.backbone_config is not None):
            raise ValueError(
                f"backbone_config goes with backbone='auto', got backbone={self.backbone!r} and "
                f"backbone_config={self.backbone_config!r}"
            )
        if self.problem_type != "multi_label_classification":
            raise ValueError(
                "problem_type of C-Tran is 'multi_label_classification', which it is where it is left out, got "
                f"problem_type={self.problem_type!r}"
            )
        if not self.num_labels:
            raise ValueError("C-Tran has a token for each label and needs one or more, got num_labels=0")
        if not 0 <= self.known_label_fraction <= 1:
            raise ValueError(f"known_label_fraction must lie in [0, 1], got {self.known_label_fraction}")
        if self.auxiliary_loss_weight < 0:
            raise ValueError(f"auxiliary_loss_weight must not be negative, got {self.auxiliary_loss_weight}")
        if self.feature_size not in (None, self.hidden_size) and not self.feature_projection:
            raise ValueError(
                f"hidden_size must be the {self.feature_size} channels of the feature map (as embedding_size, depths "
                f"or backbone_config make it), or feature_projection True, got hidden_size={self.hidden_size}"
            )
        if self.backbone == "resnet" and not self.depths:
            raise ValueError("depths needs a number of blocks for at least one stage, got none")
        if self.backbone == "inception_v3" and self.embedding_size % 2:
            raise ValueError(f"embedding_size of Inception v3 must be even, got {self.embedding_size}")
        if self.auxiliary_head and self.backbone != "inception_v3":
            raise ValueError(f"auxiliary_head goes with backbone='inception_v3', got backbone={self.backbone!r}")
        smallest = AUXILIARY_SIDE if self.auxiliary_head else INCEPTION_SIDE
        if self.backbone == "inception_v3" and min(pair(self.image_size)) < smallest:
            raise ValueError(
                f"image_size of Inception v3 must be at least {smallest} with auxiliary_head={self.auxiliary_head}, "
                f"got image_size={self.image_size}"
            )
        if self.backbone_config is not None:
            check_maps(self.backbone_config)
        if self.auxiliary_loss_weight and not self.auxiliary_head:
            raise ValueError("auxiliary_loss_weight needs auxiliary_head=True")


__all__ = ["CTranConfig"]
