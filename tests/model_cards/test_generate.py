"""The cards of the architectures and README's table are what `make cards` writes, and hold what they must."""

import pytest
from huggingface_hub import ModelCard

from hf_vits.auto import ROWS
from hf_vits.conversion import SYSTEMS, variants
from hf_vits.hub.facts import FACTS
from hf_vits.testing.hub import LoopbackHub
from model_cards.generate import blocks, command, generate, replace_block, shown
from model_cards.variants import load
from tests.support.paths import CARDS, ROOT


@pytest.fixture(scope="module")
def generated():
    return generate()


def test_cards_and_readme_are_up_to_date(generated):
    stale = [path.name for path, text in generated.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"run make cards: {', '.join(stale)} differ from what follows from facts and sizes"


def test_every_system_and_architecture_has_facts_sizes_and_a_card():
    # Probes have their encoders' facts; checkpoints of ResNets are of the system sfc.
    folders = {row.folder for row in ROWS} - {"linear_probe", "dense_probe", "res_net"}
    assert folders <= set(SYSTEMS) == FACTS.keys()
    assert set(SYSTEMS) == {path.stem for path in CARDS.glob("*.md")}
    assert set(SYSTEMS) == {path.stem for path in (CARDS / "variants").glob("*.yaml")}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LoopbackHub() as hub, hub.in_process(tmp_path_factory.mktemp("home")):
        yield hub


@pytest.mark.parametrize("system", SYSTEMS)
def test_card(hub, generated, system):
    """The Hub takes the metadata, and text and tables name every paper, class and variant."""
    card, facts = ModelCard(generated[CARDS / f"{system}.md"]), FACTS[system]
    card.validate()
    assert card.data.license == facts.licence
    is_audio = facts.task in ("audio-classification", "automatic-speech-recognition")
    assert set(card.data.tags) == {"audio" if is_audio else "vision", "hf_vits", *facts.tags}
    assert f"# {facts.title}\n" in card.text
    assert facts.summary in " ".join(card.text.split())
    for part in (*facts.repositories, *(paper.arxiv for paper in facts.papers), *(p.bibtex for p in facts.papers)):
        assert part in card.text
    names = {name for row in ROWS if row.folder == system for name in row.models.values()}
    for name in names | variants(system).keys():
        assert f"`{name}`" in card.text


@pytest.mark.parametrize("system", [system for system in SYSTEMS if FACTS[system].example])
def test_the_converted_example_is_a_variant(system):
    assert FACTS[system].example.variant in variants(system)
    assert all(len(line) <= 119 for line in command(system, FACTS[system]).splitlines())


def test_hand_written_text_stays():
    text = "Before.\n\n<!-- generated: use -->\nold\n<!-- end -->\n\nAfter.\n<!-- end -->\n"
    expected = "Before.\n\n<!-- generated: use -->\n\nnew \\1\n\n<!-- end -->\n\nAfter.\n<!-- end -->\n"
    assert replace_block(text, "generated: use", "new \\1", "card.md") == expected


@pytest.mark.parametrize("text", ["no block", "<!-- generated: use -->\n<!-- end -->\n" * 2])
def test_a_block_that_is_missing_or_repeated_is_an_error(text):
    with pytest.raises(ValueError, match=r"card\.md has [02] blocks from <!-- generated: use -->"):
        replace_block(text, "generated: use", "new", "card.md")


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("parameters", 5722856, "5,722,856"),
        ("multiply-adds", 2823.4, "2,823.4 G"),
        ("multiply-adds of hf_vits", 0.19882, "198.82 M"),
        ("reported top-1", 81.0, "81.0"),
        ("reported top-1", None, ""),
    ],
)
def test_values_of_tables(column, value, text):
    assert shown(column, value) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sizes: [1]", "must be a mapping with the keys columns and rows"),
        ("sizes: {columns: [input], rows: {a: [1]}}", "needs the column 'parameters'"),
        ("sizes: {columns: [parameters], rows: {a: [1, 2]}}", "a has 2 values for 1 columns"),
        (
            "one: {columns: [parameters], rows: {a: [1]}}\ntwo: {columns: [parameters], rows: {a: [1]}}",
            "a is in two tables",
        ),
    ],
)
def test_tables_of_another_form_are_an_error(tmp_path, content, message):
    (tmp_path / "toy.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        load("toy", tmp_path)


def test_a_system_without_sizes_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"toy\.yaml is missing: it holds the sizes"):
        load("toy", tmp_path)


def test_a_block_of_another_name_is_an_error(monkeypatch, tmp_path):
    from model_cards import generate as module

    text = (CARDS / "coat.md").read_text(encoding="utf-8")
    (tmp_path / "coat.md").write_text(text + "\n<!-- generated: sizes -->\n<!-- end -->\n")
    monkeypatch.setattr(module, "CARDS", tmp_path)
    with pytest.raises(ValueError, match=r"has the block <!-- generated: sizes -->, but coat has only"):
        module.card("coat")


def test_blocks_of_a_card():
    assert list(blocks("coat")) == ["introduction", "variants", "use", "convert", "licence", "citation"]
    assert "convert" not in blocks("lg_transformer")
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("<!-- architectures -->") == 1
