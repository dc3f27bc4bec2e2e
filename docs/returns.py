"""A griffe extension: what `Returns:` says is text, also where it has a colon, as in `(batch, channels): features`."""

import re

import griffe

SECTION = re.compile(r"^(Returns|Yields):\n(\s+)(?=[^\n]*:)", flags=re.MULTILINE)


class ReturnsAreText(griffe.Extension):
    """Keep griffe from taking the text before a colon for a type, which signatures give already."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Begin such a section with an empty type."""
        if obj.docstring:
            obj.docstring.value = SECTION.sub(r"\1:\n\2: ", obj.docstring.value)
