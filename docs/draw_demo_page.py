"""Write a screenshot of the page of `hf-vits demo` with two photographs and a DeiT-Ti of random weights.

    python docs/draw_demo_page.py runs/pictures/demo_page.png

It needs the extras `demo` and `browser`, and Chromium.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from playwright.sync_api import sync_playwright
from sklearn.datasets import load_sample_images

from hf_vits import DeiTConfig, DeiTForImageClassification, VitsImageProcessor, build_demo
from hf_vits.cli.demo import LOCAL

CLASSES = ["temple", "flower", "harbour", "forest"]


def main(target: str) -> None:
    torch.manual_seed(0)
    labels = dict(enumerate(CLASSES))
    config = DeiTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, id2label=labels)
    processor = VitsImageProcessor(size={"height": 224, "width": 224}, do_center_crop=False)
    page = build_demo(DeiTForImageClassification(config), processor, "user/deit-tiny")
    _, address, _ = page.launch(**LOCAL, prevent_thread_lock=True)
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        photos = [Path(folder, name) for name in ("temple.png", "flower.png")]
        for path, pixels in zip(photos, load_sample_images().images, strict=True):
            Image.fromarray(pixels).save(path)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(120_000)
        tab.goto(address)
        tab.locator("input[type=file]").first.set_input_files(photos[0])
        tab.get_by_text("harbour").first.wait_for()
        tab.get_by_role("tab", name="Similar regions").click()
        tab.locator("input[type=file]").last.set_input_files(photos[1])
        tab.get_by_label("2 x finer than patches").check()
        tab.wait_for_timeout(3000)
        place = tab.locator("[role=tabpanel]:visible img").nth(1)
        box = place.bounding_box() or {}
        place.click(position={"x": 0.45 * box["width"], "y": 0.6 * box["height"]})
        tab.get_by_text("Best match in image B").wait_for()
        tab.wait_for_timeout(1000)
        tab.screenshot(path=target, full_page=True)
        browser.close()
    page.close()


if __name__ == "__main__":
    main(sys.argv[1])
