"""The kinds of model of `hf-vits predict`: one module per kind.

Each has MEDIA, the files it reads (`hf_vits.data.checks.Media`), CHECKED_FIRST, whether all files are checked before
the first is used, and `predict(args, paths)`, which loads the model, draws the figure if it is wanted, and returns a
dict per file with its name and its predictions, numbers, objects or text.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from transformers import PreTrainedModel

from hf_vits.data.checks import Media, find_unreadable
from hf_vits.data.folders import visible_files

# {end of a model's class name: module of this package}
_KINDS = {
    "ForImageClassification": "images",
    "ForImageClassificationWithTeacher": "images",
    "ForObjectDetection": "objects",
    "ForInstanceSegmentation": "objects",
    "ForVideoClassification": "videos",
    "VattModel": "by_names",
    "VattForPreTraining": "by_names",
    "ForAudioClassification": "audio",
    "ForCTC": "speech",
    "ForSemanticSegmentation": "segmentation",
}
_MOST_NAMED = 10


def kind_of(source: str, model_class: type[PreTrainedModel]) -> ModuleType:
    """Return the module for the kind of model; ValueError if it is neither a classifier nor a detector."""
    for ending, module in _KINDS.items():
        if model_class.__name__.endswith(ending):
            return importlib.import_module(f".{module}", __package__)
    raise ValueError(
        f"{source} is a {model_class.__name__}, which has no classifier; prediction needs one, or a detector"
    )


def find_files(arguments: list[Path], media: Media) -> list[Path]:
    """Return the named files, and at any depth of named folders the files with the endings of `media`, each once.

    Hidden files in folders are left out, see `hf_vits.data.folders.is_hidden`.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        if argument.is_dir():
            inside = sorted(visible_files(argument))
            fitting = [path for path in inside if path.name.lower().endswith(media.endings)]
            if not fitting:
                raise FileNotFoundError(
                    f"{argument} has no {media.noun} files ({' '.join(media.endings)}) among its {len(inside)} files"
                )
            found |= dict.fromkeys(fitting)
        elif argument.is_file():
            found[argument] = None
        else:
            raise FileNotFoundError(f"there is no file or folder {argument}")
    return list(found)


def check_readable(paths: list[Path], media: Media, skip: bool) -> dict[Path, str]:
    """Return {unreadable file: reason}; raise OSError that lists them unless `skip`, or if there is no other file."""
    unreadable = find_unreadable(paths, media)
    named = "; ".join(f"{path}: {problem}" for path, problem in list(unreadable.items())[:_MOST_NAMED])
    more = f"; and {len(unreadable) - _MOST_NAMED} more" if len(unreadable) > _MOST_NAMED else ""
    found = f"{len(unreadable)} of {len(paths)} {media.noun} file(s) cannot be read: {named}{more}"
    if len(unreadable) == len(paths) or (unreadable and not skip):
        raise OSError(found if skip else f"{found}. Repair them, or pass --skip-unreadable to leave them out")
    if unreadable:
        print(f"skipping: {found}", file=sys.stderr)
    return unreadable
