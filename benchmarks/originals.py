"""The authors' own code beside ours: taken from clones on disk, never copied, and run as it is.

The repositories' modules have names like `utils`, `models` or `datasets`, which clash with one another's and with
libraries'; their training scripts import what a step does not need and may not be there. So a script's functions and
classes are taken out of it, and what it imports from its own repository is forgotten again.
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
    """Functions and classes of a script, which is not run otherwise; of its imports, those that work here.

    Args:
        clone: root of the repository; the script imports its other modules from the script's folder and from there.
        names: what the script's code finds in place of what it imports under these names.

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
    """While entered, `folder` is where modules are looked for first; those found there are forgotten afterwards."""
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


# What the repositories imported from timm at their time, where today's has moved it.
TIMM = {
    "DropPath": timm.layers.DropPath,
    "to_2tuple": timm.layers.to_2tuple,
    "trunc_normal_": timm.layers.trunc_normal_,
    "register_model": lambda function: function,
}


def start_one_process() -> None:
    """The originals reduce over processes, be there only one."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
