"""Golden cases: what an original's own code computed on weights that anyone can regenerate.

A case is `<name>.json` and `<name>.safetensors` in a folder named after its system. It holds no weights: every tensor
of the checkpoint is a function of its key and shape (`fill`), every input of a seed and a shape (`draw`), unless it is
stored. The values come from numpy's frozen legacy generator.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def draw(seed: int, shape: list[int], scale: float = 1.0) -> np.ndarray:
    return (np.random.RandomState(seed).standard_normal(tuple(shape)) * scale).astype(np.float32)


def fill(key: str, shape: list[int]) -> np.ndarray:
    """The value of checkpoint tensor `key`; the last part of the name sets the scale, so that activations survive."""
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    leaf = re.split(r"[./]", key)[-1]
    if leaf == "running_var":
        values = 0.5 + np.abs(noise)
    elif leaf == "running_mean" or "bias" in leaf:
        values = 0.1 * noise
    elif len(shape) <= 1:
        values = 1 + 0.1 * noise
    elif "weight" in leaf:
        values = noise / np.sqrt(np.prod(shape[1:]))
    elif "kernel" in leaf:
        values = noise / np.sqrt(np.prod(shape[:-1]))
    else:
        values = 0.2 * noise
    return np.asarray(values, dtype=np.float32)


class Config(Mapping):
    """A case's configuration, the fields of the original's constructor, which records what has been read of it.

    Parts that are mappings record for themselves. A list counts as read when anything of it is.
    """

    def __init__(self, fields: dict):
        self._fields = {
            name: Config(value) if isinstance(value, dict) and value else value for name, value in fields.items()
        }
        self._read: set[str] = set()

    def __getitem__(self, name: str):
        if name in self._fields:
            self._read.add(name)
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def renamed(self, names: dict[str, str]) -> dict:
        """Return {our name: value} of the fields that are there, by {the original's name: our name}."""
        return {ours: self[theirs] for theirs, ours in names.items() if theirs in self}

    def check(self, **built) -> None:
        """Read the named fields that are there; AssertionError naming the first whose value is not the one built."""
        for name, value in built.items():
            if name in self:
                value = list(value) if isinstance(value, tuple) else value
                assert self[name] == value, f"the case has {name}={self[name]!r}, the model {value!r}"

    def unused(self, *names: str) -> None:
        """Declare fields that change nothing with the other options of this case."""
        self._read.update(names)

    def unread(self) -> list[str]:
        """Return the dotted names of the fields that nothing has read."""
        unread = []
        for name, value in self._fields.items():
            if name not in self._read:
                unread.append(name)
            elif isinstance(value, Config):
                unread += [f"{name}.{part}" for part in value.unread()]
        return unread


@dataclass
class Case:
    """A golden case, its description read, its tensors not yet.

    `meta` is the whole .json: variant, config, parameters, fp32_noise, cuts, notes, source and commit among it.
    """

    path: Path
    meta: dict = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> "Case":
        return cls(path, json.loads(path.read_text()))

    @property
    def system(self) -> str:
        return self.path.parent.name

    @cached_property
    def config(self) -> Config:
        return Config(self.meta["config"])

    def stored(self, group: str) -> dict[str, np.ndarray]:
        file = self.path.with_suffix(".safetensors")
        tensors = load_file(file) if file.exists() else {}
        return {key.removeprefix(f"{group}/"): v for key, v in tensors.items() if key.startswith(f"{group}/")}

    def checkpoint(self) -> dict[str, np.ndarray]:
        """The original's checkpoint under its own keys."""
        kept = self.stored("kept")
        tensors = {
            key: kept[key].reshape(shape) if key in kept else fill(key, shape)
            for key, shape in self.meta["keys"].items()
        }
        return tensors | {alias: tensors[key] for alias, key in self.meta.get("aliases", {}).items()}

    def inputs(self) -> dict[str, np.ndarray]:
        drawn = {
            name: draw(spec["seed"], spec["shape"], spec.get("scale", 1.0))
            for name, spec in self.meta["inputs"].items()
            if "seed" in spec
        }
        return drawn | self.stored("input")

    def outputs(self) -> dict[str, np.ndarray]:
        """Return the original's outputs; those listed in `cuts` are only the first part of the whole."""
        return {name: v.reshape(self.meta["outputs"][name]["shape"]) for name, v in self.stored("output").items()}

    def part(self, name: str, values: np.ndarray) -> np.ndarray:
        """The part of a whole output that the case holds."""
        cut = self.meta.get("cuts", {}).get(name)
        if cut is None:
            return values
        assert list(values.shape) == cut["full_shape"], f"{name}: shape {values.shape}, golden {cut['full_shape']}"
        return values[tuple(slice(*bounds) for bounds in cut["slice"])]

    def tolerance(self, name: str, golden: np.ndarray) -> float:
        """Absolute: 20 times the original's float32 error, at least 1e-5, times the spread where that exceeds 1."""
        cut = self.meta.get("cuts", {}).get(name)
        spread = cut["std"] if cut else float(golden.std())
        return max(1e-5, 20 * self.meta.get("fp32_noise", {}).get(name, 0.0)) * max(1.0, spread)
