"""The page of claims as Markdown, and its pictures, from definitions and results alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hf_vits.figures.claims import draw_curves_of_sides, draw_sides
from hf_vits.hub.sections import table

from .definition import RATE, Claim, load_claim, names
from .results import Results, read_results
from .verdict import CRITERION, HELD, NOT_HELD, NOT_RUN, UNDECIDABLE, comparisons, verdict


def page(folder: Path, pictures: str) -> str:
    """Return the page of all claims of a folder: a table of verdicts, then what was run and found for each.

    Args:
        folder: of the claims, with their results in `results/`.
        pictures: where the pictures lie, as the page links to them: NAME.png of each claim whose runs are finished.
    """
    found = all_results(folder)
    order = (HELD, NOT_HELD, UNDECIDABLE, NOT_RUN)
    ranked = sorted(found, key=lambda name: order.index(verdict(found[name])))
    rows = [
        (f"[{found[name].claim.title}](#{name})", found[name].claim.source, f"**{verdict(found[name])}**")
        for name in ranked
    ]
    counts = ", ".join(
        f"{count} {word}" for word in order if (count := sum(verdict(results) == word for results in found.values()))
    )
    head = f"{CRITERION}\n\n{len(found)} claims: {counts}.\n\n{table(('claim', 'source', 'verdict'), rows)}"
    return "\n\n".join([head, *(section(name, found[name], pictures) for name in ranked)])


def all_results(folder: Path) -> dict[str, Results]:
    """Return {name: results} of all claims of a folder."""
    results = folder / "results"
    return {name: read_results(load_claim(name, folder), results / f"{name}.json") for name in names(folder)}


def draw_all(folder: Path, pictures: Path) -> list[Path]:
    """Draw NAME.png of each claim of a folder whose runs are finished, and return the files."""
    drawn = []
    for name, results in all_results(folder).items():
        if not results.remaining():
            drawn.append(pictures / f"{name}.png")
            draw(results, drawn[-1])
    return drawn


def section(name: str, results: Results, pictures: str) -> str:
    """Return the part of the page about one claim."""
    claim = results.claim
    parts = [
        f"## {claim.title} {{#{name}}}",
        f"{claim.claim} ({claim.source}).",
        f"Verdict: **{verdict(results)}**.",
    ]
    if claim.remark:
        parts.append(claim.remark.strip())
    if results.runs:
        parts += [table_of_sides(results), table_of_comparisons(results)]
        if not results.remaining():
            parts.append(f"![{claim.measure} of each side and seed]({pictures}/{name}.png)")
        parts.append(circumstances(results))
    parts.append(definition(name, claim))
    return "\n\n".join(part for part in parts if part)


def table_of_sides(results: Results) -> str:
    """Return the numbers of each side, with the search for its learning rate."""
    claim, rows = results.claim, []
    measure = f"steps until {claim.curve}" if claim.curve else claim.measure
    for side in claim.sides:
        values = [value for value in results.values(side) if value is not None]
        mean = spread = ""
        if len(values) > 1:
            mean, spread = number(float(np.mean(values))), number(float(np.std(values, ddof=1)))
        trials = results.search(side)
        tried = ", ".join(f"{rate:g}: {'failed' if n is None else number(n)}" for rate, n in trials.items() if rate)
        found = [run["results"] for run in results.runs if run["side"] == side]
        parameters = next((row[key] for row in found for key in ("parameters", "cost.parameters") if key in row), None)
        rate = results.rate(side)
        chosen = "" if rate is None else f"{rate:g}"
        if len(trials) > 1:
            end = {min(trials): ", the lowest", max(trials): ", the highest"}.get(rate, "")  # pyright: ignore[reportArgumentType]
            chosen += f"{end} ({tried})"
        rows.append(
            (
                side,
                mean,
                spread,
                ", ".join(map(number, values)),
                "" if parameters is None else f"{parameters:,}",
                chosen,
            )
        )
    head = (
        "side",
        f"{measure}, mean",
        "standard deviation",
        "of each seed",
        "parameters",
        "learning rate (tried, on validation data)",
    )
    kept = [place for place in range(len(head)) if any(row[place] for row in rows)]
    return table([head[place] for place in kept], [[row[place] for place in kept] for row in rows])


def table_of_comparisons(results: Results) -> str:
    """Return the paired differences of the sides."""
    kind = "mean difference" if results.claim.within is None else "mean relative difference"
    rows = [
        (f"{found.better} and {found.other}", f"{found.mean:+.2g}", f"{found.error:.2g}", found.verdict)
        for found in ([] if results.remaining() else comparisons(results))
    ]
    return table(("compared", kind, "standard error", ""), rows) if rows else ""


def circumstances(results: Results) -> str:
    """Return one line on where, when and with what the runs took place."""
    runs = results.runs

    def all_of(key: str) -> str:
        return ", ".join(sorted({str(run[key]) for run in runs if run.get(key)}))

    versions = sorted({f"{name} {version}" for run in runs for name, version in run.get("versions", {}).items()})
    minutes = sum(run["minutes"] for run in runs)
    return (
        f"{len(runs)} runs, {minutes:.0f} minutes on {all_of('device')}; {all_of('date')}; commit {all_of('commit')}; "
        f"{', '.join(versions)}."
    )


def definition(name: str, claim: Claim) -> str:
    """Return what was run, folded, with the command that runs it again."""
    rows = [("all", claim.recipe or "", changes(claim.changes))] if claim.changes or claim.recipe else []
    for side, run in (*claim.earlier.items(), *claim.sides.items()):
        notes = [] if run.train else ["not trained"]
        notes += [f"`{run.measure}`"] if run.measure else []
        rows.append((side, run.recipe or "", "; ".join(filter(None, [changes(run.changes), *notes]))))
    lines = [f"seeds {', '.join(map(str, claim.seeds))}, which set {', '.join(claim.seeded)}"]
    if claim.rates:
        rates = ", ".join(f"{rate:g}" for rate in claim.rates)
        lines.append(f"{RATE}{' of ' + claim.searched if claim.searched else ''} one of {rates}")
    command = f"```sh\nhf-vits claims --only {name}\n```"
    parts = [table(("", "recipe", "changes"), rows), f"{'; '.join(lines)}.", command, "</details>"]
    return "\n\n".join(['<details markdown="1">\n<summary>What was run</summary>', *parts])


def changes(values: dict[str, Any]) -> str:
    """Return changes to a recipe as one line of code."""
    flow = {"default_flow_style": True, "width": math.inf, "sort_keys": False}
    texts = {key: yaml.safe_dump(value, **flow).removesuffix("...\n").strip() for key, value in values.items()}
    return ", ".join(f"`{key}={text}`" for key, text in texts.items())


def draw(results: Results, path: Path) -> None:
    """Draw the picture of a claim whose runs are finished."""
    claim = results.claim
    if claim.curve:
        draw_curves_of_sides({side: results.curves(side) for side in claim.sides}, claim.curve, path)
    else:
        draw_sides({side: results.values(side) for side in claim.sides}, claim.measure, path)


def number(value: float) -> str:
    """Return a number with at most four digits."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 else f"{value:.3g}" if value else "0"
