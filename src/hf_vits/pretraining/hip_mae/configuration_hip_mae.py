"""Configuration of HiP as a masked autoencoder of images."""

from inspect import get_annotations

from huggingface_hub.dataclasses import strict

from ...models.hip.configuration_hip import IMAGE, HipConfig


@strict
class HipMAEConfig(HipConfig):
    """Configuration of HiP that reconstructs hidden pixels; the defaults are HiP-Mini for images of 32 x 32 pixels.

    The fields of `HipConfig`, of which `modalities` must be "image" alone, of as many indices as a square image has
    pixels.
    """

    model_type = "hf_vits_hip_mae"

    @property
    def patch_size(self) -> int:
        """Side in pixels of what is hidden at a time."""
        return 1

    def encoder_config(self) -> HipConfig:
        """Return the configuration of the model without the objective."""
        return HipConfig(**{name: getattr(self, name) for name in get_annotations(HipConfig)})

    def check(self) -> None:
        super().check()
        if list(self.sizes) != [IMAGE] or self.image_size is None or self.label_modalities:
            raise ValueError(
                f'masked auto-encoding of images needs modalities={{"{IMAGE}": (pixels, channels)}} and a square '
                f"number of pixels, got modalities={self.modalities}"
            )


__all__ = ["HipMAEConfig"]
