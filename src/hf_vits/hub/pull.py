"""Pulling from the Hub: `from_pretrained` in bounded time, and with errors that say what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, HfApi, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import cached_file

from hf_vits.files import reading

from .client import HubUnavailable, bounded_requests, causes, first_line, hiding_secrets, token_advice

# Answers about what a repository holds, which transformers explains.
ANSWERS = (EntryNotFoundError, RevisionNotFoundError)


def pull(kind: Any, source: str | os.PathLike, **options: Any) -> Any:
    """Return `kind.from_pretrained(source, **options)`; errors as in `pulling`, and for damaged files as in `reading`.

    Args:
        kind: class, or Auto class, of a model, configuration or processor.
        source: folder or Hub repository.
        options: further arguments of `from_pretrained`.
    """
    with pulling(source), reading(source):
        return kind.from_pretrained(source, **options)


def pull_file(source: str | os.PathLike, name: str) -> str | None:
    """Return the path of a file of a folder or repository, or None if there is none; errors as in `pulling`."""
    with pulling(source) as failures:
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        # None may also mean that the Hub failed.
        if found is None and failures and try_to_load_from_cache(str(source), name) is not _CACHED_NO_EXIST:
            raise failures[0]
    return found


@contextmanager
def pulling(source: str | os.PathLike) -> Iterator[list[OSError]]:
    """Bound the requests for the files of a repository, and replace the Hub's errors by errors that say what to do.

    Where `source` is a folder nothing is changed. Yields the failures of requests so far.

    Raises:
        PermissionError: the token does not allow reading the repository, or there is none that this token may see.
        OSError: the Hub failed or could not be reached; it did not answer in time; or it asks to wait for too long.
    """
    if os.path.isdir(source):
        yield []
        return
    api = HfApi()
    with hiding_secrets(api), bounded_requests() as failures:
        try:
            yield failures
        except Exception as error:
            found: list[BaseException] = [cause for cause in causes(error) if _is_failure(cause)]
            if isinstance(error, OSError):
                # transformers takes some failures for missing files, and asks for others: the first is what happened.
                found += failures
            if not found:
                raise
            raise _explained(api, source, found[0]) from error


def _is_failure(error: BaseException) -> bool:
    return isinstance(error, HTTPError | HubUnavailable | ConnectionError) and not isinstance(error, ANSWERS)


def _explained(api: HfApi, source: str | os.PathLike, failure: BaseException) -> OSError:
    if isinstance(failure, RepositoryNotFoundError) and not isinstance(failure, GatedRepoError):
        return PermissionError(
            f"there is neither a folder {source} nor, for this token, a repository {source} at {api.endpoint}: check "
            f"the name, and if the repository is private the token. {token_advice(api, 'reading')}"
        )
    status = failure.response.status_code if isinstance(failure, HfHubHTTPError) else getattr(failure, "status", None)
    if status in (401, 403):
        message = getattr(failure, "server_message", None) or first_line(failure)
        return PermissionError(
            f"{api.endpoint} refuses to read {source}: {message.rstrip('.')}. {token_advice(api, 'reading')}"
        )
    return OSError(
        f"pulling {source} from {api.endpoint} failed: {first_line(failure)}. Try again later; what was downloaded "
        "is kept."
    )
