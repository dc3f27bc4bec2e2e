"""Cards of models: what they say, and that the code they show runs."""

import re
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from hf_vits import conversion
from hf_vits.auto import ARCHITECTURES
from hf_vits.hub import Card, TrainingSummary, model_card, push_to_hub, save_for_hub, trained_card
from hf_vits.hub.card import IMAGE_LINK, write_card
from hf_vits.hub.facts import FACTS
from hf_vits.testing.hub import LoopbackHub
from hf_vits.testing.hub.metadata import check_metadata

from ..support.hub import TINY, image, tiny_model, tiny_processor


@pytest.fixture
def hub(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        yield hub


@pytest.fixture
def summary(tmp_path) -> TrainingSummary:
    figures = [tmp_path / "curves.png", tmp_path / "confusion_matrix.png"]
    for figure in figures:
        Image.new("RGB", (8, 8)).save(figure)
    return TrainingSummary(
        dataset="scikit-learn's digits",
        train_size=1437,
        eval_size=360,
        hyperparameters={
            "optimizer.lr": 1e-3,
            "train.epochs": 45,
            "output_dir": "/home/somebody/runs",
            "data": {"path": str(tmp_path), "name": "digits"},
            "checkpoint": tmp_path / "model.pth",
        },
        metrics={"eval_accuracy": 0.98125, "eval_loss": 0.07, "eval_runtime": 3.2, "epoch": 45, "eval_confusion": [1]},
        history=[{"epoch": epoch, "loss": 2 / epoch, "eval_accuracy": 1 - 1 / epoch} for epoch in range(1, 46)],
        figures=figures,
        base_model="user/pretrained",
    )


@pytest.mark.parametrize("name", TINY)
def test_converted_card(hub, name):
    model = tiny_model(name)
    variant = next(iter(conversion.variants(name)))
    card = model_card(model, variant=variant, source="/home/somebody/downloads/weights.npz")
    card.validate()
    facts = FACTS[name]
    assert card.data.license == facts.licence
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "image-classification"
    assert {"vision", "hf_vits", *facts.tags} == set(card.data.tags)
    text = card.text
    assert text.strip().startswith(f"# {variant}\n")
    assert f"{model.num_parameters():,} parameters" in text
    assert "images of 32x32 pixels, 3 classes" in text
    assert "`weights.npz`" in text
    assert "somebody" not in text
    for paper in facts.papers:
        assert f"https://arxiv.org/abs/{paper.arxiv}" in text
        assert paper.bibtex in text


@pytest.mark.parametrize("name", TINY)
def test_every_class_has_a_card_whose_snippet_runs(hub, name, tmp_path, monkeypatch, capsys):
    """What a card tells to type does what it says, once the model is pushed."""
    image().save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    row = next(row for row in ARCHITECTURES if name in (row.name, row.folder))
    # Those of clips are in test_video_architectures.
    for auto_class in (auto_class for auto_class in row.models if "Video" not in auto_class):
        repo_id = f"user/{name}-{auto_class.lower()}"
        fields = {"encoder_stride": 8} if "MaskedImage" in auto_class else {}
        push_to_hub(tiny_model(name, auto_class, **fields), repo_id, tiny_processor(), token=hub.token)
        text = hub.repository(repo_id).head.files["README.md"].content.decode()
        assert "trust_remote_code=True" in text
        snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
        assert f'{auto_class}.from_pretrained("{repo_id}")' in snippet
        exec(snippet, {})
        assert re.search(r"cat|dog|eel|Size|\(1, 16, ", capsys.readouterr().out)


def test_text_model(hub, monkeypatch, capsys):
    from hf_vits.models.cct.configuration_cct_text import CctTextConfig
    from hf_vits.models.cct.modeling_cct_text import CctForSequenceClassification

    model = CctForSequenceClassification(
        CctTextConfig(vocab_size=100, word_embedding_size=8, hidden_size=16, num_attention_heads=2)
    )
    push_to_hub(model, "user/text", token=hub.token)
    card = Card(hub.repository("user/text").head.files["README.md"].content.decode())
    assert card.data.pipeline_tag == "text-classification"
    assert "vision" not in card.data.tags
    exec(re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1], {})
    assert "LABEL_" in capsys.readouterr().out


