"""Configuration of SPAN over any backbone with a class token."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ..dino.configuration_dino import DINOConfig


@strict
class SPANConfig(DINOConfig):
    """Configuration of SPAN; the defaults are DINO's ViT-S/16 with two regions. The fields of `DINOConfig` apply, and:

    Args:
        num_regions: number of spatial priors.
        head_regions: number of the region, from 0, that each head of the last layer follows, or None for a head that
            is free; heads that the list does not reach are free. None: the first heads follow one region each.
        prior_weight: factor (lambda) of the loss of the priors; 0 makes DINO of it.
        prior_loss: "cross_entropy" or "mse", see `PriorAttentionLoss`.
        min_prior_mass: a prior counts in a view that holds at least this fraction of it.
    """

    model_type = "hf_vits_span"
    size_fields = (*DINOConfig.size_fields, "num_regions")
    rate_fields = (*DINOConfig.rate_fields, "min_prior_mass")

    num_regions: int = 2
    head_regions: list[int | None] | tuple[int | None, ...] | None = None
    prior_weight: float = 1.0
    prior_loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    min_prior_mass: float = 0.05

    @property
    def guided_heads(self) -> dict[int, int]:
        """{head: its region} of the heads that follow a region."""
        regions = range(self.num_regions) if self.head_regions is None else self.head_regions
        return {head: region for head, region in enumerate(regions) if region is not None}

    def check(self) -> None:
        super().check()
        if self.prior_weight < 0:
            raise ValueError(f"prior_weight must not be negative, got {self.prior_weight}")
        guided = self.guided_heads
        if not guided or not all(0 <= region < self.num_regions for region in guided.values()):
            raise ValueError(
                f"head_regions must name a region from 0 to {self.num_regions - 1} for at least one head, and None "
                f"for free heads, got {self.head_regions}"
            )
        heads = getattr(self.backbone_config, "num_attention_heads", None)
        heads = heads[-1] if isinstance(heads, list | tuple) else heads
        if heads is not None and max(guided) >= heads:
            raise ValueError(
                f"head_regions guides head {max(guided)}, counted from 0, and the last layer of the backbone has "
                f"{heads} heads: take fewer regions, or give head_regions"
            )


__all__ = ["SPANConfig"]
