"""Data sources: found in their folders by name, and strict about the settings that a recipe gives them."""

import pytest

from hf_vits.data import audio, audiovisual, images, masks, objects, videos
from hf_vits.data.domains import section_of
from hf_vits.data.splits import load_classes
from hf_vits.recipe import DataRecipe, SpeechRecipe, load_recipe
from tests.support.paths import RECIPES

NAMES = {
    "images": (
        images.SOURCES,
        [
            *("csv", "datasets", "digit_scenes", "digits", "fashion_mnist", "folder", "jsonl", "scenes"),
            *("symbol_scenes", "webdataset"),
        ],
    ),
    "videos": (videos.SOURCES, ["csv", "datasets", "folder", "jsonl", "moving_digits", "webdataset"]),
    "audio": (
        audio.CLASS_SOURCES,
        ["csv", "datasets", "folder", "jsonl", "speech_commands", "spoken_keywords", "webdataset"],
    ),
    "audiovisual": (audiovisual.SOURCES, ["csv", "folder", "jsonl", "speaking_digits"]),
    "masks": (masks.SOURCES, ["datasets", "folder", "scenes"]),
    "objects": (objects.SOURCES, ["coco", "datasets", "object_scenes", "voc", "yolo"]),
    "speech": (audio.TEXT_SOURCES, ["csv", "datasets", "jsonl", "spoken_digits"]),
}
OF_FILES = {
    "csv",
    "jsonl",
    "folder",
    "datasets",
    "webdataset",
    "fashion_mnist",
    "speech_commands",
    "coco",
    "voc",
    "yolo",
}


@pytest.mark.parametrize("kind", NAMES)
def test_sources_are_the_modules_of_their_folder(kind):
    sources, names = NAMES[kind]
    assert sources.names() == names


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("images", "foldr", "did you mean folder?"),
        (
            "images",
            "table",
            "its sources are csv, datasets, digit_scenes, digits, fashion_mnist, folder, jsonl, scenes",
        ),
        ("speech", "spoken_digit", "did you mean spoken_digits?"),
        (
            "audio",
            "spoken_digits",
            "its sources are csv, datasets, folder, jsonl, speech_commands, spoken_keywords, webdataset",
        ),
        ("videos", "../folder", "its sources are csv, datasets"),
        ("videos", "", "its sources are csv, datasets"),
    ],
)
def test_an_unknown_source_is_named_beside_those_of_the_task(kind, name, hint):
    with pytest.raises(ValueError, match=r"data.source: this task has no source") as raised:
        NAMES[kind][0].load(DataRecipe(source=name))
    assert hint in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (_, names) in NAMES.items() for name in names if name in OF_FILES]
)
def test_sources_of_files_need_a_path(kind, name):
    with pytest.raises(ValueError, match=f"data.source: {name} needs data.path, "):
        NAMES[kind][0].load(DataRecipe(source=name))


@pytest.mark.parametrize(
    ("kind", "fields", "setting"),
    [
        ("images", {"source": "digits", "path": "somewhere"}, "data.path"),
        ("images", {"source": "digits", "splits": {"train": "all"}}, "data.splits"),
        ("images", {"source": "folder", "path": ".", "config": "clean"}, "data.config"),
        ("images", {"source": "folder", "path": ".", "columns": {"label": "class"}}, "data.columns.label"),
        ("images", {"source": "datasets", "path": ".", "skip_unreadable": True}, "data.skip_unreadable"),
        ("images", {"source": "datasets", "path": ".", "columns": {"audio": "a"}}, "data.columns.audio"),
        ("videos", {"source": "csv", "path": ".", "columns": {"text": "said"}}, "data.columns.text"),
        ("audio", {"source": "folder", "path": ".", "speech": SpeechRecipe(train=5)}, "data.speech"),
    ],
)
def test_a_setting_that_the_source_does_not_read_is_refused(kind, fields, setting):
    with pytest.raises(ValueError, match=f"{setting}: the source {fields['source']} does not read it"):
        NAMES[kind][0].load(DataRecipe(**fields))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_the_project_name_sources_that_read_their_settings(path):
    recipe = load_recipe(path)
    kinds = {"video-classification": "videos", "audio-classification": "audio"}
    kinds |= {"automatic-speech-recognition": "speech", "multimodal-pretraining": "audiovisual"}
    kinds |= {"object-detection": "objects", "semantic-segmentation": "masks"}
    sources, _ = NAMES[kinds.get(recipe.task, "images")]
    for data in [section_of(recipe.data, domain) for domain in recipe.data.domains.values()] or [recipe.data]:
        assert callable(sources.find(data))


def test_common_settings_go_with_every_source():
    recipe = DataRecipe(source="digits", num_classes=10, validation_fraction=0.2, test_fraction=0.2, split_seed=3)
    assert len(load_classes(recipe, images.SOURCES).test) == 360
