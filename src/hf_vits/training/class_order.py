"""Classes by name: whether a trained head knows the classes of the data, in which order."""

import re
from collections.abc import Mapping, Sequence

_UNNAMED = re.compile(r"LABEL_\d+")  # transformers' names of classes that nobody named


def class_order(known: Mapping[int, str], wanted: Sequence[str]) -> list[int] | None:
    """Return for each wanted class the position at which a head knows it, or None if names cannot be compared.

    They cannot if the classes of either side have no names, or if no name occurs on both sides, as with ImageNet's
    English names and its folders' WordNet ids. Classes then correspond by position.

    Args:
        known: id2label of the trained head.
        wanted: names of the data's classes.

    Raises:
        ValueError: some names occur on both sides, and others do not.
    """
    names = [known[index] for index in sorted(known)]
    if all(map(_UNNAMED.fullmatch, names)) or all(map(_UNNAMED.fullmatch, wanted)):
        return None
    if not set(names) & set(wanted):
        return None
    if len(set(names)) < len(names) or set(names) != set(wanted):
        missing, extra = (sorted(set(a) - set(b)) for a, b in ((wanted, names), (names, wanted)))
        raise ValueError(
            f"{len(missing)} of the data's {len(wanted)} classes are unknown to it (first: {missing[:5]}), and it "
            f"knows {len(extra)} others (first: {extra[:5]})"
        )
    positions = {name: index for index, name in enumerate(names)}
    return [positions[name] for name in wanted]
