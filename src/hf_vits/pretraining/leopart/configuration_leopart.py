"""Configuration of Leopart over any backbone (MkuuWaUjinga/leopart)."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig

from ...configuration import VitsConfig
from ..dino.configuration_dino import BackboneConfig, as_backbone_config


@strict
class LeopartConfig(VitsConfig):
    """Configuration of Leopart; the defaults are the published ViT-S/16.

    Args:
        backbone_config: configuration of the backbone, any model of `AutoModel` whose last hidden state has a token
            per patch; a dict must name its `model_type`. The teacher has the same backbone without stochastic depth.
        num_prototypes: number of clusters.
        head_hidden_size, head_bottleneck_size, num_head_layers: hidden and output channels and number of layers of the
            head's MLP.
        temperature: divides the student's scores.
        sinkhorn_temperature, sinkhorn_iterations: of the teacher's assignments, see `objectives.leopart.sinkhorn`.
        roi_size: rows and columns that are sampled where two crops overlap.
        region: the patches that are clustered: of the "foreground" by the teacher's attention, of the "background", or
            "all". The first two need a backbone whose class token attends to all patches.
        foreground_fraction, foreground_sigma, foreground_min_component: see `layers.foreground.foreground_mask`.
        queue_length: number of earlier embeddings of each global crop that are clustered with a batch; 0 for none.
            The published 8192 are divided among the processes.
        queue_per_image: number of embeddings that each image adds to the queue.
        num_global_crops: number of global crops.
        use_teacher: whether a teacher, an EMA of the student, makes the assignments; otherwise the student does.
    """

    model_type = "hf_vits_leopart"
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}
    size_fields = ("num_prototypes", "head_hidden_size", "head_bottleneck_size", "num_head_layers", "temperature")
    size_fields += ("sinkhorn_temperature", "roi_size", "num_global_crops", "queue_per_image")
    size_fields += ("foreground_sigma", "foreground_min_component")
    rate_fields = ("foreground_fraction",)

    backbone_config: BackboneConfig = None
    num_prototypes: int = 300
    head_hidden_size: int = 2048
    head_bottleneck_size: int = 256
    num_head_layers: int = 3
    temperature: float = 0.1
    sinkhorn_temperature: float = 0.05
    sinkhorn_iterations: int = 3
    roi_size: int = 7
    region: Literal["foreground", "background", "all"] = "foreground"
    foreground_fraction: float = 0.6
    foreground_sigma: float = 0.6
    foreground_min_component: int = 3
    queue_length: int = 8192
    queue_per_image: int = 10
    num_global_crops: int = 2
    use_teacher: bool = True

    def __post_init__(self, **kwargs):
        self.backbone_config = as_backbone_config(self.backbone_config)
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        for name in ("sinkhorn_iterations", "queue_length"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


__all__ = ["LeopartConfig"]
