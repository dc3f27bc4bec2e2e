"""Attention maps of a class token."""

from hf_vits.layers.foreground import attended_region, foreground_mask

__all__ = ["attended_region", "foreground_mask"]
