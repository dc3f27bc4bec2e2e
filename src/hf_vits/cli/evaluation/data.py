"""Loading of the labelled inputs that DATA names."""

import argparse
from dataclasses import replace
from pathlib import Path

HELD_OUT = 0.2  # fraction of data without a split to measure on, for methods that learn


def load_recipe_of(data: str):
    """Load DATA as a recipe; None if it is not one."""
    from hf_vits.recipe import load_recipe

    return load_recipe(Path(data)) if Path(data).suffix in (".yaml", ".yml") else None


def load_data(args: argparse.Namespace, task, recipe):
    """Return name, class names and splits of the data that a classifier is measured on."""
    from hf_vits.data.splits import readable

    if recipe is None and args.data == "digits":
        splits = task.load_splits(source_of(args))
        return splits.name, splits.class_names, [splits.train, splits.validation]
    if recipe is None and Path(args.data).is_dir():
        return load_class_folders(Path(args.data), task, args.skip_unreadable)
    source = source_of(args) if recipe is None else recipe.data
    splits = readable(task.load_splits(source), source)
    return f"{splits.name}, {args.split}", splits.class_names, [getattr(splits, args.split)]


def load_splits(args: argparse.Namespace, recipe):
    """Load images to learn from and to measure on; a part is held out if the data have only one split."""
    from hf_vits.data.images import SOURCES
    from hf_vits.data.splits import divide, load_classes, readable

    if recipe is not None:
        return readable(load_classes(recipe.data, SOURCES), recipe.data)
    source = source_of(args)
    loaded = SOURCES.load(source)
    if source.source == "folder":
        parts = {
            name: only_readable(split, Path(args.data), args.skip_unreadable) for name, split in loaded.splits.items()
        }
        loaded = loaded._replace(splits=parts)
    source = replace(source, validation_fraction=HELD_OUT if len(loaded.splits) == 1 else 0.0)
    return divide(source, loaded)


def source_of(args: argparse.Namespace):
    """Return the data source that DATA names, if it is not a recipe."""
    from hf_vits.recipe import DataRecipe

    if args.data == "digits":
        return DataRecipe(source="digits")
    if Path(args.data).is_dir():
        return DataRecipe(source="folder", path=args.data, skip_unreadable=args.skip_unreadable)
    if args.data.startswith((".", "/", "~")):
        raise FileNotFoundError(f"there is no folder {args.data}")
    return DataRecipe(source="datasets", path=args.data, config=args.config)


def load_class_folders(folder: Path, task, skip_unreadable: bool):
    """Return name, class names and splits of a folder with a subfolder per class."""
    from hf_vits.data.folders import load_folder
    from hf_vits.data.splits import Split

    class_names, files = load_folder({"train": folder}, task.media)
    paths, labels = files["train"]
    return folder.name, class_names, [only_readable(Split(task.files(paths), labels), folder, skip_unreadable)]


def only_readable(split, folder: Path, skip_unreadable: bool):
    """Return a split without the files that cannot be decoded; OSError that names them unless they are skipped."""
    from hf_vits.data.splits import without_unreadable
    from hf_vits.recipe import DataRecipe

    try:
        return without_unreadable(
            split, DataRecipe(source="folder", path=str(folder), skip_unreadable=skip_unreadable)
        )
    except OSError as error:
        add_note(error)
        raise


def add_note(error: OSError) -> None:
    """Add to an error that names a recipe's key for skipping files the option of this command."""
    error.add_note("For this command the option is --skip-unreadable.")
