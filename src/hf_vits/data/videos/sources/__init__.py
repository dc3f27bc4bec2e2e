"""Sources of videos with class labels: one module each, named as data.source names it."""
