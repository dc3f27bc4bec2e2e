"""Campaigns of odd input, few cases of each, and the harness that judges them."""

import importlib
from random import Random

import pytest

from tests.support import faulty_campaign

from . import harness

SEED = 7  # none of those of `make fuzz`


def test_the_harness_counts_what_is_bad():
    numbers = {faulty_campaign.make(Random(f"0/{number}")).title: number for number in range(200)}
    assert len(numbers) == len(faulty_campaign.KINDS)
    limits = {"seconds": 0.3, "memory": 2**28}
    outcomes = list(harness.run(faulty_campaign.__name__, 0, list(numbers.values()), **limits))
    assert {outcome.title: outcome.number for outcome in outcomes} == numbers
    right = dict.fromkeys(numbers, "bad") | {"refusal": "refused", "works": "ran"}
    assert {outcome.title: outcome.result for outcome in outcomes} == right
    details = {outcome.title: outcome.detail for outcome in outcomes}
    for title, words in {
        "raw_error": "KeyError",
        "refusal_that_names_nothing": "ValueError",
        "hang": "took more than 0.3 s",
        "wait": "took more than 0.3 s",
        "memory": "MemoryError",
        "crash": "Aborted",
        "wrong_result": "AssertionError",
    }.items():
        assert words in details[title]
    assert harness.summary("campaign", 0, outcomes) == "campaign: seed=0 cases=9 ran=1 refused=1 bad=7"


@pytest.mark.parametrize("campaign", harness.campaigns())
def test_campaign(campaign):
    """In a process of its own, as bad input may leave libraries in an odd state."""
    numbers = range(importlib.import_module(campaign).SMALL)
    outcomes = list(harness.run(campaign, SEED, list(numbers), workers=1))
    bad = [f"{outcome.number}: {outcome.title}\n{outcome.detail}" for outcome in outcomes if outcome.result == "bad"]
    assert not bad, "\n\n".join(bad)
    assert {outcome.result for outcome in outcomes} == {"ran", "refused"}
