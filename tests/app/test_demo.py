"""The page of `hf-vits demo`: what it computes, what it leaves out and why, and the server on loopback."""

import sys

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from PIL import Image

from hf_vits import build_demo
from hf_vits.app.explorer import ALL_PATCHES, CLASS_TOKEN, CLICKED, Explorer, cell_at
from hf_vits.cli import main
from hf_vits.hub import save_for_hub
from hf_vits.processing.opening import open_image

from ..hub.test_audio_models import tiny_classifier as tiny_sound_classifier
from ..hub.test_audio_models import tiny_extractor
from ..hub.test_video_models import tiny_classifier as tiny_clip_classifier
from ..hub.test_video_models import tiny_processor as tiny_video_processor
from ..support.audio import noise, write
from ..support.hub import image, tiny_model, tiny_processor
from ..support.video import encode, numbered


@pytest.fixture(scope="module")
def deit() -> Explorer:
    return Explorer(tiny_model("deit"), tiny_processor())


@pytest.fixture
def photo(tmp_path):
    image().save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def logits_of(explorer: Explorer, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return explorer.model(pixels).logits[0].softmax(-1)


def test_classes_are_those_of_the_model(deit, photo):
    pixels = deit.processor(open_image(photo, "RGB"), return_tensors="pt").pixel_values
    expected = logits_of(deit, pixels)
    torch.testing.assert_close(deit.probabilities(photo), expected)
    scores = deit.best(expected)
    assert list(scores) == [("cat", "dog", "eel")[index] for index in expected.argsort(descending=True)]


def test_attention_is_bright_where_the_head_attends(deit, photo):
    pixels = deit.processor(open_image(photo, "RGB"), return_tensors="pt").pixel_values
    deit.model.set_attn_implementation("eager")
    with torch.no_grad():
        attention = deit.model(pixels, output_attentions=True).attentions[1][0, 0, 0, -16:]
    dark = np.asarray(deit.look_at(photo).picture, dtype=float)
    drawn = np.asarray(deit.draw_attention(photo, 1, 0, CLASS_TOKEN), dtype=float)
    # What the heat map adds to the image, in the middle of each of 4 x 4 patches.
    heat = (drawn - 0.4 * dark).sum(axis=-1)
    side = heat.shape[0] // 4
    middles = heat[side // 2 :: side, side // 2 :: side].flatten()
    assert middles.argmax() == attention.argmax()
    assert middles.argmin() == attention.argmin()


def test_every_block_head_and_query_can_be_drawn(deit, photo):
    assert deit.heads == {0: 2, 1: 2}
    assert deit.has_rollout
    assert not deit.missing
    drawn = [
        deit.draw_attention(photo, None, None, CLASS_TOKEN),
        deit.draw_attention(photo, 0, None, ALL_PATCHES),
        deit.draw_attention(photo, 0, 1, CLICKED, (0.1, 0.9)),
        deit.draw_attention(photo, 0, 1, CLICKED, (0.9, 0.1)),
    ]
    assert len({picture.tobytes() for picture in drawn}) == len(drawn)
    with pytest.raises(ValueError, match="click a place"):
        deit.draw_attention(photo, 0, None, CLICKED)


def test_the_same_place_of_the_same_image_matches_best(deit, photo, tmp_path):
    turned = tmp_path / "turned.png"
    Image.open(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(turned)
    (first, second), best = deit.draw_similar([photo, photo], (0.6, 0.1), 0, "token", finer=2)
    assert first.size == second.size == (448, 448)
    assert best[0] < best[1] == pytest.approx(1, abs=1e-5)
    _, other = deit.draw_similar([photo, turned], (0.6, 0.1), 0, "token", finer=2)
    assert other[0] == pytest.approx(best[0])
    assert other[1] < 0.9999
    # The green ring of the second image is where the first was clicked: patch centres are 4 pixels of 32 apart.
    ring = np.argwhere((np.asarray(second) == (0, 255, 0)).all(axis=-1)).mean(axis=0) / 448
    assert ring == pytest.approx([0.1, 0.6], abs=4 / 32)


def test_hidden_cells_are_black_to_the_model(deit, photo):
    cells = (4, 4)
    shown, rows = deit.occluded(photo, cells, [])
    assert all(before == pytest.approx(now, abs=1e-6) for _, before, now in rows)
    hidden, rows = deit.occluded(photo, cells, [cell_at((0.3, 0.9), cells)[0] * 4 + 1])
    assert np.asarray(hidden)[-50:-10, 120:220].max() == 0
    assert np.asarray(shown)[-50:-10, 120:220].max() > 0
    _, rows = deit.occluded(photo, cells, list(range(16)))
    pixels = deit.processor(Image.new("RGB", (32, 32)), return_tensors="pt").pixel_values
    expected = dict(zip(("cat", "dog", "eel"), logits_of(deit, pixels).tolist(), strict=True))
    assert {name: now for name, _, now in rows} == pytest.approx(expected, abs=1e-5)
    assert cell_at((1.0, 0.999), (3, 5)) == (2, 4)


def test_several_true_labels_are_listed(photo):
    explorer = Explorer(tiny_model("vit", problem_type="multi_label_classification"), tiny_processor())
    scores = explorer.probabilities(photo)
    assert explorer.predicted(scores) == [
        name for name, score in zip(("cat", "dog", "eel"), scores.tolist(), strict=True) if score >= 0.5
    ]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("cct", {"Similar regions": "without padding"}),
        ("res_net", {"Attention": "attention", "Similar regions": "by a convolution without padding|queries|keys"}),
    ],
)
def test_what_does_not_fit_is_left_out_and_explained(name, missing):
    explorer = Explorer(tiny_model(name), tiny_processor())
    assert explorer.missing.keys() == missing.keys()
    for part, reason in missing.items():
        assert any(word in explorer.missing[part] for word in reason.split("|")), explorer.missing[part]
    page = build_demo(explorer.model, explorer.processor)
    tabs = {block.label for block in page.blocks.values() if isinstance(block, gr.Tab)}
    assert all(f"**{part}**" in markdown_of(page) for part in missing)
    assert tabs == {"Attention", "Similar regions", "Occlusion"} - missing.keys()


def test_attention_within_windows_is_not_drawn():
    assert set(Explorer(tiny_model("swin"), tiny_processor()).heads) == {2, 3}  # blocks of one window


def markdown_of(page: gr.Blocks) -> str:
    return "\n".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.Markdown))


