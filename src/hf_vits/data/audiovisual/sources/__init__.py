"""Sources of videos with sound and captions: one module each, named as data.source names it."""
