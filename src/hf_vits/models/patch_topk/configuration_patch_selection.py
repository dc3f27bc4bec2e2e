"""Configuration of differentiable patch selection (google-research/google-research, ptopk_patch_selection)."""

import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ...configuration import VitsConfig, nested_config, pair
from .configuration_patch_cnn import PatchCnnConfig

# What is given may be a dict; from construction on it is a configuration, with the fields of whatever network.
if TYPE_CHECKING:
    FeatureConfig = Any
else:
    FeatureConfig = dict[str, Any] | PreTrainedConfig | None

SelectionMethod = Literal["perturbed_topk", "sinkhorn_topk", "hard_topk", "random"]
# {score normalisation: number of its arguments}
NORMALIZATIONS = {"identity": 0, "softmax": 0, "sigmoid": 0, "zeroone": 0, "layernorm": 0}
NORMALIZATIONS |= {"smoothing": 1, "zerooneeps": 1}
STEP = re.compile(r"\s*(\w+)\s*(?:\(\s*(?:\w+\s*=\s*)?([\d.eE+-]+)\s*\))?\s*")


def normalization_steps(text: str) -> list[tuple[str, float | None]]:
    """Return the (name, argument) of the steps in a text such as "softmax|smoothing(0.1)"; ValueError for others."""
    steps = []
    for part in filter(None, text.split("|")):
        match = STEP.fullmatch(part)
        name, number = match.groups() if match else (None, None)
        try:
            value = None if number is None else float(number)
        except ValueError:
            match = None
        if not match or NORMALIZATIONS.get(name or "") != (number is not None):
            known = ", ".join(f"{name}(number)" if count else name for name, count in NORMALIZATIONS.items())
            raise ValueError(f"score_normalization must be of {known}, joined by |, got {text!r}")
        steps.append((name, value))
    return steps


