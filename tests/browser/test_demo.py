"""The page of `hf-vits demo`, clicked through in Chromium."""

import io
import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect
from sklearn.datasets import load_sample_images

from hf_vits import DeiTConfig, DeiTForImageClassification, VitsImageProcessor, build_demo
from hf_vits.cli.demo import LOCAL

from ..hub.test_audio_models import tiny_classifier as tiny_sound_classifier
from ..hub.test_audio_models import tiny_extractor
from ..hub.test_video_models import tiny_classifier as tiny_clip_classifier
from ..hub.test_video_models import tiny_processor as tiny_video_processor
from ..support.audio import noise, write
from ..support.video import encode, numbered

pytestmark = pytest.mark.browser


@contextmanager
def served(model, processor, title=None):
    demo = build_demo(model, processor, title)
    _, address, _ = demo.launch(**LOCAL, prevent_thread_lock=True)
    try:
        yield address
    finally:
        demo.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    paths = [tmp_path_factory.mktemp("photos") / name for name in ("china.jpg", "flower.jpg")]
    for path, pixels in zip(paths, load_sample_images().images, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture(scope="module")
def address():
    torch.manual_seed(0)
    names = ["temple", "flower", "<b>cat</b> & dog"]
    config = DeiTConfig(
        image_size=96,
        hidden_size=48,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=96,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    processor = VitsImageProcessor(size={"height": 96, "width": 96}, do_center_crop=False)
    with served(DeiTForImageClassification(config).eval(), processor, "user/<i>photos</i>") as address:
        yield address


def shown(picture) -> np.ndarray:
    """Return the pixels that a component shows."""
    picture.wait_for()
    picture.evaluate("image => image.decode()")
    source = picture.get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(picture.page.request.get(source).body())).convert("RGB"))


def changed(picture, before: np.ndarray) -> np.ndarray:
    """Return the pixels that a component shows once they are other ones."""
    for _ in range(100):
        now = shown(picture)
        if now.shape != before.shape or (now != before).any():
            return now
        picture.page.wait_for_timeout(100)
    raise AssertionError("the picture stayed the same")


def click_at(picture, x: float, y: float) -> None:
    box = picture.bounding_box()
    picture.click(position={"x": x * box["width"], "y": y * box["height"]})


def labelled(page, label: str):
    """Return the picture in the visible component with this label."""
    return page.locator(".block:visible").filter(has=page.get_by_text(label, exact=True)).locator("img").last


def overlaps(page) -> list[str]:
    """Return pairs of visible components that cover each other without containing each other."""
    return page.evaluate(
        """() => {
        const blocks = [...document.querySelectorAll('.block')].filter(e => e.offsetParent);
        const found = [];
        for (const a of blocks) for (const b of blocks) {
            if (a === b || a.contains(b) || b.contains(a)) continue;
            const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
            const w = Math.min(p.right, q.right) - Math.max(p.left, q.left);
            const h = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
            if (w > 1 && h > 1) found.push(a.innerText + ' / ' + b.innerText);
        }
        return found;
    }"""
    )


def test_an_image_is_explored(page, address, photos):
    page.goto(address)
    assert page.locator("h1").inner_text() == "user/<i>photos</i>"
    page.locator("input[type=file]").first.set_input_files(photos[0])
    page.get_by_text("<b>cat</b> & dog").first.wait_for()
    assert page.get_by_role("tab").all_inner_texts() == ["Attention", "Similar regions", "Occlusion"]

    attention = labelled(page, "Attention")
    first = shown(attention)
    page.get_by_label("all patches").check()
    second = changed(attention, first)
    click_at(attention, 0.2, 0.8)
    third = changed(attention, second)
    expect(page.get_by_label("clicked place")).to_be_checked()
    page.get_by_label("Head").click()
    page.get_by_role("option", name="head 2").click()
    fourth = changed(attention, third)
    page.get_by_label("Block").click()
    page.get_by_role("option", name="rollout through all blocks").click()
    changed(attention, fourth)
    assert not overlaps(page)

    page.get_by_role("tab", name="Similar regions").click()
    page.locator("input[type=file]").last.set_input_files(photos[1])
    other = labelled(page, "Image B")
    plain = shown(other)
    click_at(labelled(page, "Image A: click a place"), 0.4, 0.5)
    heat = changed(other, plain)
    expect(page.get_by_text(re.compile(r"Best match in image B: cosine -?[01]\.\d{3}"))).to_be_visible()
    page.get_by_label("2 x finer than patches").check()
    changed(other, heat)
    assert not overlaps(page)

    page.get_by_role("tab", name="Occlusion").click()
    picture = labelled(page, "Click to hide")
    whole = shown(picture)
    click_at(picture, 0.3, 0.3)
    hidden = changed(picture, whole)
    assert (hidden == 0).all(axis=-1).mean() > 0.01
    click_at(picture, 0.3, 0.3)
    assert (changed(picture, hidden) == whole).all()
    page.get_by_role("button", name="Swap hidden and shown").click()
    assert changed(picture, whole).max() < 255
    expect(page.get_by_text(re.compile(r"^\s*[+-]\d+\.\d\s*$")).locator("visible=true").first).to_be_visible()
    assert not overlaps(page)


def test_a_file_that_is_no_image_is_explained(page, address, photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:5000])
    page.goto(address)
    page.locator("input[type=file]").first.set_input_files(broken)
    page.get_by_text(re.compile("broken|truncated|cannot")).first.wait_for()


def test_a_clip_is_explored(page, tmp_path):
    clip = encode(tmp_path / "clip.mp4", numbered(range(40)))
    with served(tiny_clip_classifier("vivit"), tiny_video_processor()) as address:
        page.goto(address)
        page.locator("input[type=file]").first.set_input_files(clip)
        assert shown(labelled(page, "The clip as the model sees it")).shape[1] > 300
        assert page.get_by_role("tab").all_inner_texts() == ["Attention", "Occlusion"]
        shown(labelled(page, "Attention"))
        assert page.get_by_text("this model sees clips").is_visible()
        assert not overlaps(page)


def test_a_recording_has_its_classes(page, tmp_path):
    model = tiny_sound_classifier("septr")
    sound = write(tmp_path / "sound.wav", noise(40_000), 16_000)
    with served(model, tiny_extractor("septr", model)) as address:
        page.goto(address)
        page.locator("input[type=file]").first.set_input_files(sound)
        assert shown(labelled(page, "The recording as the model hears it")).shape[1] > 500
        page.get_by_text("eel").first.wait_for()
        assert page.get_by_role("tab").count() == 0
        assert page.get_by_text("this model hears recordings").first.is_visible()
        assert not overlaps(page)
