"""The runs of claims, one after the other within a budget of time; each is written to the results when it is done."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

import hf_vits
from hf_vits.folders import locked
from hf_vits.recipe import flat, load_recipe
from hf_vits.training import train
from hf_vits.training.report.output import HISTORY
from hf_vits.training.run import build

from .cost import measure_cost
from .definition import FOLDERS, Claim, Run, load_claim, runs_of, with_texts
from .results import Results, Wanted, read_results, write_results
from .verdict import verdict


def run_claims(names: Sequence[str], results: Path, runs: Path, minutes: float, claims: Path | None = None) -> None:
    """Run what is missing of claims until the time is used up; where one fails, the others still run.

    A run that is started is finished. What was killed goes on when the claims are run again.

    Args:
        names: of the claims, in their order.
        results: folder of the results, NAME.json for each claim.
        runs: folder of the training runs.
        minutes: no run is started that would probably end later.
        claims: folder of the claims' YAML files. None: the package's.

    Raises:
        FileNotFoundError: there is no such claim.
        ValueError: a claim, or a file of results, is wrong.
        RuntimeError: a claim failed, because of its recipes or since another process runs it.
    """
    end = time.monotonic() + 60 * minutes
    standings(names, results, claims)  # a wrong file is an error before hours of runs
    failed = []
    for name in names:
        try:
            with locked(runs / name):
                run_claim(name, load_claim(name, claims), results / f"{name}.json", runs / name, end)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
            tqdm.write(failed[-1], file=sys.stderr)
    if failed:
        raise RuntimeError("; ".join(failed))


def run_claim(name: str, claim: Claim, path: Path, folder: Path, end: float) -> None:
    """Run what is missing of a claim until the clock shows `end`."""
    results = read_results(claim, path)
    if results.stale:
        tqdm.write(f"{name}: {results.stale} runs of an earlier definition are run again", file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=number_of_runs(claim), initial=len(results.runs), desc=name, unit="run") as bar:
        while remaining := results.remaining():
            wanted = remaining[0]
            if time.monotonic() + 60 * expected_minutes(results) > end:
                break
            bar.set_postfix_str(f"{wanted.side}, seed {wanted.seed}")
            results.add(execute(claim, wanted, folder))
            write_results(name, results, path)
            bar.update()


def expected_minutes(results: Results) -> float:
    """Return how long the next run will probably take: the mean of those that are done; 0 where none is."""
    taken = [run["minutes"] for run in results.runs]
    return sum(taken) / len(taken) if taken else 0.0


def standings(names: Sequence[str], folder: Path, claims: Path | None = None) -> list[dict[str, Any]]:
    """Return for each claim its verdict, the number of finished runs and of all, and the minutes that they took."""
    rows = []
    for name in names:
        claim = load_claim(name, claims)
        results = read_results(claim, folder / f"{name}.json")
        minutes = round(sum(run["minutes"] for run in results.runs), 1)
        row = {"claim": name, "title": claim.title, "verdict": verdict(results), "runs": len(results.runs)}
        rows.append(row | {"of": number_of_runs(claim), "minutes": minutes})
    return rows


def number_of_runs(claim: Claim) -> int:
    """Return how many runs decide a claim, those of the search included."""
    return sum(len(claim.rates_of(side)) + len(claim.seeds) - 1 for side in claim.sides)


def execute(claim: Claim, wanted: Wanted, folder: Path) -> dict[str, Any]:
    """Run a side with its earlier runs and return its entry for the results.

    Training that diverges is a result too: the entry then has a `problem`.
    """
    started = time.monotonic()
    runs = runs_of(claim, *wanted)
    entry: dict[str, Any] = {**wanted._asdict(), "key": runs[-1].key, "results": {}}
    try:
        for run in runs[:-1]:
            start(run, folder)
        entry["results"] = measure_cost(values_in(runs[-1], folder)) if claim.is_cost else start(runs[-1], folder)
    except FloatingPointError as error:
        entry["problem"] = str(error)
    if claim.curve is not None:
        history = (folder / runs[-1].key / HISTORY).read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in history]
        entry["curve"] = [[row["step"], row[claim.curve]] for row in entries if claim.curve in row]
    return entry | {"minutes": round((time.monotonic() - started) / 60, 2)} | circumstances()


def start(run: Run, folder: Path) -> dict[str, float]:
    """Train, or only build and measure, the model of a run and return its numbers as {name: number}."""
    values = values_in(run, folder)
    if run.train:
        results = train(values)
    else:
        recipe = load_recipe(values)
        built = build(recipe)
        results = built.task.evaluate(built.trainer, built.processor, built.splits)[0]
    return {name: number for name, number in flat(results).items() if isinstance(number, int | float)}


def values_in(run: Run, folder: Path) -> dict[str, Any]:
    """Return the recipe of a run whose folders are in `folder`."""
    values = with_texts(run.values, lambda text: text.replace(FOLDERS, f"{folder}/"))
    return {**values, "output": {"directory": str(folder / run.key)}}


def circumstances() -> dict[str, Any]:
    """Return where and when a run took place."""
    threads = torch.get_num_threads()
    on_cpu = f"cpu, {threads} thread{'s' if threads > 1 else ''}"
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else on_cpu,
        "versions": {
            "hf_vits": hf_vits.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def commit() -> str | None:
    """Return the commit of the checkout that runs, with a + where its code or recipes differ; None outside of one."""
    git = ["git", "-C", str(Path(hf_vits.__file__).parent)]
    changed = ["status", "--porcelain", "--untracked-files=no", "--", ":/src", ":/conversion", ":/recipes"]
    try:
        found, differs = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True).stdout.strip()
            for command in (["rev-parse", "--short=10", "HEAD"], changed)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{found}+" if differs else found
