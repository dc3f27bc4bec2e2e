"""Sources of images with objects, one per module."""
