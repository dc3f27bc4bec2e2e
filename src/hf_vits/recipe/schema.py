"""The JSON schema of recipes, for editors: keys, types, defaults and descriptions, from the dataclasses.

`python -m hf_vits.recipe.schema` writes it beside the recipes.
"""

import dataclasses
import json
import types
import typing
from typing import Any

from .descriptions import field_descriptions
from .library import SCHEMA, folder
from .recipe import Recipe

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def schema() -> dict[str, Any]:
    """Return the schema of a whole recipe."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Recipe of hf_vits", **_section(Recipe)}


def written() -> str:
    """Return the content of the schema's file."""
    return json.dumps(schema(), indent=1) + "\n"


def _section(cls: type) -> dict[str, Any]:
    hints, descriptions = typing.get_type_hints(cls), field_descriptions(cls)
    properties, required = {}, []
    for field in dataclasses.fields(cls):
        entry = _typed(hints[field.name]) | {"description": descriptions[field.name]}
        if field.default is not dataclasses.MISSING:
            entry["default"] = field.default
        elif field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        properties[field.name] = entry
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _typed(hint: Any) -> dict[str, Any]:
    """Return the schema of a field's type."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return {"anyOf": [_typed(member) for member in typing.get_args(hint)]}
    if dataclasses.is_dataclass(hint):
        return _section(typing.cast(type, hint))
    if hint is type(None):
        return {"type": "null"}
    if hint is str:  # numbers are read as text
        return {"type": ["string", "number"]}
    if hint is float:  # 1.0e-3, and 1e-3, which YAML 1.1 reads as text
        return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[-+]?[0-9.]+[eE][-+]?[0-9]+$"}]}
    if hint in _TYPES:
        return {"type": _TYPES[hint]}
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(members)}
    if origin is list:
        return {"type": "array", "items": _typed(members[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _typed(members[1])}
    return {}


if __name__ == "__main__":
    (folder() / SCHEMA).write_text(written(), encoding="utf-8")