def test_trained_card(hub, summary):
    model = tiny_model("cct")
    card = trained_card(model, summary)
    card.validate()
    assert card.data.base_model == "user/pretrained"
    assert card.data.metrics == ["accuracy", "loss"]
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results.keys() == {"accuracy", "loss"}
    assert results["accuracy"].metric_value == 0.98125
    assert results["accuracy"].dataset_name == "scikit-learn's digits"
    assert results["accuracy"].dataset_type == "scikit-learn-s-digits"
    assert results["accuracy"].task_type == "image-classification"
    text = card.text
    assert "Fine-tuned from [user/pretrained](https://hf.co/user/pretrained) on scikit-learn's digits" in text
    assert "1,437 examples, evaluated on 360 (test)" in text
    assert "| optimizer.lr | 0.001 |" in text
    assert "| train.epochs | 45 |" in text
    assert "| accuracy | 0.98125 |" in text
    assert "![Curves](curves.png)" in text
    assert "![Confusion matrix](confusion_matrix.png)" in text
    assert "runtime" not in str(card)
    course = text.split("### Course")[1].split("##")[0]
    rows = [line for line in course.splitlines() if line.startswith("|")]
    assert len(rows) <= 22
    assert rows[-1] == "| 45 | 0.0444444 | 0.977778 |"


def test_card_tells_no_path(summary, tmp_path):
    summary.base_model = str(tmp_path)
    summary.dataset = str(tmp_path / "holiday photos")
    text = str(trained_card(tiny_model("vit"), summary))
    assert str(tmp_path) not in text
    assert "somebody" not in text
    assert "Trained on holiday photos" in text
    assert "base_model" not in text


def test_hub_data_set(hub, summary):
    summary.dataset, summary.dataset_id, summary.base_model = "CIFAR-10", "uoft-cs/cifar10", None
    card = trained_card(tiny_model("cct"), summary)
    card.validate()
    assert card.data.datasets == ["uoft-cs/cifar10"]
    assert card.data.eval_results[0].dataset_type == "uoft-cs/cifar10"
    assert "Trained on [CIFAR-10](https://hf.co/datasets/uoft-cs/cifar10)" in card.text


def test_figures_go_along(hub, summary, tmp_path):
    model = tiny_model("cct")
    push_to_hub(model, "user/cct", token=hub.token, card=trained_card(model, summary))
    stored = hub.repository("user/cct").head.files
    assert stored["curves.png"].content == summary.figures[0].read_bytes()
    folder = save_for_hub(model, tmp_path / "saved", card=trained_card(model, summary))
    push_to_hub(model, "user/again", token=hub.token, card=folder / "README.md")
    assert {"curves.png", "confusion_matrix.png"} <= hub.repository("user/again").head.files.keys()
    summary.figures = [tmp_path / "none.png"]
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        trained_card(model, summary)


def test_card_of_a_file_brings_only_what_lies_beside_it(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "shown.png").write_bytes(b"shown")
    (folder / "README.md").write_text(f"![a](shown.png) ![b](../secret.png) ![c]({secret}) ![d](https://x.y/z.png)\n")
    (tmp_path / "out").mkdir()
    write_card(str(folder / "README.md"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "shown.png"]
    assert (tmp_path / "out" / "README.md").read_bytes() == (folder / "README.md").read_bytes()
    assert isinstance(Card.load(folder / "README.md"), Card)


def test_own_licence():
    card = model_card(tiny_model("vit"), licence="cc-by-nc-4.0")
    assert card.data.license == "cc-by-nc-4.0"
    text = " ".join(card.text.split())
    assert "Licence of these weights: CC BY-NC 4.0. Licence of the original code and weights (<https:" in text
    assert ">): Apache-2.0." in text


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ("license: free beer", '"license" must be one of'),
        ("license: mit\npipeline_tag: magic", '"pipeline_tag" must be one of'),
        ("tags: [1, 2]", '"tags" must be'),
        ("library_name: [a]", '"library_name" must be a string'),
        ("model-index: 3", '"model-index" must be an array'),
        ("model-index: [{name: a, results: [{task: {type: t}, metrics: []}]}]", "dataset.type"),
        ("[", "invalid YAML"),
        ("- a list", "must be a mapping"),
    ],
)
def test_invalid_metadata(hub, metadata, error):
    assert any(error in message for message in check_metadata(f"---\n{metadata}\n---\n")[0])
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        push_to_hub(tiny_model("vit"), "user/vit", token=hub.token, card=f"---\n{metadata}\n---\n")
    assert not hub.repositories or len(hub.repository("user/vit").history()) == 1


