"""`hf-vits check`: damaged files of a folder or recipe, and the files of a later check."""

import json

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from hf_vits.cli import main
from hf_vits.data import checks

from ..support.training import tiny_recipe


@pytest.fixture
def mixed(tmp_path):
    """A folder with images of two classes and recordings, one of each damaged."""
    for name in ("cat", "dog"):
        (tmp_path / "files" / name).mkdir(parents=True)
        for number in range(12):
            level = np.full((8, 8), number, np.uint8)
            Image.fromarray(level).save(tmp_path / "files" / name / f"{number}.png")
    soundfile.write(tmp_path / "files" / "cat" / "miaow.wav", np.zeros(100), 8000)
    (tmp_path / "files" / "dog" / "bark.wav").write_bytes(b"no sound")
    (tmp_path / "files" / "dog" / "3.png").write_bytes(b"no image")
    return tmp_path / "files"


def result_of(capsys, *arguments):
    code = main(["check", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_all_kinds_of_files_are_checked_and_damaged_ones_named(mixed, capsys):
    code, result = result_of(capsys, mixed)
    assert code == 1
    assert (result["images"], result["recordings"]) == (24, 2)
    assert [row["file"] for row in result["unreadable"]] == [str(mixed / "dog" / "3.png"), str(mixed / "dog/bark.wav")]
    assert main(["check", str(mixed)]) == 1
    assert "cannot identify image" in capsys.readouterr().out
    for damaged in ("3.png", "bark.wav"):
        (mixed / "dog" / damaged).unlink()
    assert result_of(capsys, mixed)[0] == 0


def test_what_a_recipe_reads_is_checked_and_refused_in_training(mixed, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "run", data={"source": "folder", "path": str(mixed)})))
    for _ in range(2):  # the second time the result is known
        code, result = result_of(capsys, recipe)
        assert code == 1
        assert result["images"] == 24
        assert [row["file"] for row in result["unreadable"]] == [str(mixed / "dog" / "3.png")]
    assert main(["train", str(recipe)]) == 2
    assert "1 image file(s) cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_many_files_are_divided_among_processes(mixed, capsys, monkeypatch):
    monkeypatch.setattr(checks, "_FEW", 10)
    monkeypatch.setattr(checks.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    code, result = result_of(capsys, mixed)
    assert code == 1
    assert len(result["unreadable"]) == 2


def test_what_has_no_files_is_refused(tmp_path, capsys):
    assert main(["check", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["check", str(tmp_path)]) == 2
    assert "has no images, videos or recordings" in capsys.readouterr().err
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "run")))
    assert main(["check", str(recipe)]) == 2
    assert "the source digits reads no files" in capsys.readouterr().err
