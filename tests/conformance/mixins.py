"""transformers' test mixins, importable.

The source distribution leaves out some modules that the mixins import; empty or small stand-ins take their place.
"""

import importlib
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from unittest import mock

import transformers
from transformers.models.auto import modeling_auto

from hf_vits.auto import ARCHITECTURES

from .sources import mixin_folder

PACKAGE = "transformers_tests"

# A value other than the default for each field that all configurations share.
CONFIG_FIELDS = {
    "output_hidden_states": True,
    "return_dict": False,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "is_encoder_decoder": True,
    "architectures": ["SomeModel"],
    "id2label": {0: "cat"},
    "label2id": {"cat": 0},
    "problem_type": "regression",
}


def url_to_local_path(url: str) -> str:
    """The address itself, which a module asks for when it is imported; a test that would fetch it fails."""
    return url


def stand_in(name: str, **attributes) -> None:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def import_mixins(*names: str) -> list[ModuleType]:
    """Import modules of the source distribution's tests, as part of the package `PACKAGE`."""
    stand_in(PACKAGE, __path__=[str(mixin_folder())])
    stand_in(f"{PACKAGE}.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
    stand_in(f"{PACKAGE}.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
    stand_in(f"{PACKAGE}.utils.test_configuration_utils", config_common_kwargs=CONFIG_FIELDS)
    stand_in("fetch_hub_objects_for_ci", url_to_local_path=url_to_local_path)
    with tempfile.TemporaryDirectory() as folder:
        # The summary of the Hub's tiny models, empty: the pipeline tests here build their own.
        summary = Path(folder, "reports", "tiny_model_summary.json")
        summary.parent.mkdir()
        summary.write_text("{}")
        with (
            # Otherwise the mixins import transformers once more, from their own source distribution.
            mock.patch("transformers.utils.direct_transformers_import", return_value=transformers),
            mock.patch.dict(os.environ, TRANSFORMERS_TINY_MODEL_PATH=folder),
        ):
            return [importlib.import_module(f"{PACKAGE}.{name}") for name in names]


def name_our_classes(module: ModuleType) -> None:
    """Add our models to the tables {model type: class name} by which `module` tells a classifier from a base model."""
    ours = defaultdict(dict)
    for architecture in ARCHITECTURES:
        model_type = architecture.config_class().model_type
        for auto_class, class_name in architecture.models.items():
            table = getattr(modeling_auto, auto_class)._model_mapping._model_mapping
            ours[id(table)][model_type] = class_name
    for name, value in list(vars(module).items()):
        if id(value) in ours:
            setattr(module, name, value | ours[id(value)])


common, backbone, configuration, image_processing, video_processing, pipelines, training = import_mixins(
    "test_modeling_common",
    "test_backbone_common",
    "test_configuration_common",
    "test_image_processing_common",
    "test_video_processing_common",
    "test_pipeline_mixin",
    "test_training_mixin",
)
name_our_classes(common)
