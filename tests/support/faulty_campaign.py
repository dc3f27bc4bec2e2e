"""A campaign of bad outcomes, to test the harness of `tests/fuzz` with."""

import os
import time
from pathlib import Path
from random import Random

from tests.fuzz.harness import Case


def raw_error(folder: Path) -> None:
    {}["field"]


def refusal_that_names_nothing(folder: Path) -> None:
    raise ValueError


def hang(folder: Path) -> None:
    while True:
        pass


def wait(folder: Path) -> None:
    time.sleep(60)


def memory(folder: Path) -> None:
    bytearray(2**30)


def crash(folder: Path) -> None:
    os.abort()


def wrong_result(folder: Path) -> None:
    assert 1 + 1 == 3


def refusal(folder: Path) -> None:
    raise ValueError("Field must be positive, got field=-1")


def works(folder: Path) -> None:
    (folder / "file").write_text("text")


KINDS = (raw_error, refusal_that_names_nothing, hang, wait, memory, crash, wrong_result, refusal, works)


def make(random: Random) -> Case:
    run = random.choice(KINDS)
    return Case(run.__name__, ("field",), run)
