"""The recipes of the package: found by name, listed, copied, with a schema for editors; and usual names of keys."""

import json

import pytest
import yaml

from hf_vits import cli
from hf_vits.recipe import library, load_recipe
from hf_vits.recipe.schema import schema, written

from ..support.paths import RECIPES


def test_the_schema_is_up_to_date():
    stale = "run `python -m hf_vits.recipe.schema`"
    assert (RECIPES / library.SCHEMA).read_text() == written(), stale


def test_every_recipe_names_the_schema_in_its_first_line():
    without = [path.name for path in RECIPES.glob("*.yaml") if path.read_text().split("\n")[0] != library.SCHEMA_LINE]
    assert without == [], f"first line {library.SCHEMA_LINE!r}"


def test_the_schema_has_the_keys_of_every_recipe():
    def check(values, part, where):
        part = next((one for one in part.get("anyOf", [part]) if one.get("type") == "object"), part)
        for key, value in values.items():
            entry = part.get("properties", {}).get(key) or part.get("additionalProperties")
            assert entry is not False, f"{where}.{key}"
            if isinstance(value, dict) and entry:
                check(value, entry, f"{where}.{key}")

    for path in RECIPES.glob("*.yaml"):
        check(yaml.safe_load(path.read_text()), schema(), path.stem)
    with pytest.raises(AssertionError, match=r"x\.train\.lr"):
        check({"train": {"lr": 1}}, schema(), "x")


def test_a_recipe_is_found_by_its_name():
    assert load_recipe("demo_digits") == load_recipe(RECIPES / "demo_digits.yaml")
    with pytest.raises(FileNotFoundError, match="did you mean demo_digits"):
        load_recipe("demo_digit")


def test_recipes_say_what_they_train():
    found = [library.describe(name) for name in library.names()]
    assert len(found) == len(list(RECIPES.glob("*.yaml")))
    assert all(0 < len(row.summary) < 300 and "yaml-language" not in row.summary for row in found)
    demo = library.describe("demo_digits")
    assert (demo.task, demo.architecture, demo.data) == ("image-classification", "cct", "digits")
    assert "99 %" in demo.summary


def test_recipes_are_listed_and_copied(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["recipes", "--architecture", "cct", "--data", "digits", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["recipes"]] == ["demo_digits"]
    assert cli.main(["recipes", "copy", "demo_digits"]) == 0
    assert load_recipe("demo_digits.yaml") == load_recipe("demo_digits")
    assert (tmp_path / library.SCHEMA).is_file()
    capsys.readouterr()
    assert cli.main(["recipes", "copy", "demo_digits"]) == 2
    assert "demo_digits.yaml exists" in capsys.readouterr().err
    assert cli.main(["recipes", "--task", "dancing"]) == 2
    assert "no recipe has the task 'dancing'; there are audio-classification" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "key"),
    [("train.epochs=3", "train.length"), ("lr=1", "optimizer.learning_rate"), ("batch=2", "train.batch_size")],
)
def test_usual_names_lead_to_the_keys(override, key):
    with pytest.raises(ValueError, match=f"did you mean {key}"):
        load_recipe("demo_digits", [override])


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "hf-vits 0.1.0\n"
