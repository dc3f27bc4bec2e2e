"""`hf-vits predict` by what a model takes: one module per kind of input.

Each has MEDIA, the files it reads (`hf_vits.data.folders.Media`), and predict(args, paths), which loads the model,
draws the figure if one is asked for, and returns a dict per file: file, and predictions or text.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from transformers import PreTrainedModel

from hf_vits.data.folders import Media, find_unreadable, visible_files

# {end of a model's class name: module below}
_KINDS = {
    "ForImageClassification": "images",
    "ForImageClassificationWithTeacher": "images",
    "ForVideoClassification": "videos",
    "ForAudioClassification": "audio",
    "ForCTC": "speech",
}
_MOST_NAMED = 10


def kind_of(source: str, model_class: type[PreTrainedModel]) -> ModuleType:
    """The module for the model's inputs; ValueError where it is no classifier."""
    for ending, module in _KINDS.items():
        if model_class.__name__.endswith(ending):
            return importlib.import_module(f".{module}", __package__)
    raise ValueError(f"{source} is a {model_class.__name__}, which has no classifier: predictions need one")


def find_files(arguments: list[Path], media: Media) -> list[Path]:
    """Return the files that are named, and those at any depth of folders with the kind's endings, each once.

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
    """{unreadable file: why it cannot be decoded}; OSError that names them unless they are to be skipped."""
    unreadable = find_unreadable(paths, media)
    named = "; ".join(f"{path}: {problem}" for path, problem in list(unreadable.items())[:_MOST_NAMED])
    more = f"; and {len(unreadable) - _MOST_NAMED} more" if len(unreadable) > _MOST_NAMED else ""
    found = f"{len(unreadable)} of {len(paths)} {media.noun} file(s) cannot be read: {named}{more}"
    if len(unreadable) == len(paths) or (unreadable and not skip):
        raise OSError(found if skip else f"{found}. Repair them, or pass --skip-unreadable to leave them out")
    if unreadable:
        print(f"skipping: {found}", file=sys.stderr)
    return unreadable
