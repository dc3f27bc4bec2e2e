"""What describes a tiny form of an architecture to the tests, and the sizes that several architectures' forms share.

Each architecture's forms are in `tests/models/<name>/forms.py`, each method's in `tests/pretraining/<name>/forms.py`:

    FORMS        what conformance runs on, a `Form` or `PretrainingForm` each
    TINY         fields of the form that the tests of Hub, bundle, export and compilation use
    TINY_CLIPS   the same for clips
    TINY_MODALITIES    the same for images and waveforms, of a model that reads several modalities
"""

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Any

import tests.models
import tests.pretraining


@dataclass(frozen=True)
class Form:
    """One form of an architecture.

    Attributes:
        name: start of the names of its test classes.
        architecture: `name` of its entry in `hf_vits.auto.ARCHITECTURES`.
        tokens: length of the sequence that its layers see, prefix tokens included.
        config: fields of its configuration; `IMAGE`, `PATCHES` and `TEXT` have the common ones.
        layers: how many it has, where that is not its `num_hidden_layers`.
        attentions: how many attention maps it returns, where that is not one per layer.
        attention: (heads, queries, keys) of the first, where that does not follow from `tokens`.
        maps: (channels, rows, columns) of each hidden state of an encoder in stages; else they are sequences.
        flags: attributes of `ModelTesterMixin` that switch parts of its tests.
        backbone: fields that give the default configuration the four layers that the backbone tests pick from.
        skips: {name of a mixin's test: why it cannot apply}, besides `SKIPS`.
        auto_classes: those of the architecture that this form has a model for, where not all.
        inputs: a key of `testers.INPUTS`, where that is not the main input of the model classes.
    """

    name: str
    architecture: str
    tokens: int
    config: dict[str, Any]
    layers: int | None = None
    attentions: int | None = None
    attention: tuple[int, int, int] | None = None
    maps: tuple[tuple[int, int, int], ...] = ()
    flags: dict[str, bool] = field(default_factory=dict)
    backbone: dict[str, Any] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)
    auto_classes: tuple[str, ...] = ()
    inputs: str | None = None


@dataclass(frozen=True)
class PretrainingForm:
    """One form of a self-supervised model, which is tested with batches as its training makes them.

    Attributes:
        name: start of the names of its test classes.
        architecture: `name` of its entry in `hf_vits.auto.PRETRAINING`.
        config: fields of its configuration.
        inputs: what its batches hold, names of `testers.PRETRAINING_INPUTS`.
        tokens: length of the sequence that its layers see, prefix tokens included; None for a model of several passes,
            which returns no hidden states.
        flags, skips: as in `Form`.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    inputs: tuple[str, ...] = ("views", "local_views")
    tokens: int | None = None
    flags: dict[str, bool] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)
    maps: tuple = ()


# Sizes of the forms that conformance runs on.
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
IMAGE = {**LAYERS, "image_size": 30}
PATCHES = {**IMAGE, "patch_size": 6}  # 5 x 5 of them
SAMPLES, FRAMES = 100, 40  # in a waveform, in a spectrogram
WORDS = 12  # in a text
# Backbones of self-supervised models, and their heads.
TINY_DEIT = {"model_type": "hf_vits_deit", **PATCHES}
TINY_SWIN = {
    "model_type": "hf_vits_swin",
    "image_size": 32,
    "hidden_sizes": [16, 32],
    "depths": [2, 1],
    "num_attention_heads": [2, 4],
    "window_size": 4,
    "squeeze_sizes": [4, 4],
    "shift_like": "image_size",
}
HEAD = {"num_prototypes": 12, "head_hidden_size": 20, "head_bottleneck_size": 8}

# Sizes of the forms that the other shared tests use.
SIZES = {
    "image_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
STAGES = {"image_size": 32, "depths": [1, 1, 2], "hidden_sizes": [8, 16, 16], "num_attention_heads": [1, 2, 2]}
BACKBONE = {"model_type": "hf_vits_deit", **SIZES, "patch_size": 8, "position_interpolation": "bicubic_offset"}


def gather(package, name: str) -> dict[str, Any]:
    """Return {folder: value} of a constant of every `forms.py` below a package of tests that has it."""
    values = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            forms = importlib.import_module(f"{package.__name__}.{module.name}.forms")
            if hasattr(forms, name):
                values[module.name] = getattr(forms, name)
    return values


def forms() -> list[Form]:
    """Return the forms of every architecture."""
    return [form for forms in gather(tests.models, "FORMS").values() for form in forms]


def pretraining_forms() -> list[PretrainingForm]:
    """Return the forms of every self-supervised method."""
    return [form for forms in gather(tests.pretraining, "FORMS").values() for form in forms]