@strict
class PatchSelectionConfig(VitsConfig):
    """Configuration of a classifier of selected patches; the defaults are the published traffic sign model.

    Args:
        image_size: (height, width) or side in pixels. The grid of scores of other sizes has more or fewer cells, which
            is possible unless `aggregation_method` is "transformer" or scores pass a layer norm.
        patch_size: side of a patch in pixels; larger than a cell, so that patches of neighbouring cells overlap.
        num_patches: how many patches are selected.
        downscale: the scorer sees the image reduced by this factor, in height and width.
        scorer_squeeze_excitation: whether two layers of the scorer have squeeze-and-excitation.
        score_normalization: of the scores of an image, steps joined by "|": identity, softmax, smoothing(fraction),
            zeroone, zerooneeps(epsilon), sigmoid, layernorm.
        selection_method: "perturbed_topk", "sinkhorn_topk", "hard_topk" (which does not train the scorer), or "random"
            (without scorer).
        inference_selection_method: the method in evaluation; None for `selection_method`.
        num_samples, sigma: number and standard deviation of the noise samples of "perturbed_topk". In evaluation they
            are the same at each call.
        sigma_schedule: whether recipes' training lowers sigma linearly to 0.
        jacobian: derivatives of "perturbed_topk" in training: "diagonal", as the original, or "full".
        sinkhorn_epsilon, sinkhorn_iterations: weight of the entropy and number of iterations of "sinkhorn_topk".
        hard_topk_probability: of selecting an image's patches by "hard_topk" in training.
        random_patch_probability: of replacing a patch by a random one in training.
        patch_dropout: rate at which the cells of an image are dropped before patches are mixed, in training.
        append_position: whether two channels with each pixel's row and column, in [0, 1], follow the image's. As in
            the original, the feature network gets them twice, the scorer once.
        aggregation_method: of the features of the patches: "mean", "max", "sum_layer_norm" or "transformer".
        num_hidden_layers, num_attention_heads, aggregation_size, pooling, hidden_dropout_prob: of the transformer; an
            `aggregation_size` of None is that of the features.
        entropy_weight: weight of the entropy of the scores in the loss; a negative one spreads the scores.
        entropy_before_normalization: whether it is the entropy of softmax of the scorer's output, or of the
            normalised scores.
        feature_config: configuration of the feature network, any model of `AutoModel`; a dict must name its
            `model_type`. None for the network of the traffic signs. Its `num_channels` are those of the images and,
            with `append_position`, four more.
    """

    model_type = "hf_vits_patch_selection"
    sub_configs: ClassVar[dict[str, type]] = {"feature_config": AutoConfig}
    size_fields = ("image_size", "patch_size", "num_patches", "downscale", "num_samples")
    size_fields += ("sinkhorn_epsilon", "sinkhorn_iterations", "num_hidden_layers", "num_attention_heads")
    size_fields += ("aggregation_size", "layer_norm_eps")
    rate_fields = ("patch_dropout", "hidden_dropout_prob")
    keys_to_ignore_at_inference = [
        *VitsConfig.keys_to_ignore_at_inference,
        *("scores", "indicators", "indices", "patches", "patch_features", "auxiliary_loss"),
        *("entropy", "entropy_before_normalization"),
    ]

    image_size: int | list[int] | tuple[int, int] = (960, 1280)
    patch_size: int = 100
    num_patches: int = 5
    downscale: int = 3
    scorer_squeeze_excitation: bool = False
    score_normalization: str = "zerooneeps(1e-5)"
    selection_method: SelectionMethod = "perturbed_topk"
    inference_selection_method: SelectionMethod | None = "hard_topk"
    num_samples: int = 500
    sigma: float | int = 0.05
    sigma_schedule: Literal["linear", "constant"] = "linear"
    jacobian: Literal["diagonal", "full"] = "diagonal"
    sinkhorn_epsilon: float = 1e-4
    sinkhorn_iterations: int = 2000
    hard_topk_probability: float | int = 0.0
    random_patch_probability: float | int = 0.0
    patch_dropout: float | int = 0.0
    append_position: bool = False
    aggregation_method: Literal["mean", "max", "sum_layer_norm", "transformer"] = "mean"
    num_hidden_layers: int = 3
    num_attention_heads: int = 8
    aggregation_size: int | None = None
    pooling: Literal["mean", "max", "sum", "cls"] = "sum"
    layer_norm_eps: float = 1e-6
    hidden_dropout_prob: float | int = 0.1
    entropy_weight: float | int = -0.01
    entropy_before_normalization: bool = True
    feature_config: FeatureConfig = None

    def __post_init__(self, **kwargs):
        default = {"model_type": PatchCnnConfig.model_type, "image_size": self.patch_size}
        default["num_channels"] = 3 + 4 * self.append_position
        self.feature_config = nested_config("feature_config", self.feature_config, default, PatchCnnConfig)
        super().__post_init__(**kwargs)

    @property
    def num_channels(self) -> int:
        """Channels of the images, those that the feature network takes without the positions."""
        return getattr(self.feature_config, "num_channels", 3) - 4 * self.append_position

    @property
    def feature_size(self) -> int:
        """Channels of the features of a patch."""
        return feature_width(self.feature_config)

    @property
    def hidden_size(self) -> int:
        """Channels of the aggregated features."""
        size = self.aggregation_size if self.aggregation_method == "transformer" else None
        return size or self.feature_size

    @property
    def num_prefix_tokens(self) -> int:
        return int(self.aggregation_method == "transformer" and self.pooling == "cls")

    @property
    def has_scorer(self) -> bool:
        """Whether patches are selected by scores."""
        return self.selection_method != "random"

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (rows, columns) of the scores of an image; ValueError if it is too small."""
        rows, columns = ((side // self.downscale - 8) // 8 for side in (height, width))
        if rows < 1 or columns < 1 or rows * columns < self.num_patches:
            raise ValueError(
                f"an image of {height}x{width} pixels has {max(rows, 0)}x{max(columns, 0)} scores at "
                f"downscale={self.downscale}, and num_patches={self.num_patches} are to be selected: 16 x downscale "
                "pixels give the first score of a row, 8 x downscale each of the others"
            )
        return rows, columns

    def check(self) -> None:
        super().check()
        for name in ("hard_topk_probability", "random_patch_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {name}={getattr(self, name)}")
        if self.sigma < 0:
            raise ValueError(f"sigma must not be negative, got sigma={self.sigma}")
        normalization_steps(self.score_normalization)
        self.grid(*pair(self.image_size))
        if self.aggregation_method == "transformer":
            self.check_heads("aggregation_size")
        if not self.has_scorer and self.inference_selection_method not in (None, "random"):
            raise ValueError(
                'selection_method="random" has no scorer: inference_selection_method must be None or "random", got '
                f"{self.inference_selection_method!r}"
            )
        self.check_features()

    def check_features(self) -> None:
        """Raise ValueError unless the feature network takes the patches."""
        if self.num_channels < 1:
            raise ValueError(
                "feature_config needs num_channels of the images and, with append_position=True, four more, got "
                f"{self.num_channels + 4 * self.append_position}"
            )
        size = getattr(self.feature_config, "image_size", None)
        if isinstance(self.feature_config, VitsConfig) or size is None or isinstance(size, dict):
            return
        if pair(size) != pair(self.patch_size):
            raise ValueError(
                f"feature_config needs image_size={self.patch_size}, as {self.feature_config.model_type} takes images "
                f"of one size and the patches have patch_size={self.patch_size}, got image_size={size}"
            )


def feature_width(config: PreTrainedConfig) -> int:
    """Return the channels of the pooled output of a network of transformers or of ours."""
    if isinstance(config, VitsConfig):
        return config.pooler_size
    sizes = getattr(config, "hidden_sizes", None)
    return sizes[-1] if sizes else config.hidden_size


__all__ = ["PatchSelectionConfig", "feature_width"]
