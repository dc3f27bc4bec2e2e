"""A claim: the YAML file that says what is compared, read and checked, and the runs that decide it."""

import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.dataclasses import strict

from hf_vits.parsing import parse_yaml
from hf_vits.recipe.fields import not_negative, positive
from hf_vits.recipe.loading import build_section, read_values, with_value

FEWEST_SEEDS = 3
RATE = "optimizer.learning_rate"
COST = "cost."
FOLDERS = "{folders}/"  # stands for the folder of all runs until they are started
_EARLIER = re.compile(r"\$\{([\w-]+)\}")


@strict
@dataclass(kw_only=True)
class RunDefinition:
    """A recipe with changes.

    recipe: file or name of the recipe. None: the claim's.
    changes: {key of the recipe, such as train.length: value}, after the claim's changes. `${NAME}` in a text is the
        output folder of an earlier run.
    train: whether the model is trained. If not, it is measured as it is.
    measure: number that is compared, where it is another than the claim's, such as that of raw pixels.
    """

    recipe: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    train: bool = True
    measure: str | None = None


@strict
@dataclass(kw_only=True)
class Claim:
    """A claim of a paper and the comparison that decides whether it holds here.

    title: a few words.
    claim: what the paper claims, in a sentence.
    source: paper, and the section or table in it.
    sides: {name: run} of what is compared, the better ones by the claim first.
    measure: number that is compared, as in results.json, such as test.accuracy; or cost.forward_seconds,
        cost.step_seconds (of computing for one input, in evaluation and in training) or cost.parameters.
    minutes: about how long all runs take on one CPU core.
    recipe: recipe of the sides that name none. None: each names one.
    changes: changes to the recipes of all sides.
    earlier: {name: run} of what comes before a side whose changes mention `${NAME}`, such as a teacher.
    rates: learning rates that are tried for every side, on validation data and with the first seed. A side whose
        changes set optimizer.learning_rate, and a side that is not trained, has no search. Empty: the recipes' own.
    searched: earlier run whose learning rate is searched. None: the side's own.
    seeds: random seeds, three or more; of costs, rounds of measurement.
    seeded: keys of the recipe that a seed sets.
    compare: [better side, other side] of every comparison. Empty: each side and the next one.
    lower_is_better: whether a lower number is better.
    within: for a claim that sides do not differ: largest relative difference from the other side that is none. None:
        the better side must be better.
    curve: metric of the evaluations during training, such as eval_knn_accuracy, for a claim about speed. Compared is
        the number of steps until a side reaches what the last side has at its end with the same seed. None: `measure`.
    remark: what to know about the comparison, or, where the claim does not hold, what was looked at.
    """

    title: str
    claim: str
    source: str
    sides: dict[str, RunDefinition]
    measure: str
    minutes: float = positive()
    recipe: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    earlier: dict[str, RunDefinition] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    searched: str | None = None
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    seeded: list[str] = field(default_factory=lambda: ["train.seed"])
    compare: list[list[str]] = field(default_factory=list)
    lower_is_better: bool = False
    within: float | None = not_negative(default=None)
    curve: str | None = None
    remark: str | None = None

    def validate_seeds(self):
        if len(set(self.seeds)) < FEWEST_SEEDS:
            raise ValueError(f"seeds: a verdict needs {FEWEST_SEEDS} different seeds or more, got {self.seeds}")

    def validate_sides(self):
        if len(self.sides) < 2:
            raise ValueError(f"sides: a comparison needs two or more, got {list(self.sides)}")
        for pair in self.compare:
            if len(pair) != 2 or not set(pair) <= set(self.sides):
                raise ValueError(f"compare: expected pairs of {', '.join(self.sides)}, got {pair}")
        for name, run in (*self.sides.items(), *self.earlier.items()):
            if run.recipe is None and self.recipe is None:
                raise ValueError(f"{name} names no recipe, and there is no recipe for all")

    def validate_earlier(self):
        if self.searched is not None and self.searched not in self.earlier:
            raise ValueError(f"searched: expected one of earlier ({', '.join(self.earlier)}), got {self.searched}")
        for name in self.sides:
            for _ in earlier_runs(self, name):
                pass

    @property
    def is_cost(self) -> bool:
        return self.measure.startswith(COST)

    @property
    def pairs(self) -> list[list[str]]:
        """Comparisons: (better side, other side)."""
        names = list(self.sides)
        return self.compare or [list(pair) for pair in itertools.pairwise(names)]

    def rates_of(self, side: str) -> list[float | None]:
        """Return the learning rates to try for a side; [None] where its recipe decides."""
        run = self.sides[side] if self.searched is None else self.earlier[self.searched]
        mentions = self.searched is None or self.searched in earlier_runs(self, side)
        if self.is_cost or not self.rates or not mentions or not run.train or RATE in run.changes:
            return [None]
        return list(self.rates)


