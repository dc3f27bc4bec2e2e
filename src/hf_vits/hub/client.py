"""What pushes and pulls need of huggingface_hub's client: bounds on requests, and messages without secrets.

By itself the client waits for an answer, and as long as a Hub asks, without end.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.utils import httpx, parse_ratelimit_headers

from .privacy import without_secrets

LONGEST_SILENCE = 60  # seconds in which nothing of an answer arrives, or nothing of a request can be sent
LONGEST_WAIT = 300  # seconds in all that a push or pull waits because the Hub asks for it or is silent

# Loggers of the client that name addresses.
LOGGERS = ("huggingface_hub.utils._http", "huggingface_hub.file_download", "hf_vits.hub.push")

_lock = threading.Lock()
_bounded: WeakSet[httpx.Client] = WeakSet()
_users = 0
_waited = 0.0
_failures: list[OSError] = []


class HubUnavailable(OSError):
    """The Hub failed, did not answer in time, or asks to wait too long; the client does not retry on this error.

    Attributes:
        status: that of the answer, if there was one.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


@contextmanager
def bounded_requests() -> Iterator[list[OSError]]:
    """Bound the client's requests in this context, in all threads, as the client uploads files in threads of its own.

    Requests with a time limit of their own keep it. Yields the failures of requests so far, of which the caller of
    the client may hear nothing: transformers takes many for a missing file.

    Raises:
        HubUnavailable: no answer within `LONGEST_SILENCE`, or the Hub asks to wait for longer than `LONGEST_WAIT`.
    """
    global _users, _waited, _failures
    client = get_session()
    with _lock:
        if client not in _bounded:
            _bounded.add(client)
            client.send = partial(_send, client.send)
        if _users == 0:
            _waited, _failures = 0.0, []
        _users += 1
    try:
        yield _failures
    finally:
        with _lock:
            _users -= 1


@contextmanager
def hiding_secrets(api: HfApi) -> Iterator[None]:
    """Remove signed addresses and tokens from errors, from their causes, and from the client's warnings."""

    def clean(text: str) -> str:
        return without_secrets(text, (api.token if isinstance(api.token, str) else None, get_token()))

    def clean_record(record: logging.LogRecord) -> bool:
        record.msg, record.args = clean(record.getMessage()), ()
        return True

    sources = [logging.getLogger(name) for name in LOGGERS]
    for source in sources:
        source.addFilter(clean_record)
    try:
        yield
    except Exception as error:
        for cause in causes(error):
            cause.args = tuple(clean(item) if isinstance(item, str) else item for item in cause.args)
        raise
    finally:
        for source in sources:
            source.removeFilter(clean_record)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def token_advice(api: HfApi, allow: str = "writing") -> str:
    """Return what to do where a token does not `allow` what was asked."""
    if api.token is None and get_token() is None:
        argument = "pass `token`, " if allow == "writing" else ""
        return f"There is no token: {argument}set the environment variable HF_TOKEN, or run `hf auth login`."
    origin = "of HF_TOKEN or `hf auth login`" if api.token is None else "given as `token`"
    return f"Check the token {origin}: it must be valid and allow {allow} ({api.endpoint}/settings/tokens)."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without full stop; its type if there is no message."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def asked_wait(response: httpx.Response) -> int | None:
    """Return for how many seconds an answer asks to wait, or None."""
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    retry_after = response.headers.get("Retry-After", "")
    return int(retry_after) if retry_after.isdigit() else None


def _send(send: Callable[..., httpx.Response], request: httpx.Request, **options: Any) -> httpx.Response:
    if not _users:
        return send(request, **options)
    _spend(0, f"{request.url.host} did not answer several times")
    limits = request.extensions.get("timeout", {})
    bounds = {kind: limits.get(kind) or LONGEST_SILENCE for kind in ("connect", "read", "write", "pool")}
    request.extensions = request.extensions | {"timeout": bounds}
    try:
        response = send(request, **options)
    except httpx.TimeoutException as error:
        silence = f"{request.url.host} did not answer within {bounds['read']:g} seconds"
        _failures.append(HubUnavailable(silence))
        if limits == bounds:
            _spend(bounds["read"], silence)
            raise
        raise HubUnavailable(silence) from error
    except httpx.TransportError as error:
        _failures.append(HubUnavailable(str(error)))
        if isinstance(error, httpx.ConnectError) and request.method not in ("GET", "HEAD"):
            # The client would try again with a new session, which has no bounds.
            raise httpx.TransportError(str(error), request=request) from error
        raise
    if response.is_error:
        reason = f"{response.status_code} {response.reason_phrase}"
        if response.headers.get("X-Error-Code") not in ("EntryNotFound", "RevisionNotFound"):
            _failures.append(HubUnavailable(f"{reason} for {request.method} {request.url.path}", response.status_code))
        wait = asked_wait(response) or 0
        _spend(wait, f"{reason}, with {wait} seconds to wait")
    return response


def _spend(seconds: float, why: str) -> None:
    """Count seconds of waiting; raise HubUnavailable in place of those that go beyond `LONGEST_WAIT`."""
    global _waited
    with _lock:
        if _waited + seconds <= LONGEST_WAIT:
            _waited += seconds
            return
    failure = HubUnavailable(f"{why}: hf_vits waits no longer than {LONGEST_WAIT} seconds in all")
    _failures.append(failure)
    raise failure
