"""Claims: definitions, verdicts of made numbers, runs that are killed and resumed, and the page."""

import json
import math
from pathlib import Path

import pytest
import yaml

from hf_vits import cli
from hf_vits.claims import cost as cost_of_models
from hf_vits.claims import run as running
from hf_vits.claims.definition import Claim, load_claim, names, runs_of
from hf_vits.claims.page import all_results, draw_all, page
from hf_vits.claims.results import Results, Wanted, read_results, steps_to
from hf_vits.claims.run import run_claims, standings
from hf_vits.claims.verdict import HELD, NOT_HELD, NOT_RUN, UNDECIDABLE, compare, compare_within, verdict
from hf_vits.recipe import load_recipe
from hf_vits.recipe.loading import build_section
from tests.support.paths import ROOT

TINY = {
    "title": "Wide over narrow",
    "claim": "A wide model is more accurate than a narrow one",
    "source": "nobody",
    "minutes": 1,
    "recipe": "demo_digits",
    "changes": {
        "data": {"source": "digits", "test_fraction": 0.05, "validation_fraction": 0.05, "train_inputs": 40},
        "augmentation": {},
        "train": {"length": "2 steps", "batch_size": 8, "evaluate_every": None, "save_every": "1 step"},
        "schedule": {},
    },
    "sides": {
        "wide": {"changes": {"model.config.hidden_size": 16}},
        "narrow": {"changes": {"model.config.hidden_size": 8, "optimizer.learning_rate": 0.001}},
    },
    "measure": "test.accuracy",
    "rates": [0.001, 0.01],
}


def claim_of(**changes) -> Claim:
    return build_section(Claim, {**TINY, **changes}, "tiny.yaml")


def finished(claim: Claim, numbers: dict[tuple[str, int, float | None], float], **fields) -> Results:
    """Results of a claim with these numbers, on validation and test data alike."""
    runs = [
        {
            "side": side,
            "seed": seed,
            "rate": rate,
            "key": Wanted(side, seed, rate).key(claim),
            "results": {"test.accuracy": number, "validation.accuracy": number},
            "minutes": 1.0,
            **fields.get(side, {}),
        }
        for (side, seed, rate), number in numbers.items()
    ]
    return Results(claim, runs)


def write(folder: Path, name: str, **changes) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))


@pytest.fixture
def tiny(tmp_path):
    write(tmp_path, "tiny", rates=[0.01])
    return tmp_path