def test_card_without_metadata_is_allowed(hub):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        push_to_hub(tiny_model("vit"), "user/vit", token=hub.token, card="# Just text\n")
    assert hub.repository("user/vit").head.files["README.md"].content == b"# Just text\n"


NASTY = [
    "<script>alert(1)</script>",
    "a | b",
    "`code` and ``more``",
    "[text](https://x.y)",
    "![](secret.png)",
    "two\n\n# lines",
    "**bold** _slanted_ ~~gone~~ $x$ snake_case",
    "a\\|b \\` &lt; &amp;",
    "<img src=x onerror=alert(1)>",
    "</td></tr>",
]


def shown(markdown: str) -> list[str]:
    """Return the texts of the cells and headings of a rendered card; fails on any markup inside them."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    places = [token for before, token in pairwise(tokens) if before.type in ("td_open", "th_open", "heading_open")]
    assert {child.type for token in places for child in token.children} <= {"text", "text_special"}
    assert not any(token.type == "html_block" for token in tokens)
    return ["".join(child.content for child in token.children) for token in places]


@pytest.mark.parametrize("text", NASTY)
def test_texts_are_shown_as_they_are(summary, text):
    """Names of classes and data sets, transcripts and hyperparameters are text, not Markdown or HTML."""
    summary.dataset, summary.split = text, text
    summary.hyperparameters = {text: text}
    summary.metrics = {text: 0.5}
    summary.samples = [{"reference": text, text: [text]}]
    summary.history = [{"epoch": 1, text: 2.0}]
    line = " ".join(text.split())
    card = trained_card(tiny_model("vit"), summary)
    texts = shown(card.text)
    assert texts.count(line) == 7  # the split, a metric, a setting, its value, a sample, and names of two columns
    assert any(place.endswith(f" on {line}") for place in texts)
    assert "<script>" not in card.text
    assert "<img" not in card.text
    assert IMAGE_LINK.findall(card.text) == ["curves.png", "confusion_matrix.png"]


def test_texts_of_a_converted_card_are_shown_as_they_are():
    card = model_card(tiny_model("vit"), variant="a`<b>` [c](d)", source="https://x.y/`<i>`z`")
    assert "a`<b>` [c](d)" in shown(card.text)
    assert "<b>" not in card.text
    assert "<i>" not in card.text


def test_names_of_repositories_stay_inside_their_links(summary):
    summary.base_model, summary.dataset_id = "user/a) [b](c", "user/d) <script>"
    text = trained_card(tiny_model("vit"), summary).text
    assert "[user/a) \\[b\\](c](https://hf.co/user/a%29%20%5Bb%5D%28c)" in text
    assert "(https://hf.co/datasets/user/d%29%20%3Cscript%3E)" in text


def test_only_pictures_of_the_folder_go_along(hub, tmp_path):
    """A push takes what the card shows, unless that is a link or no picture."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    run = tmp_path / "run"
    run.mkdir()
    Image.new("RGB", (8, 8)).save(run / "my curves.png")
    (run / "notes.txt").write_text("secret")
    (run / "config.json").write_text('{"_name_or_path": "secret"}')
    (run / "link.png").symlink_to(tmp_path / "secret.png")
    (run / "folder.png").mkdir()
    names = ["my%20curves.png", "notes.txt", "config.json", "link.png", "folder.png", "..%2Fsecret.png", "none.png"]
    (run / "README.md").write_text("# A card\n\n" + "".join(f"![picture]({name})\n" for name in names))
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        push_to_hub(tiny_model("vit"), "user/vit", token=hub.token, card=run / "README.md", bundle=False)
    stored = hub.repository("user/vit").head.files
    expected = {".gitattributes", "README.md", "config.json", "model.safetensors", "my curves.png"}
    assert stored.keys() == expected
    assert b"secret" not in stored["config.json"].content


@pytest.mark.parametrize("name", ["link.png", "notes.txt"])
def test_figures_are_pictures(summary, tmp_path, name):
    (tmp_path / "notes.txt").write_text("secret")
    (tmp_path / "link.png").symlink_to(tmp_path / "notes.txt")
    summary.figures = [tmp_path / name]
    with pytest.raises(ValueError, match=rf"must be image files \(\.gif, .*no links, got {name}"):
        trained_card(tiny_model("vit"), summary)
