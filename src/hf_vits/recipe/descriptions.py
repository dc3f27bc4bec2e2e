"""Descriptions of a recipe's keys, read from the docstrings of its dataclasses."""

import inspect
import re


def field_descriptions(section: type) -> dict[str, str]:
    """Return {field: description} from the entries `field: description` of a recipe dataclass's docstring.

    An entry begins with its first line, not indented; its further lines are indented. Sentences of a description may
    say what an empty value (None) means. Paragraphs without entries are about the section as a whole.
    """
    descriptions: dict[str, str] = {}
    current = None
    for line in inspect.getdoc(section).splitlines()[1:]:
        if entry := re.match(r"([a-z]\w*): (.+)", line):
            current, text = entry.groups()
            descriptions[current] = text
        elif current and line.startswith(" "):
            descriptions[current] += f" {line.strip()}"
        else:
            current = None
    return descriptions
