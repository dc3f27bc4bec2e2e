"""Facts about architectures: read when they are needed, part of the installed package, and checked."""

import subprocess
import sys

import pytest
import yaml

from hf_vits.hub.facts import FACTS, FactFiles, Facts
from tests.support.paths import ROOT

TOY = {
    "name": "Toy",
    "title": "Toy transformer",
    "summary": "It is small.",
    "task": "image-classification",
    "papers": [{"title": "Toys", "arxiv": "2001.00001", "bibtex": "@misc{toy}"}],
    "repositories": [],
    "licence": "mit",
    "tags": ["toy"],
}


@pytest.fixture
def read(tmp_path):
    def read(fields: dict) -> Facts:
        (tmp_path / "toy.yaml").write_text(yaml.safe_dump(fields))
        return FactFiles(tmp_path)["toy"]

    return read


def test_a_file_is_read_once(tmp_path, read):
    read(TOY)
    facts = FactFiles(tmp_path)
    first = facts["toy"]
    assert first.papers[0].arxiv == "2001.00001"
    assert first.repositories == ()
    assert first.example is None
    (tmp_path / "toy.yaml").unlink()
    assert facts["toy"] is first


def test_an_example_is_optional(read):
    example = {"variant": "toy_tiny", "checkpoint": "toy.pth", "folder": "toy-tiny"}
    assert read(TOY | {"example": example}).example.checkpoint == "toy.pth"


def test_unknown_systems(tmp_path):
    assert FACTS.get("toy") is None
    with pytest.raises(KeyError, match="toy"):
        FACTS["toy"]
    assert list(FactFiles(tmp_path)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": None}, r"toy\.yaml: licence must be a str, got None"),
        ({"colour": "red"}, r"toy\.yaml has the unknown field 'colour'; Facts has name, title"),
        ({"papers": [{"title": "Toys", "arxiv": "2001.00001"}]}, r"papers\[0\] lacks the field 'bibtex' of Paper"),
        ({"papers": [TOY["papers"][0] | {"arxiv": 2001.1}]}, r"arxiv must be a str, got 2001\.1; quote what YAML"),
        ({"tags": "toy"}, "tags must be a list, got 'toy'"),
        ({"example": "toy.pth"}, "example must be a mapping with the fields of Example, got 'toy.pth'"),
    ],
)
def test_wrong_fields_are_named(read, changes, message):
    with pytest.raises(ValueError, match=message):
        read(TOY | changes)


def test_a_missing_field_is_named(read):
    with pytest.raises(ValueError, match=r"toy\.yaml lacks the field 'title' of Facts"):
        read({name: value for name, value in TOY.items() if name != "title"})


def test_a_file_that_is_no_yaml_is_an_error(tmp_path):
    (tmp_path / "toy.yaml").write_text("[")
    with pytest.raises(ValueError, match=r"toy\.yaml is not valid YAML"):
        FactFiles(tmp_path)["toy"]


def test_a_wheel_gets_all_facts():
    """setuptools lists the files of the package that it would build."""
    listing = """
import setuptools
from distutils.core import run_setup

build = run_setup("setup.py", stop_after="config").get_command_obj("build_py")
build.ensure_finalized()
print(*(f"{package}: {name}" for package, _, _, names in build.data_files for name in names), sep="\\n")
"""
    listed = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert {f"hf_vits.hub.facts: {system}.yaml" for system in FACTS} <= set(listed.splitlines())
