"""Checkpoints that a library saves of an architecture whose originals a module of `systems` reads."""

import importlib
import re
from collections.abc import Mapping
from types import ModuleType

import torch
from transformers import PreTrainedModel


class Layout:
    """The keys under which a library saves one architecture. It has the interface of a module of `systems`.

    A subclass overrides `rename`, if its keys can become the keys of the system's own checkpoints, or else `prepare`,
    `infer` and `transforms`.

    Attributes:
        library: name of the library.
        system: name of the system.
        KEYS: regular expressions; a checkpoint is of this layout if each matches one of its keys.
        NOT_KEYS: regular expressions, none of which may match a key.
        FIXED: configuration fields that all models of the library have, whatever the variant of the system.
        VARIANTS: {the library's name: configuration fields}; the order is by how common a variant is.
    """

    library: str
    system: str
    KEYS: tuple[str, ...]
    NOT_KEYS: tuple[str, ...] = ()
    FIXED: dict = {}
    VARIANTS: dict[str, dict] = {}

    @property
    def name(self) -> str:
        return f"{self.library}'s {self.system}"

    @property
    def host(self) -> ModuleType:
        """The system's module."""
        return importlib.import_module(f"..systems.{self.system}", __package__)

    def recognises(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Return whether tensors have the keys of this layout."""
        return all(has_key(tensors, pattern) for pattern in self.KEYS) and not any(
            has_key(tensors, pattern) for pattern in self.NOT_KEYS
        )

    def check(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Raise ValueError with the reason if the library's model computes what no model of ours does."""

    def infer_original(self, tensors: Mapping[str, torch.Tensor]) -> dict:
        """Return configuration fields that the tensors record before they are renamed."""
        return {}

    def rename(self, tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
        """Return the tensors under keys of the system's own checkpoints."""
        return tensors

    def model_class(self, fields: dict) -> type[PreTrainedModel]:
        return self.host.model_class(fields)

    def prepare(self, tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
        return self.host.prepare(self.rename(tensors, fields), fields)

    def infer(self, tensors: dict[str, torch.Tensor], fields: dict) -> dict:
        return self.host.infer(tensors, fields)

    def transforms(self, config) -> list:
        return self.host.transforms(config)

    def processor(self, variant: str, config):
        return self.host.processor(variant, config)

    def refuse(self, reason: str) -> None:
        raise ValueError(f"this checkpoint is {self.name}, and hf_vits has no such model: {reason}")


def has_key(tensors: Mapping[str, torch.Tensor], pattern: str) -> bool:
    """Return whether the regular expression matches the beginning of a key."""
    compiled = re.compile(pattern)
    return any(compiled.match(key) for key in tensors)


def renamed(tensors: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Return the tensors with keys changed by {regular expression: replacement}, applied one after the other."""
    compiled = [(re.compile(old), new) for old, new in names.items()]
    moved = {}
    for key, tensor in tensors.items():
        for old, new in compiled:
            key = old.sub(new, key)
        moved[key] = tensor
    return moved