def folder() -> Path:
    """Return the folder of the claims: inside an installed package, or beside the sources of a checkout."""
    here = Path(__file__).parent
    return here if any(here.glob("*.yaml")) else here.parents[2] / "claims"


def names(directory: Path | None = None) -> list[str]:
    """Return the names of all claims in alphabetical order."""
    return sorted(path.stem for path in (directory or folder()).glob("*.yaml"))


def load_claim(name: str, directory: Path | None = None) -> Claim:
    """Read a claim by its name, by default of the package.

    Raises:
        FileNotFoundError: there is no such claim; the error names similar ones.
        ValueError: a key does not exist, or a value is not allowed.
    """
    path = (directory or folder()) / f"{name}.yaml"
    if not path.is_file():
        known = names(directory)
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
        raise FileNotFoundError(f"there is no claim {name!r}; {hint}")
    return build_section(Claim, parse_yaml(path.read_bytes(), path.name), path.name)


def earlier_runs(claim: Claim, name: str) -> list[str]:
    """Return the names of the earlier runs that a side needs, in the order in which they run.

    Raises ValueError where a run is not defined, or needs itself.
    """
    found: list[str] = []

    def visit(mentioned: str, above: tuple[str, ...]) -> None:
        if mentioned not in claim.earlier or mentioned in above:
            raise ValueError(f"${{{mentioned}}}: expected a run of earlier that does not need itself")
        needed(claim.earlier[mentioned], (*above, mentioned))
        if mentioned not in found:
            found.append(mentioned)

    def needed(run: RunDefinition, above: tuple[str, ...]) -> None:
        for text in texts(run.changes):
            for mentioned in _EARLIER.findall(text):
                visit(mentioned, above)

    needed(claim.sides[name], ())
    return found


class Run(NamedTuple):
    """One run as it is started.

    Attributes:
        key: hash of everything that decides what it computes; the name of its output folder.
        values: content of its recipe; folders of earlier runs start with `FOLDERS`.
        train: whether the model is trained.
    """

    key: str
    values: dict[str, Any]
    train: bool


def runs_of(claim: Claim, side: str, seed: int, rate: float | None) -> list[Run]:
    """Return the runs of a side with a seed and a learning rate: those that come before, and its own as the last."""
    runs: dict[str, Run] = {}
    for name in (*earlier_runs(claim, side), None):
        definition = claim.sides[side] if name is None else claim.earlier[name]
        recipe: Any = definition.recipe or claim.recipe
        common = claim.changes if definition.recipe is None else {}
        changes = {**common, **definition.changes, **dict.fromkeys(claim.seeded, seed)}
        if rate is not None and claim.searched == name:
            changes[RATE] = rate
        values = read_values(recipe)
        for key, value in changes.items():
            values = with_value(values, key, value, recipe)
        values = with_texts(values, lambda text: _EARLIER.sub(lambda found: FOLDERS + runs[found[1]].key, text))
        values["output"] = {}
        facts = [values, definition.train, *([] if name else [claim.is_cost, claim.curve])]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        runs[name or ""] = Run(key, values, definition.train)
    return list(runs.values())


def texts(values: Any) -> Iterator[str]:
    """Yield all texts in nested lists and dicts, keys left out."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from texts(value)


def with_texts(values: Any, change: Callable[[str], str]) -> Any:
    """Return nested lists and dicts with all texts changed, keys left out."""
    if isinstance(values, str):
        return change(values)
    if isinstance(values, dict):
        return {key: with_texts(value, change) for key, value in values.items()}
    return [with_texts(value, change) for value in values] if isinstance(values, list) else values