def test_encoders_have_no_classes(photo):
    explorer = Explorer(tiny_model("vit", "AutoModel"), tiny_processor())
    assert explorer.missing == {"Classes": "ViTModel has no classifier", "Occlusion": "ViTModel has no classifier"}
    assert explorer.draw_attention(photo, 1, 0, ALL_PATCHES).size == (448, 448)
    assert "Not shown for this model" in markdown_of(build_demo(explorer.model, explorer.processor))


def test_clips_are_seen_frame_by_frame(tmp_path):
    clip = encode(tmp_path / "clip.mp4", numbered(range(40)))
    explorer = Explorer(tiny_clip_classifier("vivit"), tiny_video_processor())
    assert explorer.missing.keys() == {"Similar regions"}
    assert explorer.probabilities(clip).sum() == pytest.approx(1, abs=1e-4)
    assert explorer.draw_attention(clip, min(explorer.heads), 0, CLASS_TOKEN).width > 32
    _, rows = explorer.occluded(clip, explorer.cells[0], [0])
    assert any(before != now for _, before, now in rows)


def test_recordings_have_classes_alone(tmp_path):
    model = tiny_sound_classifier("septr")
    explorer = Explorer(model, tiny_extractor("septr", model))
    sound = write(tmp_path / "sound.wav", noise(40_000), 16_000)
    assert explorer.missing.keys() == {"Attention", "Similar regions", "Occlusion"}
    assert explorer.probabilities(sound).sum() == pytest.approx(1, abs=1e-4)
    assert explorer.look_at(sound).picture.width > 500
    assert "this model hears recordings" in markdown_of(build_demo(model, explorer.processor))


def test_names_are_text():
    model = tiny_model("deit")
    title = "<img src=x onerror=alert(1)> [a](b)"
    assert "<img" not in markdown_of(build_demo(model, tiny_processor(), title))


def test_other_models_and_processors_are_refused():
    with pytest.raises(TypeError, match="image processor, a video processor"):
        build_demo(tiny_model("deit"), object())


def test_the_extra_is_named_where_gradio_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "hf_vits.app.page", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'hf_vits\[demo\]'"):
        build_demo(tiny_model("deit"), tiny_processor())


def test_the_command_serves_the_page_on_loopback(photo, tmp_path, monkeypatch, capsys):
    save_for_hub(tiny_model("deit"), tmp_path / "model", tiny_processor(), bundle=False)
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:300])
    answers = []

    def visit(page: gr.Blocks) -> None:
        assert not page.analytics_enabled
        client = Client(page.local_url, verbose=False, analytics_enabled=False)
        answers.append(client.predict(handle_file(photo), api_name="/classify"))
        answers.append(client.predict(handle_file(photo), 1, 0, CLASS_TOKEN, api_name="/attention"))
        with pytest.raises(Exception, match=r"truncated|damaged|cannot"):
            client.predict(handle_file(broken), api_name="/classify")
        page.close()

    monkeypatch.setattr(gr.Blocks, "block_thread", visit)
    assert main(["demo", str(tmp_path / "model")]) == 0
    output = capsys.readouterr()
    assert "http://127.0.0.1:" in output.err
    (_, scores, _), drawn = answers
    expected = Explorer(tiny_model("deit"), tiny_processor())
    label = max(scores["confidences"], key=lambda row: row["confidence"])["label"]
    assert label == next(iter(expected.best(expected.probabilities(photo))))
    assert Image.open(drawn).size == (448, 448)


def test_wrong_ports_and_models_without_processor(tmp_path, capsys):
    save_for_hub(tiny_model("deit"), tmp_path / "model", bundle=False)
    assert main(["demo", str(tmp_path / "model")]) == 2
    assert "has no processor" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "model", "--port", "0"])
    assert "must be from 1 to 65535, got 0" in capsys.readouterr().err
