"""Sources of images with class labels: one module each, named as data.source names it."""
