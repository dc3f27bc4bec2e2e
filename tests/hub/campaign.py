"""Every request of a push and of a pull, with every fault: `python -m tests.hub.campaign [--cases N] [--seed S]`.

Each operation runs once to count its requests. Then, for each of its requests and each fault, it runs from the same
state with the fault at this request, once or from there on, and again without a fault. It prints one line per kind of
bad outcome; the last line is `cases=... bad=...`.

A good outcome: the operation succeeds, or raises an error that names the repository and what to do, in bounded time
and without secrets. The repository holds the commit before or the whole new one. The operation without a fault then
succeeds and gives the same files or model.
"""

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.support.other_hub import FAULTS, SIGNATURE, TOKEN, OtherHub

REPO = "ann/vit"
SILENCE = 0.3  # seconds until an answer that does not come is given up
LASTING = 1000  # requests
MISSED = "the request did not come again"
LONGEST = 20.0  # seconds that an operation may take: a silent Hub is asked for some forty times
LONGEST_SLEEP = 301.0  # seconds in all that it may ask to sleep; nobody sleeps here


def environment(hub: OtherHub, home: Path) -> dict[str, str]:
    """Return the settings with which a process talks to `hub`."""
    return {
        "HF_ENDPOINT": hub.url(),
        "HF_HOME": str(home),
        "HF_TOKEN": "",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@dataclass
class Operation:
    """A push or pull.

    Attributes:
        reset: return hub and caches to the state before it.
        run: do it, and return what must be the same each time.
        whole: return whether what the repository holds is whole.
        ours: whether an error must be one of hf_vits: transformers' own errors are as transformers has them.
    """

    name: str
    reset: Callable[[], None]
    run: Callable[[], Any]
    whole: Callable[[], bool]
    ours: bool = True


class Campaign:
    """The cases that ran on a hub, and what was bad in them."""

    def __init__(self, hub: OtherHub) -> None:
        self.hub = hub
        self.log: list[str] = []
        self.slept = 0.0
        self.ran, self.bad, self.examples = 0, Counter(), {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record what is logged and how long is slept, in place of showing and sleeping it."""

        def sleep(seconds: float) -> None:
            self.slept += seconds

        handler = logging.Handler()
        handler.emit = lambda record: self.log.append(record.getMessage())  # type: ignore[method-assign]
        loggers = [logging.getLogger(name) for name in ("huggingface_hub", "transformers", "hf_vits")]
        with patch("time.sleep", sleep), ExitStack() as stack:
            for logger in loggers:
                stack.enter_context(patch.object(logger, "handlers", [handler]))
                stack.enter_context(patch.object(logger, "propagate", False))
            yield

    def attempt(self, operation: Operation) -> tuple[Any, BaseException | None]:
        try:
            return operation.run(), None
        except Exception as error:
            return None, error

    def case(self, operation: Operation, expected: Any, fault: str, first: int, times: int) -> Iterator[str]:
        """Run a case and yield what is wrong."""
        operation.reset()
        self.log.clear()
        self.slept, start = 0.0, time.perf_counter()
        self.hub.fail(fault, first, times)
        result, error = self.attempt(operation)
        seconds, hits = time.perf_counter() - start, self.hub.hits
        self.hub.fail(None)
        if not hits:
            yield MISSED
        if seconds > LONGEST:
            yield "took too long"
        if self.slept > LONGEST_SLEEP and operation.ours:
            yield "waits too long"
        if error is None and result != expected:
            yield "a wrong result"
        if error is not None:
            yield from wrong_in(error, operation.ours)
        if operation.ours and any(secret in line for line in self.log for secret in (SIGNATURE, TOKEN)):
            yield "a secret in the log"
        if not operation.whole():
            yield "the repository is not whole"
        again, second = self.attempt(operation)
        if second is not None:
            yield f"stuck: {type(second).__name__}"
        elif again != expected:
            yield "another result the next time"
        if not operation.whole():
            yield "the repository is not whole the next time"

    @contextmanager
    def patience(self, operation: Operation) -> Iterator[None]:
        """Let the client soon give up, on every request only where hf_vits must not see to it."""
        from huggingface_hub import constants, file_download, set_client_factory
        from huggingface_hub.utils._http import default_client_factory

        def limit(request: Any) -> None:
            kinds = ("connect", "read", "write", "pool")
            request.extensions["timeout"] = dict.fromkeys(kinds, SILENCE)  # some calls ask for none, as `model_info`

        def impatient() -> Any:
            client = default_client_factory()
            client.event_hooks["request"].append(limit)
            return client

        set_client_factory(default_client_factory if operation.ours else impatient)
        limits = dict.fromkeys(("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"), SILENCE)
        with patch.multiple(constants, **limits), patch.object(file_download, "_ETAG_RETRY_TIMEOUT", SILENCE):
            yield

    def run(self, operation: Operation, count: int | None, chance: random.Random) -> None:
        operation.reset()
        self.hub.fail(None)
        expected = operation.run()
        requests = list(self.hub.calls)
        cases = [(first, fault, times) for first in range(len(requests)) for fault in FAULTS for times in (1, LASTING)]
        chosen = cases if count is None else chance.sample(cases, min(count, len(cases)))
        start, before = time.process_time(), sum(self.bad.values())
        for first, fault, times in chosen:
            self.ran += 1
            found = list(self.case(operation, expected, fault, first, times))
            if found == [MISSED]:  # on a busy machine one of the counted requests may have been a repetition
                found = list(self.case(operation, expected, fault, len(self.hub.calls) - 1, times))
            for wrong in found:
                kind = f"{operation.name}: {fault}{' from there on' if times > 1 else ''}: {wrong}"
                self.bad[kind] += 1
                self.examples.setdefault(kind, " ".join(requests[first]))
        print(
            f"{operation.name}: requests={len(requests)} cases={len(chosen)} of {len(cases)} "
            f"bad={sum(self.bad.values()) - before} cpu_seconds={time.process_time() - start:.1f}"
        )
        for kind in sorted(kind for kind in self.bad if kind.startswith(f"{operation.name}: ")):
            print(f"{self.bad[kind]:4} {kind} (such as {self.examples[kind]})")
        sys.stdout.flush()


def wrong_in(error: BaseException, ours: bool) -> Iterator[str]:
    """Yield what is wrong with an error."""
    if not ours:
        return
    text = str(error)
    if type(error) not in (OSError, PermissionError, ValueError):
        yield f"raw {type(error).__name__}: {text[:100]}"
    if REPO not in text:
        yield f"the error does not name the repository: {text[:200]}"
    if not any(advice in text for advice in ("again later", "the token", "There is no token")):
        yield f"the error does not say what to do: {text[:200]}"
    whole = "".join(traceback.format_exception(error))
    if any(secret in whole for secret in (SIGNATURE, TOKEN)):
        yield "a secret in the error"


def pushes(hub: OtherHub) -> list[Operation]:
    """Return a push of a bundle to a new repository, in parts, and one onto the weights of another model, in one."""
    from hf_vits.hub import client, push_to_hub
    from tests.support.hub import tiny_model, tiny_processor

    client.LONGEST_SILENCE = SILENCE
    model, processor = tiny_model("vit"), tiny_processor()
    empty = hub.state()

    def push() -> Any:
        push_to_hub(model, REPO, processor, token=TOKEN, endpoint=hub.url())
        return held()

    def held() -> Any:
        return (hub.repos[REPO].files(), len(hub.repos[REPO].commits)) if REPO in hub.repos else None

    push_to_hub(tiny_model("levit"), REPO, token=TOKEN, endpoint=hub.url())
    files = hub.repos[REPO].files()
    files["model-00001-of-00002.safetensors"] = files["model.safetensors"]
    other = hub.state()
    operations = []
    for kind, before, part in (("a new", empty, 20_000), ("an old", other, 90_000)):

        def reset(before: Any = before, part: int = part) -> None:
            hub.restore(before)
            hub.part = part

        reset()
        whole = [None, *([held()] if held() else [])]
        push()
        whole.append(held())
        whole.append(({".gitattributes": hub.repos[REPO].files()[".gitattributes"]}, 1))
        operations.append(Operation(f"push to {kind} repository", reset, push, lambda whole=whole: held() in whole))
    hub.restore(empty)
    push()
    return operations


def pulls(hub: OtherHub, home: Path) -> list[Operation]:
    """Return pulls: as the commands do it, by transformers with the repository's own code, and of all files."""
    from huggingface_hub import snapshot_download
    from transformers import AutoImageProcessor, AutoModelForImageClassification
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

    from hf_vits.cli.models import load_classifier
    from tests.support.hub import check_cache

    state = hub.state()

    def reset() -> None:
        hub.restore(state)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        for name in [name for name in sys.modules if name.split(".")[0] == "transformers_modules"]:
            del sys.modules[name]

    def by_command() -> Any:
        return described(*load_classifier(REPO))

    def by_code() -> Any:
        with ExitStack() as stack:
            for mapping in (CONFIG_MAPPING, IMAGE_PROCESSOR_MAPPING):  # as where hf_vits is not installed
                stack.enter_context(patch.object(mapping, "_extra_content", {}))
            processor = AutoImageProcessor.from_pretrained(REPO, trust_remote_code=True)
            model = AutoModelForImageClassification.from_pretrained(REPO, trust_remote_code=True)
        assert type(model).__module__.startswith("transformers_modules."), type(model)
        assert type(processor).__module__.startswith("transformers_modules."), type(processor)
        return described(model, processor)

    def of_all() -> Any:
        folder = Path(snapshot_download(REPO))
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def whole() -> bool:
        return check_cache(home) >= 0

    return [
        Operation("pull by a command", reset, by_command, whole),
        Operation("pull with the repository's code", reset, by_code, whole, ours=False),
        Operation("pull of all files", reset, of_all, whole, ours=False),
    ]


def described(model: Any, processor: Any) -> Any:
    weights = {name: value.cpu().numpy().tobytes() for name, value in model.state_dict().items()}
    return weights, processor.to_dict()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, help="number of cases of each operation (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="which of them")
    parser.add_argument("--only", default="", help="operations whose name contains this")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, OtherHub() as hub:
        home = Path(folder, "home")
        os.environ.update(environment(hub, home))
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        campaign = Campaign(hub)
        with campaign.listening():
            for operation in (*pushes(hub), *pulls(hub, home)):
                if args.only in operation.name:
                    with campaign.patience(operation):
                        campaign.run(operation, args.cases, random.Random(args.seed))
    print(f"cases={campaign.ran} bad={sum(campaign.bad.values())}")
    return 1 if campaign.bad else 0


if __name__ == "__main__":
    sys.exit(main())
