"""Kinds of values that several fields of a recipe have, such as durations and fractions, and their checks."""

import math
import re

from huggingface_hub.dataclasses import as_validated_field

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*(epochs?|steps?)\s*")
_LONGEST = 1e12  # epochs or steps, so that numbers of steps stay exact
# numpy takes no other random seeds.
HIGHEST_SEED = 2**32 - 1


def steps_of(duration: str, steps_per_epoch: int) -> int:
    """Return the optimizer steps in a duration such as `"300 epochs"`, `"0.5 epochs"` or `"10000 steps"`."""
    amount, unit = _DURATION.fullmatch(duration).groups()
    return round(float(amount) * (steps_per_epoch if unit.startswith("epoch") else 1))


def is_in_epochs(value: object) -> bool:
    """Return whether a value is a duration in epochs."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return found is not None and found[2].startswith("epoch")


def is_longer(duration: str, other: str) -> bool:
    """Return whether a duration is longer than another one in the same unit; False where the units differ."""
    found, other_found = (_DURATION.fullmatch(text) for text in (duration, other))
    if found is None or other_found is None or found[2].rstrip("s") != other_found[2].rstrip("s"):
        return False
    return float(found[1]) > float(other_found[1])


@as_validated_field
def duration(value: str | None):
    if value is None:
        return
    found = _DURATION.fullmatch(value)
    if not found:
        raise ValueError(f"{value!r} is no duration; write a number and its unit, as in '300 epochs' or '10000 steps'")
    if float(found[1]) > _LONGEST:
        raise ValueError(f"a duration is at most {_LONGEST:g} epochs or steps, got {value!r}")


@as_validated_field
def fraction(value: float | None):
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"must lie between 0 and 1, got {value}")


@as_validated_field
def not_negative(value: float | None):
    if value is not None and not 0 <= value < math.inf:
        raise ValueError(f"must {'not be negative' if value < 0 else 'be finite'}, got {value}")


@as_validated_field
def positive(value: float | None):
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"must be {'positive' if value <= 0 else 'finite'}, got {value}")


@as_validated_field
def seed(value: int):
    if not 0 <= value <= HIGHEST_SEED:
        raise ValueError(f"must {'not be negative' if value < 0 else f'be at most {HIGHEST_SEED}'}, got {value}")


def check_range(name: str, values: list[float], lowest: float = -math.inf, highest: float = math.inf) -> None:
    """Raise ValueError unless `values` is [low, high], both finite and from `lowest` to `highest`."""
    if len(values) != 2 or not -math.inf < values[0] <= values[1] < math.inf:
        raise ValueError(f"{name} is [lowest, highest], got {values}")
    if values[0] < lowest or values[1] > highest:
        raise ValueError(f"{name} must lie between {lowest:g} and {highest:g}, got {values}")
