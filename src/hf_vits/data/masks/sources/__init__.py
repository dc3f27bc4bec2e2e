"""Sources of images with masks, one per module."""