def test_the_verdict_needs_twice_the_standard_error():
    assert compare([0.9, 0.92, 0.91], [0.8, 0.82, 0.81])[2] == HELD
    assert compare([0.8, 0.82, 0.81], [0.9, 0.92, 0.91])[2] == NOT_HELD
    assert compare([0.8, 0.82, 0.81], [0.9, 0.92, 0.91], lower_is_better=True)[2] == HELD
    assert compare([0.9, 0.8, 0.91], [0.8, 0.82, 0.81])[2] == UNDECIDABLE
    assert compare([0.5] * 3, [0.5] * 3)[2] == UNDECIDABLE
    mean, error, _ = compare([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert (mean, error) == (2.0, pytest.approx(1 / math.sqrt(3)))
    assert compare([1.0, 2.0, 3.0], [0.0] * 3)[2] == HELD  # 2 > 1.155
    assert compare([0.1, 2.0, 3.5], [0.0] * 3)[2] == UNDECIDABLE  # 1.87 < 1.97


def test_sides_that_shall_not_differ():
    assert compare_within([1.0, 1.02, 0.99], [1.0, 1.0, 1.0], 0.1)[2] == HELD
    assert compare_within([1.5, 1.52, 1.49], [1.0, 1.0, 1.0], 0.1)[2] == NOT_HELD
    assert compare_within([0.8, 1.0, 1.3], [1.0, 1.0, 1.0], 0.1)[2] == UNDECIDABLE


def test_steps_to_a_goal():
    curve = [[0, 0.2], [10, 0.4], [20, 0.3], [30, 0.6]]
    assert steps_to(curve, 0.3) == pytest.approx(5)
    assert steps_to(curve, 0.1) == 0
    assert steps_to(curve, 0.5) == pytest.approx(20 + 20 / 3)
    assert steps_to(curve, 0.9) == 30


def test_the_search_comes_first_and_decides_what_runs():
    claim = claim_of()
    results = finished(claim, {})
    trials = [("wide", 0, 0.001), ("wide", 0, 0.01), ("narrow", 0, None)]  # narrow's rate is its own
    assert [tuple(run) for run in results.remaining()] == trials
    searched = dict(zip(trials, (0.3, 0.5, 0.4), strict=True))
    results = finished(claim, searched)
    assert results.rate("wide") == 0.01
    assert verdict(results) == NOT_RUN
    rest = [("wide", 1, 0.01), ("narrow", 1, None), ("wide", 2, 0.01), ("narrow", 2, None)]
    assert [tuple(run) for run in results.remaining()] == rest
    results = finished(claim, searched | dict(zip(rest, (0.52, 0.4, 0.51, 0.41), strict=True)))
    assert results.values("wide") == [0.5, 0.52, 0.51]
    assert verdict(results) == HELD
    assert finished(claim_of(lower_is_better=True), searched).rate("wide") == 0.001


def test_a_run_that_diverged_leaves_the_claim_undecided():
    claim = claim_of(rates=[])
    numbers = {(side, seed, None): 0.5 for side in claim.sides for seed in claim.seeds}
    results = finished(claim, numbers, wide={"problem": "the loss is not finite"})
    assert results.values("wide") == [None] * 3
    assert verdict(results) == UNDECIDABLE


def test_a_claim_about_steps_compares_with_the_end_of_the_last_side():
    claim = claim_of(rates=[], curve="eval_knn_accuracy")
    numbers = {(side, seed, None): 0.5 for side in claim.sides for seed in claim.seeds}
    curves = {"wide": {"curve": [[10, 0.5], [20, 0.6]]}, "narrow": {"curve": [[10, 0.4], [20, 0.5]]}}
    results = finished(claim, numbers, **curves)
    assert results.values("wide") == [10, 10, 10]
    assert results.values("narrow") == [20, 20, 20]
    assert verdict(results) == HELD


def test_a_side_may_have_a_measure_of_its_own():
    claim = claim_of(rates=[], sides={"deep": {}, "raw": {"measure": "test.raw_accuracy"}})
    numbers = {(side, seed, None): 0.5 for side in claim.sides for seed in claim.seeds}
    results = finished(claim, numbers, raw={"results": {"test.accuracy": 0.5, "test.raw_accuracy": 0.3}})
    assert results.values("raw") == [0.3] * 3
    assert verdict(results) == HELD
    with pytest.raises(ValueError, match=r"runs have no test.raw_accuracy, only test.accuracy, validation.accuracy"):
        finished(claim, numbers).values("raw")


def test_a_claim_that_fails_stops_no_other(tiny, monkeypatch):
    write(tiny, "broken", changes={"data.source": "digit"})
    monkeypatch.setattr(running, "train", lambda values: load_recipe(values) and scores(values["data"]["source"]))
    with pytest.raises(RuntimeError, match=r"broken: ValueError: no source digit"):
        run_claims(["broken", "tiny"], tiny / "results", tiny / "runs", 10, tiny)
    assert standings(["tiny"], tiny / "results", tiny)[0]["verdict"] == UNDECIDABLE


def scores(source: str) -> dict[str, dict[str, float]]:
    """Results of a run on data that is known, the same of every model."""
    if source != "digits":
        raise ValueError(f"no source {source}")
    return {"validation": {"accuracy": 0.5}, "test": {"accuracy": 0.5}}


def test_all_comparisons_must_hold():
    claim = claim_of(rates=[], sides={name: {} for name in "abc"}, compare=[["a", "b"], ["a", "c"]])
    base = {(side, seed, None): {"a": 0.9, "b": 0.8, "c": 0.85}[side] for side in "abc" for seed in range(3)}
    assert verdict(finished(claim, base)) == HELD
    assert verdict(finished(claim, base | {("c", seed, None): 0.95 for seed in range(3)})) == NOT_HELD
    assert verdict(finished(claim, base | {("c", 0, None): 0.95})) == UNDECIDABLE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 1]}, "needs 3 different seeds or more"),
        ({"seeds": [0, 1, 1]}, "needs 3 different seeds or more"),
        ({"sides": {"one": {}}}, "needs two or more"),
        ({"compare": [["wide", "broad"]]}, "expected pairs of wide, narrow"),
        ({"measures": "x"}, "did you mean measure"),
        ({"recipe": None}, "wide names no recipe"),
        ({"searched": "teacher"}, "expected one of earlier"),
        ({"sides": {"a": {"changes": {"x": "${b}"}}, "b": {}}}, r"\$\{b\}: expected a run of earlier"),
        (
            {"earlier": {"c": {"changes": {"x": "${c}"}}}, "sides": {"a": {"changes": {"x": "${c}"}}, "b": {}}},
            "itself",
        ),
    ],
)
def test_wrong_definitions_say_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        claim_of(**changes)


def test_an_unknown_claim_is_an_error(capsys):
    assert cli.main(["claims", "--only", "compact_transformers_digit_200"]) == 2
    assert "did you mean compact_transformers_digits_200" in capsys.readouterr().err


