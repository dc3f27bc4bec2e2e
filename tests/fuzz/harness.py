"""What runs the campaigns of odd input, and judges the outcome of each case.

A campaign is a module of this folder with

    make(random: Random) -> Case    makes one case, from nothing but the random numbers it is given
    SMALL, LARGE                    how many cases `test_fuzz.py` and `make fuzz` run, per seed

and, if cases share something expensive, `prepare()`, which is called once per process. Number i of a seed is always
the same case, so that `python -m tests.fuzz configs --seed 0 --only 1234` runs one again alone.

The outcome of a case is one of

    ran       no exception
    refused   ValueError, TypeError, OSError or the error of a strict dataclass, whose message has one of the case's
              words, such as the name of the field, file or argument; compared without regard to case
    bad       any other exception, AssertionError for a wrong result included; a refusal that has none of the words;
              more than `seconds` of CPU time or thrice as long waiting; more than `memory` bytes; a crash

Each case runs in a process of its own kind: a worker that hangs or crashes is replaced, and the others go on.
"""

import faulthandler
import importlib
import logging
import multiprocessing
import os
import pkgutil
import resource
import shutil
import signal
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NamedTuple

from huggingface_hub.errors import StrictDataclassError
from tqdm import tqdm

SECONDS, MEMORY, WORKERS = 10.0, 4 * 2**30, 2
STARTING = 120.0  # seconds that a worker has for its imports
REFUSALS = (ValueError, TypeError, OSError, StrictDataclassError)
CALLS, MESSAGE_LINES, LOG_LINES = 4, 5, 24  # of what is shown of a bad case


@dataclass(frozen=True)
class Case:
    """One case of a campaign.

    Attributes:
        title: what is done, in one line.
        words: of which a refusal must have one; without any, the case is valid, and a refusal is bad.
        run: does it, with an empty folder for its files; raises AssertionError where a result is wrong.
    """

    title: str
    words: tuple[str, ...]
    run: Callable[[Path], None]


class Outcome(NamedTuple):
    """What became of a case: "ran", "refused" or "bad", and the message or the last calls."""

    number: int
    title: str
    result: str
    detail: str


def campaigns() -> list[str]:
    """Return the dotted names of the campaigns of this folder."""
    package = importlib.import_module(__package__)
    others = ("__main__", "harness")
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return [f"{__package__}.{name}" for name in names if name not in others and not name.startswith("test_")]


def load(campaign: str) -> ModuleType:
    """Import and prepare a campaign by its dotted name."""
    module = importlib.import_module(campaign)
    getattr(module, "prepare", lambda: None)()
    return module


def attempt(module: ModuleType, seed: int, number: int, folder: Path) -> Outcome:
    """Run a case in this process, without limits of time and memory, and remove `folder` afterwards."""
    title = "make"
    words: tuple[str, ...] = ()
    folder.mkdir(parents=True)
    try:
        case = module.make(Random(f"{seed}/{number}"))
        title, words = case.title, case.words
        case.run(folder)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and panics of libraries in Rust, which are no Exception
        message = str(error)
        if isinstance(error, REFUSALS) and any(word.lower() in message.lower() for word in words):
            return Outcome(number, title, "refused", f"{type(error).__name__}: {message}")
        calls = "".join(traceback.format_tb(error.__traceback__)[-CALLS:])
        lines = f"{type(error).__name__}: {message}".splitlines()[:MESSAGE_LINES]
        return Outcome(number, title, "bad", "\n".join([calls.rstrip(), *lines]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(number, title, "ran", "")


def work(connection, campaign: str, seed: int, seconds: float, memory: int, folder: Path) -> None:
    """Run the cases whose numbers come in, until None does. What is printed goes to the file `log` in `folder`."""
    log = open(folder / "log", "wb", buffering=0)  # noqa: SIM115 - open as long as the process
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    # The signal of the CPU clock ends the process, after its stack is written.
    faulthandler.enable(log)
    faulthandler.register(signal.SIGPROF, log, chain=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    module = load(campaign)
    connection.send(None)
    while (number := connection.recv()) is not None:
        title = "make"
        try:
            title = module.make(Random(f"{seed}/{number}")).title
        finally:
            connection.send(title)  # known even if the case never ends
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits = pages * resource.getpagesize() + memory, resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        outcome = attempt(module, seed, number, folder / str(number))
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (limits[1], limits[1]))
        connection.send(outcome)


class Worker:
    """A process that runs cases, restarted after one that ended it."""

    def __init__(self, campaign: str, seed: int, seconds: float, memory: int):
        self.fields = campaign, seed, seconds, memory
        self.seconds = seconds
        self.process = None

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = Path(tempfile.mkdtemp(prefix="hf-vits-fuzz-"))
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, *self.fields, self.folder), daemon=True)
        self.process.start()
        other.close()
        self.receive(STARTING)

    def receive(self, seconds: float):
        """Return what the process sends next; EOFError if it ended, TimeoutError if nothing comes in time."""
        if not self.connection.poll(seconds):
            raise TimeoutError
        return self.connection.recv()

    def run(self, number: int) -> Outcome:
        """Return the outcome of a case; one that ended the process, or had to be ended, is bad."""
        if self.process is None:
            self.start()
        title = "make"
        try:
            self.connection.send(number)
            title = self.receive(3 * self.seconds)
            return self.receive(3 * self.seconds)
        except (EOFError, ConnectionError, TimeoutError):
            return Outcome(number, title, "bad", self.end())

    def end(self) -> str:
        """End the process; return how it ended and its last lines."""
        if self.process is None:
            return ""
        if self.process.is_alive():
            os.kill(self.process.pid, signal.SIGPROF)
        self.process.join(5)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        how = f"took more than {self.seconds:g} s" if code == -signal.SIGPROF else f"ended its process with {code}"
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.process = None
        return "\n".join([how, *lines[-LOG_LINES:]])

    def close(self) -> None:
        """Let the process end, and remove its files."""
        if self.process is not None:
            self.connection.send(None)
            self.process.join(5)
            self.end()


def run(
    campaign: str,
    seed: int,
    numbers: list[int],
    seconds: float = SECONDS,
    memory: int = MEMORY,
    workers: int = WORKERS,
) -> Iterator[Outcome]:
    """Yield the outcome of each case of a campaign, in the order in which they end.

    Args:
        campaign: dotted name of its module.
        numbers: of the cases to run.
        seconds: CPU time that a case may take.
        memory: bytes that a case may take beside what its process has before.
        workers: number of processes.
    """
    local, started = threading.local(), []

    def one(number: int) -> Outcome:
        if not hasattr(local, "worker"):
            local.worker = Worker(campaign, seed, seconds, memory)
            started.append(local.worker)
        return local.worker.run(number)

    pool = ThreadPoolExecutor(workers)
    try:
        yield from tqdm(pool.map(one, numbers), campaign, len(numbers), smoothing=0, disable=None)
    finally:
        pool.shutdown(cancel_futures=True)
        for worker in started:
            worker.close()


def summary(campaign: str, seed: int, outcomes: list[Outcome]) -> str:
    """Return the line that a campaign ends in."""
    counts = {result: sum(o.result == result for o in outcomes) for result in ("ran", "refused", "bad")}
    numbers = " ".join(f"{result}={count}" for result, count in counts.items())
    return f"{campaign.rpartition('.')[2]}: seed={seed} cases={len(outcomes)} {numbers}"
