"""Figures of images, and how figures are written."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from hf_vits.figures.grid import save_figure


def test_a_figure_is_png_whatever_else_was_saved_before(tmp_path, monkeypatch):
    """Saving a SPIDER image that is named .png makes Pillow 13 take the ending for that format."""
    Image.init()
    monkeypatch.setitem(Image.EXTENSION, ".png", Image.EXTENSION[".png"])
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "volume.png", format="SPIDER")
    assert Image.EXTENSION[".png"] == "SPIDER"
    save_figure(Figure(figsize=(1, 1)), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
