"""Pushing a model to the Hub: everything that its use needs, and nothing else, in one commit."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    HfUriError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import PreTrainedModel

from hf_vits import __version__
from hf_vits.folders import temporary_folder

from .bundle import remove_bundle, write_bundle
from .card import is_around, model_card, write_card
from .client import HubUnavailable, asked_wait, bounded_requests, first_line, hiding_secrets, token_advice
from .privacy import remove_paths
from .space import SDK, check_space, write_space
from .usage import REPOSITORY

logger = logging.getLogger(__name__)

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
# The client itself retries uploads of large files and the request how to upload, but not the creation of a repository
# or of a commit, nor the check of a card.
ATTEMPTS = 4
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
COMMITS = 10  # attempts at a commit while others commit
CONFLICTS = (409, 412)  # statuses of a commit whose parent is no longer the last commit of the branch
# The client reads the check of a card as JSON before it looks at the status, and so trips over a gateway's HTML page.
FAILURES = (HTTPError, json.JSONDecodeError)

T = TypeVar("T")


def save_for_hub(
    model: PreTrainedModel,
    folder: str | os.PathLike,
    processor: Any = None,
    card: ModelCard | str | os.PathLike | None = None,
    bundle: bool = True,
) -> Path:
    """Write `folder` as `push_to_hub` would fill a repository. It appears whole or not at all.

    Args and errors as in `push_to_hub`; FileExistsError if `folder` exists and is not empty.
    """
    folder = Path(folder)
    _check_arguments(model, processor)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already and is not an empty folder: name another, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent, f".{folder.name}-") as temporary:
        written = temporary / "whole"
        written.mkdir()
        _write(model, written, processor, card, bundle)
        os.replace(written, folder)
    return folder


def push_to_hub(
    model: PreTrainedModel,
    repo_id: str,
    processor: Any = None,
    *,
    card: ModelCard | str | os.PathLike | None = None,
    bundle: bool = True,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
) -> CommitInfo:
    """Share a model on the Hub: configuration, safetensors, processor, card and its own code, in one commit.

    The repository is made if there is none. A second push uploads only what changed, and makes no commit if nothing
    did. Nothing else is uploaded: no optimizer state, no paths, no tokens. Where several push at once, each
    commits on top of the one before, so that the repository holds one model and not parts of two.

    Args:
        model: any model of hf_vits or transformers.
        repo_id: `"user/name"`; `"name"` alone means the namespace of the token's user.
        processor: image or video processor, feature extractor, or a processor that joins one and a tokenizer.
        card: a card of `hf_vits.hub`, a `ModelCard`, its text, or the path of a README.md, whose images are uploaded
            with it. By default a repository without card gets one that says what the architecture is and how to load
            it, and an existing card is left alone.
        bundle: whether the modelling code is uploaded too, so that `AutoModel.from_pretrained(repo_id,
            trust_remote_code=True)` works where hf_vits is not installed.
        private: whether a repository made here is private; by default the account's own rule. True is refused for a
            repository that is public already.
        token: by default the token of `hf auth login` or of the environment variable HF_TOKEN.
        commit_message: by default "Upload <class name> with hf_vits".
        revision: existing branch to commit to, by default main.
        endpoint: address of the Hub, by default huggingface_hub's (environment variable HF_ENDPOINT).

    Returns:
        The commit, with `.commit_url` and `.oid`; the last commit of the branch if nothing changed.

    Raises:
        TypeError: `model` or `processor` is of another kind.
        ValueError: the revision does not exist, the card's metadata is invalid, the code cannot be bundled, or the
            repository is public where `private=True` was asked for.
        PermissionError: the token is missing, wrong, or may not write there.
        OSError: the Hub failed or could not be reached, after retries; it did not answer for 60 seconds; it asks to
            wait for more than 300 seconds in all; or others committed during each of 10 attempts.
    """
    _check_arguments(model, processor)
    api = HfApi(endpoint=endpoint, token=token, library_name="hf_vits", library_version=__version__)
    message = commit_message or f"Upload {type(model).__name__} with hf_vits"
    with temporary_folder() as folder:
        _write(model, folder, processor, card, bundle)
        with hiding_secrets(api), _explained(api, repo_id, revision), bounded_requests():
            repo_id = _persistently(lambda: _create_repository(api, repo_id, private))
            _fill_in_repository(folder / "README.md", repo_id)
            return _commit_on_newest(
                repo_id, lambda: _commit(api, repo_id, folder, message, revision, private, card is None)
            )


def push_space(
    model: PreTrainedModel,
    model_id: str,
    repo_id: str | None = None,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    endpoint: str | None = None,
) -> CommitInfo:
    """Share the page of `hf-vits demo` as a Space that shows a model of the Hub.

    Three files are pushed: README.md, app.py and requirements.txt. A second push replaces them, other files stay.

    Args:
        model: the model, or one of its class, from which follows what the Space has to install.
        model_id: the model's repository, `"user/name"`, which the Space loads. If it is private, the Space needs a
            secret HF_TOKEN that may read it.
        repo_id: of the Space, by default the same as the model's.
        private, token, commit_message, endpoint: as for `push_to_hub`.

    Raises:
        ValueError: the page does not show such models; `model_id` is no name of a repository; the Space exists and is
            not made by this function, or it is public where `private=True` was asked for.
        PermissionError, OSError: as for `push_to_hub`.
    """
    api = HfApi(endpoint=endpoint, token=token, library_name="hf_vits", library_version=__version__)
    message = commit_message or f"Show {model_id} with hf_vits"
    with temporary_folder() as folder:
        write_space(model, model_id, folder)
        name = repo_id or model_id
        with hiding_secrets(api), _explained(api, name, None), bounded_requests():
            name = _persistently(lambda: _create_repository(api, name, private, "space"))
            return _commit_on_newest(
                name, lambda: _commit(api, name, folder, message, None, private, keep_card=False, kind="space")
            )


def _check_arguments(model: Any, processor: Any) -> None:
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"model must be a PreTrainedModel, got {type(model).__name__}")
    if processor is not None and not hasattr(processor, "save_pretrained"):
        raise TypeError(
            f"processor must have save_pretrained, as transformers' processors have, got {type(processor)}"
        )


def _write(model: PreTrainedModel, folder: Path, processor: Any, card: Any, bundle: bool) -> None:
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    for path in folder.rglob("*.json"):
        remove_paths(path)
    if bundle and not is_around(model):  # such a model needs hf_vits, which has its processor too
        write_bundle(model, folder, processor)
    else:
        remove_bundle(folder)
    write_card(model_card(model, bundle=bundle) if card is None else card, folder)


def _create_repository(api: HfApi, repo_id: str, private: bool | None, kind: str = "model") -> str:
    """Create a repository unless it exists, and return its name with the namespace."""
    sdk = SDK if kind == "space" else None
    try:
        return api.create_repo(repo_id, private=private, exist_ok=True, repo_type=kind, space_sdk=sdk).repo_id
    except HfUriError:
        # The repository exists and the token may not create it; under an endpoint that is not the default one, the
        # client then fails to read the repository's address, which it wrote itself.
        return repo_id


def _fill_in_repository(card: Path, repo_id: str) -> None:
    card.write_text(card.read_text(encoding="utf-8").replace(REPOSITORY, repo_id), encoding="utf-8")


def _commit(
    api: HfApi,
    repo_id: str,
    folder: Path,
    message: str,
    revision: str | None,
    private: bool | None,
    keep_card: bool,
    kind: str = "model",
) -> CommitInfo:
    """Commit what differs from the remote state, on top of this state.

    Each attempt asks for this state again: if a commit was made and only the response was lost, it is not repeated.
    If another commit comes between, the Hub refuses this one.
    """
    remote: Any = api.repo_info(repo_id, revision=revision, repo_type=kind)
    if private and not remote.private:
        raise ValueError(
            f"{repo_id} exists and is public, so a push cannot make it private: make it private first, "
            f"HfApi().update_repo_settings({repo_id!r}, private=True, repo_type={kind!r}), or choose another name"
        )
    if kind == "space":
        check_space(remote)
    present = {file.rfilename for file in remote.siblings or ()}
    local = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if keep_card and "README.md" in present:
        del local["README.md"]
    operations = [CommitOperationAdd(name, str(path)) for name, path in local.items()]
    # Weights of an earlier push under other names would be loaded in place of these.
    stale = sorted(name for name in present - set(local) if WEIGHTS.fullmatch(name))
    operations += [CommitOperationDelete(name) for name in stale]
    return api.create_commit(
        repo_id, operations, commit_message=message, revision=revision, parent_commit=remote.sha, repo_type=kind
    )


def _commit_on_newest(repo_id: str, commit: Callable[[], CommitInfo]) -> CommitInfo:
    """Return the result of `commit`; try again where another commit was made meanwhile."""
    for _ in range(COMMITS):
        try:
            return _persistently(commit)
        except HfHubHTTPError as error:
            if error.response.status_code not in CONFLICTS:
                raise
            logger.warning("another commit to %s was made meanwhile; trying again on top of it", repo_id)
    raise HubUnavailable(f"others committed to it during each of {COMMITS} attempts")


def _persistently(call: Callable[[], T]) -> T:
    """Return the result of `call`; try again where the Hub is busy, fails or cannot be reached for a moment."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except FAILURES as error:
            wait = _seconds_to_wait(error, attempt)
            if wait is None:
                raise
            logger.warning("%s; trying again in %s s (%s of %s)", first_line(error), wait, attempt, ATTEMPTS - 1)
            time.sleep(wait)
    return call()


