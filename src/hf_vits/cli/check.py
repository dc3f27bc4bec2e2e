"""Decode every file of a data set and name those that cannot be decoded.

DATA is a folder with images, videos and recordings at any depth, or a recipe, of which the files of the data section
are checked. Several processes divide the work. The result is kept in Hugging Face's cache directory: the next check
decodes only files whose size or time of change is another, and training refuses the files that were found, or replaces
them. The exit code is 1 if a file is unreadable.

  hf-vits check photos/
  hf-vits check recipes/deit_small_stylized_imagenet.yaml
  hf-vits check photos/ --json
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

_MOST_SHOWN = 50


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="folder of files, or recipe")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.data.checks import find_unreadable

    unreadable, counts = {}, {}
    for media, paths, root in files_of(args.data):
        unreadable |= find_unreadable(paths, media, root)
        counts[f"{media.noun}s"] = counts.get(f"{media.noun}s", 0) + len(paths)
    listed = [{"file": str(path), "problem": problem} for path, problem in unreadable.items()]
    return {"data": args.data, **counts, "unreadable": listed}


def files_of(data: str) -> list[tuple[Any, Any, Any]]:
    """Return (kind of files, their paths, directory or table that names them) for each kind of files in DATA."""
    from hf_vits.data.audio import AUDIO
    from hf_vits.data.file_lists import FileList
    from hf_vits.data.folders import visible_names
    from hf_vits.data.images import IMAGES
    from hf_vits.data.videos import VIDEOS

    if Path(data).suffix in (".yaml", ".yml"):
        return files_of_recipe(Path(data))
    if not Path(data).is_dir():
        raise FileNotFoundError(f"there is no folder {data}; DATA is a folder of files, or a recipe")
    folders, found = visible_names(data), []
    for media in (IMAGES, VIDEOS, AUDIO):
        paths = FileList((folder, [name for name in names if media.matches(name)]) for folder, names in folders)
        found += [(media, paths, data)] if paths else []
    if not found:
        raise FileNotFoundError(f"{data} has no images, videos or recordings among its files")
    return found


def files_of_recipe(path: Path) -> list[tuple[Any, Any, Any]]:
    """Return what `files_of` does for the data section of a recipe."""
    from hf_vits.data.domains import section_of
    from hf_vits.data.splits import files_of as files_of_inputs
    from hf_vits.recipe import load_recipe
    from hf_vits.training import tasks

    recipe = load_recipe(path)
    data, task, found = replace(recipe.data, skip_unreadable=False), tasks.load(recipe.task), []
    for section in [section_of(data, domain) for domain in data.domains.values()] or [data]:
        loaded = task.load_splits(section)
        parts = {id(part): part for part in (loaded.train, loaded.validation, loaded.test)}.values()
        files = (files_of_inputs(part.inputs) for part in parts)
        found += [(media, paths, section.path) for paths, media in filter(None, files)]
    if not found:
        raise ValueError(f"{path}: the source {data.source} reads no files that can be checked")
    return found


def exit_code(result: dict[str, Any]) -> int:
    """Return 1 if a file is unreadable, otherwise 0."""
    return 1 if result["unreadable"] else 0


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts, print_table

    unreadable = result["unreadable"]
    counts = {name: count for name, count in result.items() if name not in ("data", "unreadable")}
    print_facts([*counts.items(), ("unreadable", len(unreadable))], title=result["data"])
    if unreadable:
        rows = [(row["file"], row["problem"]) for row in unreadable[:_MOST_SHOWN]]
        more = f" ({len(unreadable) - _MOST_SHOWN} more: use --json)" if len(unreadable) > _MOST_SHOWN else ""
        print_table(("file", "problem"), rows, title=f"\nunreadable{more}")
