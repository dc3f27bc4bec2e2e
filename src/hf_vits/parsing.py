"""YAML that people wrote, read with errors that name where it came from."""

from collections.abc import Hashable
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

# Nested lists and mappings of a YAML document. Recipes have a handful of levels and a few hundred values.
MOST_LEVELS, MOST_VALUES = 50, 100_000
# Digits of whole numbers; larger ones fit into no float.
MOST_DIGITS = 300


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that refuses a key given twice, of which it would take the last, and deep nesting early."""

    level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.level += 1
        if self.level > MOST_LEVELS:
            place = self.peek_event().start_mark
            raise ComposerError(None, None, f"more than {MOST_LEVELS} levels", place)
        node = super().compose_node(parent, index)
        self.level -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # the keys of another mapping, which may be given again
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise ConstructorError(None, None, f"key {key!r} twice", key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str | bytes, name: str) -> Any:
    """Return what a YAML text says.

    name: of the text, for messages.

    Raises ValueError for text that is not YAML, has a key twice, or does not pass `check_plain`.
    """
    try:
        parsed = yaml.load(text if isinstance(text, str) else text.decode("utf-8"), _Loader)
    except Exception as error:  # PyYAML raises many types, such as KeyError for !!bool x
        reason = str(error) if isinstance(error, yaml.YAMLError | ValueError) else "a tag that does not suit its value"
        raise ValueError(f"{name} is not valid YAML: {reason}") from error
    check_plain(parsed, name)
    return parsed


def check_plain(values: Any, name: str) -> None:
    """Raise ValueError for nested lists and dicts that are too deep, too many, or hold numbers of too many digits.

    Aliases count as often as they are used, so that a text of a few lines cannot stand for gigabytes, nor hold itself.
    """
    pending, count = [(values, 1)], 0
    while pending:
        value, level = pending.pop()
        count += 1
        if level > MOST_LEVELS or count > MOST_VALUES:
            raise ValueError(f"{name} has more than {MOST_LEVELS} levels or {MOST_VALUES} values, aliases counted")
        if isinstance(value, int) and value.bit_length() > MOST_DIGITS * 3.3:
            raise ValueError(f"{name} has a whole number of more than {MOST_DIGITS} digits")
        if isinstance(value, dict):
            pending += [(part, level + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple | set):
            pending += [(part, level + 1) for part in value]
