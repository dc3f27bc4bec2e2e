"""Every key of a recipe is described in the docstring of its section."""

import dataclasses
import typing

import pytest

from hf_vits.recipe import AudioRecipe, Recipe, SpecAugmentRecipe, field_descriptions


def sections(section=Recipe):
    """Return a recipe dataclass and all those that its fields hold."""
    found = [section]
    for hint in typing.get_type_hints(section).values():
        for member in typing.get_args(hint) or [hint]:
            if dataclasses.is_dataclass(member):
                found += sections(member)
    return found


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_field_has_its_own_description(section):
    described = field_descriptions(section)
    assert list(described) == [field.name for field in dataclasses.fields(section)]
    for name, text in described.items():
        assert len(text.split()) >= 2, f"{name}: {text}"
        assert text.rstrip().endswith("."), f"{name}: {text}"
        assert not text.startswith("see "), f"{name}: {text}"


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_a_description_says_what_none_means(section):
    hints, described = typing.get_type_hints(section), field_descriptions(section)
    optional = [name for name, hint in hints.items() if type(None) in typing.get_args(hint)]
    assert [name for name in optional if "None: " not in described[name]] == []


def test_there_are_many_sections():
    assert {AudioRecipe, SpecAugmentRecipe} < set(sections())
    assert len(sections()) == len(set(sections())) > 20


def test_descriptions_are_read_over_several_lines():
    class Section:
        """What it is.

        This paragraph is about the whole
        section.

        one: first line
            and the next.
        two: another: with a colon.
        """

    assert field_descriptions(Section) == {
        "one": "first line and the next.",
        "two": "another: with a colon.",
    }
