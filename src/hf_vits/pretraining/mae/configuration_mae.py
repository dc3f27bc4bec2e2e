"""Configuration of masked autoencoders (facebookresearch/mae)."""

from inspect import get_annotations
from typing import Literal

from huggingface_hub.dataclasses import strict

from ...models.vit.configuration_vit import ViTConfig


@strict
class MAEConfig(ViTConfig):
    """Configuration of a masked autoencoder; the defaults are mae_vit_base_patch16.

    The fields of `ViTConfig` describe the encoder, and:

    Args:
        mask_ratio: fraction of the patches that is removed from the encoder's input.
        normalize_targets: whether target patches are normalised to mean 0 and variance 1.
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size: sizes
            of the decoder.
    """

    model_type = "hf_vits_mae"
    size_fields = (
        *ViTConfig.size_fields,
        "decoder_hidden_size",
        "decoder_num_hidden_layers",
        "decoder_num_attention_heads",
        "decoder_intermediate_size",
    )
    rate_fields = (*ViTConfig.rate_fields, "mask_ratio")

    hidden_size: int = 768
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    position_interpolation: Literal["bilinear_aligned", "bilinear", "bicubic", "bicubic_offset"] = "bicubic"
    mask_ratio: float = 0.75
    normalize_targets: bool = False
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048

    def encoder_config(self) -> ViTConfig:
        """Return the configuration of the encoder alone."""
        return ViTConfig(**{name: getattr(self, name) for name in encoder_fields()})

    def decoder_config(self) -> ViTConfig:
        """Return the configuration of the decoder's layers: the decoder's sizes, and no stochastic depth."""
        sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        fields = {name: getattr(self, name) for name in encoder_fields()}
        return ViTConfig(**fields | {name: getattr(self, f"decoder_{name}") for name in sizes} | {"drop_path_rate": 0})

    def check(self) -> None:
        super().check()
        if self.decoder_hidden_size % self.decoder_num_attention_heads:
            raise ValueError(
                "decoder_hidden_size must be a multiple of decoder_num_attention_heads, got "
                f"decoder_hidden_size={self.decoder_hidden_size} and "
                f"decoder_num_attention_heads={self.decoder_num_attention_heads}"
            )
        for name, needed in {
            "position_embedding_type": "learned",
            "position_embedding_prefix": True,
            "stem_depths": None,
            "norm_after_pooling": False,
            "use_mask_token": False,
        }.items():
            if getattr(self, name) != needed:
                raise ValueError(f"a masked autoencoder needs {name}={needed!r}, got {name}={getattr(self, name)!r}")


def encoder_fields() -> list[str]:
    """Return the names of the fields of `ViTConfig`."""
    return [name for name in get_annotations(ViTConfig) if not name.startswith("_")]


__all__ = ["MAEConfig"]