def test_runs_come_after_what_they_need_and_are_known_by_what_they_compute():
    teacher = {
        "earlier": {"big": {}},
        "sides": {"taught": {"changes": {"teacher.pretrained": "${big}/best"}}, "alone": {}},
    }
    claim = claim_of(**teacher)
    earlier, own = runs_of(claim, "taught", 1, 0.01)
    assert own.values["teacher"]["pretrained"] == f"{{folders}}/{earlier.key}/best"
    assert (own.values["optimizer"]["learning_rate"], own.values["train"]["seed"]) == (0.01, 1)
    assert earlier.values["optimizer"]["learning_rate"] == 0.002
    assert len(runs_of(claim, "alone", 1, None)) == 1
    keys = {runs_of(claim, "taught", *choice)[-1].key for choice in [(1, 0.01), (2, 0.01), (1, 0.02), (1, None)]}
    assert len(keys) == 4
    other = claim_of(**teacher | {"title": "Other words", "measure": "test.loss"})
    assert runs_of(other, "taught", 1, 0.01)[-1].key == own.key
    teacher["earlier"]["big"] = {"changes": {"train.length": "3 steps"}}
    assert runs_of(claim_of(**teacher), "taught", 1, 0.01)[-1].key != own.key


def test_a_claim_is_killed_resumed_and_shown(tiny, monkeypatch, capsys):
    results, runs = tiny / "results", tiny / "runs"

    class Killed(BaseException):
        pass

    real, calls = running.train, []

    def train(values):
        calls.append(values)
        if len(calls) == 3:
            raise Killed
        return real(values)

    monkeypatch.setattr(running, "train", train)
    with pytest.raises(Killed):
        run_claims(["tiny"], results, runs, 10, tiny)
    (before,) = standings(["tiny"], results, tiny)
    assert (before["runs"], before["of"], before["verdict"]) == (2, 6, NOT_RUN)
    assert "not run" in page(tiny, "pictures")
    run_claims(["tiny"], results, runs, 10, tiny)
    assert len(calls) == 7  # two, the killed one, and the four that were missing
    run_claims(["tiny"], results, runs, 10, tiny)
    assert len(calls) == 7
    found = read_results(load_claim("tiny", tiny), results / "tiny.json")
    assert len(found.runs) == 6
    assert found.runs[0]["device"].startswith(("cpu, ", "NVIDIA"))
    assert found.runs[0]["versions"]["torch"]
    assert all(0 <= value <= 1 for side in ("wide", "narrow") for value in found.values(side))

    text = page(tiny, "pictures")
    assert verdict(found) in text
    assert f"{found.values('wide')[0]:.3f}" in text
    assert "pictures/tiny.png" in text
    (tmp := tiny / "drawn").mkdir()
    assert [path.name for path in draw_all(tiny, tmp)] == ["tiny.png"]

    write(tiny, "tiny", rates=[0.02])
    run_claims(["tiny"], results, runs, 1e-9, tiny)
    assert "tiny: 3 runs of an earlier definition are run again" in capsys.readouterr().err
    assert standings(["tiny"], results, tiny)[0]["runs"] == 3
    (results / "tiny.json").write_text('{"runs": [{"side": 3}]}')
    with pytest.raises(ValueError, match=r"tiny.json is damaged: expected runs with key, side"):
        run_claims(["tiny"], results, runs, 1, tiny)


def test_costs_are_measured_and_runs_without_training_too(tiny, monkeypatch):
    monkeypatch.setattr(cost_of_models, "_SECONDS", 0.0)
    write(tiny, "cost", measure="cost.parameters", rates=[])
    untrained = {
        "wide": {"train": False},
        "loaded": {"train": False, "changes": {"model": {"pretrained": "${first}"}}},
    }
    write(tiny, "untrained", sides=untrained, earlier={"first": {}})
    run_claims(["cost", "untrained"], tiny / "results", tiny / "runs", 10, tiny)
    cost, other = all_results(tiny)["cost"], all_results(tiny)["untrained"]
    assert verdict(cost) == HELD
    assert all(run["results"]["cost.step_seconds"] > run["results"]["cost.forward_seconds"] > 0 for run in cost.runs)
    assert not other.remaining()
    assert page(tiny, "pictures").count("| held |") == 1
    assert all(value < 0.4 for value in other.values("wide"))


@pytest.mark.parametrize("name", names())
def test_the_claims_of_the_package_can_be_run(name):
    claim = load_claim(name)
    for side in claim.sides:
        for run in runs_of(claim, side, claim.seeds[0], claim.rates_of(side)[0]):
            load_recipe({**run.values, "output": {"directory": "runs/claim"}})


def test_committed_results_are_read_and_shown():
    text = page(ROOT / "claims", "pictures/claims")
    assert all(f"{{#{name}}}" in text for name in names())
    for path in (ROOT / "claims" / "results").glob("*.json"):
        assert path.stem in names()
        assert json.loads(path.read_text())["claim"] == path.stem
        results = read_results(load_claim(path.stem), path)
        assert results.runs, f"{path} has no run of the present definition"