def _seconds_to_wait(error: Exception, attempt: int) -> float | None:
    """Return the seconds until the next attempt: what the Hub asks for, else 1, 2, 4...; None to give up."""
    wait = None
    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in RETRIED_STATUSES:
            return None
        wait = asked_wait(error.response)
    return 2 ** (attempt - 1) if wait is None else wait


@contextmanager
def _explained(api: HfApi, repo_id: str, revision: str | None) -> Iterator[None]:
    """Replace the client's errors by errors that say what to do."""
    try:
        yield
    except RevisionNotFoundError as error:
        raise ValueError(
            f"{repo_id} has no branch {revision!r}: create it first, "
            f"HfApi().create_branch({repo_id!r}, branch={revision!r}), or leave out `revision` to push to main"
        ) from error
    except RepositoryNotFoundError as error:
        raise PermissionError(
            f"{repo_id} at {api.endpoint} is not there for this token: it may be private to someone else, or deleted "
            f"meanwhile. {token_advice(api)}"
        ) from error
    except BadRequestError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(
                f"{api.endpoint} refuses to write to {repo_id} ({status}): "
                f"{(error.server_message or first_line(error)).rstrip('.')}. {token_advice(api)}"
            ) from error
        raise OSError(_failure(api, repo_id, error)) from error
    # ConnectionError is how uploads through Xet fail.
    except (*FAILURES, ConnectionError, HubUnavailable) as error:
        raise OSError(_failure(api, repo_id, error)) from error
    except RuntimeError as error:
        # What the client raises around the failed upload of a large file.
        if not isinstance(error.__cause__, HTTPError | HubUnavailable):
            raise
        raise OSError(_failure(api, repo_id, error.__cause__)) from error


def _failure(api: HfApi, repo_id: str, error: Exception) -> str:
    return (
        f"pushing to {repo_id} at {api.endpoint} failed: {first_line(error)}. The repository holds its last complete "
        "commit; push again later, uploaded files are not sent twice."
    )
