"""Import of the authors' own code from clones on disk, for comparison.

The modules of the repositories have names such as `utils`, `models` or `datasets`, which clash with each other and
with libraries, and their training scripts import packages that a step does not need and that may not be installed.
So only the functions and classes of a script are defined, and the modules of its repository are unloaded afterwards.
"""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import timm.layers
import torch.distributed as dist

DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def definitions(clone: Path, script: str, **names: Any) -> SimpleNamespace:
    """Return the functions and classes of a script, without running the rest of it.

    Imports that fail are ignored.

    Args:
        clone: root of the repository, from which the script can import modules.
        names: objects that replace what the script imports under these names.

    Raises:
        FileNotFoundError: there is no such clone.
    """
    path = clone / script
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: clone https://github.com/{'/'.join(clone.parts[-2:])} into {clone}"
        )
    namespace = {"__name__": path.stem}
    with importing_from(clone):
        for node in ast.parse(path.read_text()).body:
            code = compile(ast.Module([node], []), str(path), "exec")
            if isinstance(node, ast.Import | ast.ImportFrom):
                with suppress(ImportError):
                    exec(code, namespace)
                namespace |= names
            elif isinstance(node, DEFINITIONS):
                exec(code, namespace)
    return SimpleNamespace(**namespace)


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Search modules in `folder` first during the context; unload them afterwards."""
    names = {path.stem for path in folder.iterdir()}

    def take_out() -> dict[str, Any]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in names}

    others = take_out()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        take_out()
        sys.modules.update(others)


# Objects that the repositories import from timm under paths that have changed since.
TIMM = {
    "DropPath": timm.layers.DropPath,
    "to_2tuple": timm.layers.to_2tuple,
    "trunc_normal_": timm.layers.trunc_normal_,
    "register_model": lambda function: function,
}


def start_one_process() -> None:
    """Initialise torch.distributed with one process: the originals reduce over processes always."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
