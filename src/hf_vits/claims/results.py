"""Results of a claim's runs: the file that keeps them, and what is still to run."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from hf_vits.files import read_json, write_text

from .definition import Claim, runs_of

# What a run in the file has; other fields say where and when it ran.
_FIELDS = {"key": str, "side": str, "seed": int, "rate": float | None, "results": dict, "minutes": float}


class Wanted(NamedTuple):
    """A run that a claim needs."""

    side: str
    seed: int
    rate: float | None

    def key(self, claim: Claim) -> str:
        return runs_of(claim, *self)[-1].key


class Results:
    """Finished runs of a claim.

    Attributes:
        runs: entries of the file, each a dict: side, seed, rate, key, results ({name: number}), curve (pairs of step
            and number), minutes, and where and when it ran; `problem` says why a run has no results.
        stale: number of runs of an earlier definition, which are left out.
    """

    def __init__(self, claim: Claim, runs: list[dict[str, Any]]):
        self.claim = claim
        possible = {
            wanted: wanted.key(claim)
            for side in claim.sides
            for seed in claim.seeds
            for rate in claim.rates_of(side)
            for wanted in [Wanted(side, seed, rate)]
        }
        places = [(Wanted(run["side"], run["seed"], run["rate"]), run) for run in runs]
        self._found = {wanted: run for wanted, run in places if possible.get(wanted) == run["key"]}
        self.runs = list(self._found.values())
        self.stale = len(runs) - len(self.runs)

    def add(self, run: dict[str, Any]) -> None:
        self._found[Wanted(run["side"], run["seed"], run["rate"])] = run
        self.runs.append(run)

    def number(self, wanted: Wanted, split: str | None = None) -> float | None:
        """Return what a run measured, on another split than the claim's if named; None where it has no result."""
        run = self._found.get(wanted)
        if run is None or run.get("problem"):
            return None
        name = self.claim.sides[wanted.side].measure or self.claim.measure
        if split is not None:
            name = ".".join([split, *name.split(".")[1:]])
        if name not in run["results"]:
            hint = " (the recipe needs a validation split of its own)" if split else ""
            raise ValueError(f"measure: runs have no {name}{hint}, only {', '.join(run['results'])}")
        return run["results"][name]

    def search(self, side: str) -> dict[float | None, float | None]:
        """Return {learning rate: number on validation data} of the tried ones; None where the run failed.

        It is empty where there is no choice.
        """
        rates = self.claim.rates_of(side)
        trials = [Wanted(side, self.claim.seeds[0], rate) for rate in rates] if len(rates) > 1 else []
        return {trial.rate: self.number(trial, "validation") for trial in trials if trial in self._found}

    def rate(self, side: str) -> float | None:
        """Return the learning rate with the best number on validation data; the first one if all runs failed."""
        rates = self.claim.rates_of(side)
        if len(rates) == 1:
            return rates[0]
        found = {rate: number for rate, number in self.search(side).items() if number is not None}
        best = min if self.claim.lower_is_better else max
        return best(found, key=lambda rate: found[rate]) if found else rates[0]

    def remaining(self) -> list[Wanted]:
        """Return the runs that are missing, in the order in which they run; later ones depend on the search.

        Sides take turns, so that what changes on the machine changes for all.
        """
        claim, first = self.claim, self.claim.seeds[0]
        trials = [Wanted(side, first, rate) for side in claim.sides for rate in claim.rates_of(side)]
        if missing := [trial for trial in trials if trial not in self._found]:
            return missing
        chosen = [Wanted(side, seed, self.rate(side)) for seed in claim.seeds for side in claim.sides]
        return [run for run in chosen if run not in self._found]

    def values(self, side: str) -> list[float | None]:
        """Return what is compared, of each seed; None where there is no result.

        With `curve` it is the number of steps until the side reaches the last side's end, all of its steps if it never
        does.
        """
        wanted = [Wanted(side, seed, self.rate(side)) for seed in self.claim.seeds]
        if self.claim.curve is None:
            return [self.number(run) for run in wanted]
        last = list(self.claim.sides)[-1]
        goals = [self.curve(Wanted(last, seed, self.rate(last))) for seed in self.claim.seeds]
        pairs = zip(map(self.curve, wanted), goals, strict=True)
        return [steps_to(curve, goal[-1][1]) if curve and goal else None for curve, goal in pairs]

    def curve(self, wanted: Wanted) -> list[list[float]]:
        """Return [step, number] of the evaluations during a run; empty where it has no result."""
        return self._found.get(wanted, {}).get("curve") or []

    def curves(self, side: str) -> list[list[list[float]]]:
        """Return the curve of each seed."""
        return [self.curve(Wanted(side, seed, self.rate(side))) for seed in self.claim.seeds]


def steps_to(curve: list[list[float]], goal: float) -> float:
    """Return the first step at which a curve of [step, number] reaches `goal`, by lines between its points.

    A curve that never reaches it counts as its last step.
    """
    before: list[float] | None = None
    for step, number in curve:
        if number >= goal:
            if before is None or number == before[1]:
                return step
            return before[0] + (step - before[0]) * (goal - before[1]) / (number - before[1])
        before = [step, number]
    return curve[-1][0]


def read_results(claim: Claim, path: Path) -> Results:
    """Read the results of a claim; without a file there are none.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return Results(claim, [])
    runs = read_json(path).get("runs")
    if not isinstance(runs, list) or not all(_is_run(run) for run in runs):
        raise ValueError(f"{path} is damaged: expected runs with {', '.join(_FIELDS)}; restore it, or remove it")
    return Results(claim, runs)


def write_results(name: str, results: Results, path: Path) -> None:
    """Write the results of a claim, a run per line, whole or not at all."""
    lines = ",\n".join(json.dumps(run) for run in results.runs)
    write_text(path, f'{{"claim": {json.dumps(name)}, "runs": [\n{lines}\n]}}\n')


def _is_run(run: Any) -> bool:
    return isinstance(run, dict) and all(name in run and isinstance(run[name], kind) for name, kind in _FIELDS.items())
