"""Checks of settings that processors of images and of videos have in common."""

from transformers.image_utils import SizeDict


def check_size(name: str, size: SizeDict | None, allowed: list[set[str]]) -> None:
    """Raise ValueError unless `size` is None or has the sides of one of the `allowed` forms, in whole pixels."""
    if size is None:
        return
    sides = dict(size)
    if set(sides) not in allowed or not all(isinstance(side, int) and side > 0 for side in sides.values()):
        forms = " or ".join(str(dict.fromkeys(sorted(keys), "pixels")) for keys in allowed)
        raise ValueError(f"{name} must be {forms}, in whole pixels above 0, got {sides}")


def check_channels(channels: int, image_mean: tuple[float, ...] | float, image_std: tuple[float, ...] | float) -> None:
    """Raise ValueError unless mean and std are single numbers or have one for each channel."""
    for name, values in (("image_mean", image_mean), ("image_std", image_std)):
        if not isinstance(values, (int, float)) and len(values) not in (1, channels):
            raise ValueError(
                f"got {channels}-channel images, but {name} has {len(values)} values; "
                "pass do_convert_rgb=True for RGB, or a value for each channel"
            )
