"""Bounds on the requests of huggingface_hub's client, which waits for an answer, and as a Hub asks, without end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

from huggingface_hub import get_session
from huggingface_hub.utils import httpx, parse_ratelimit_headers

LONGEST_SILENCE = 60  # seconds in which nothing of an answer arrives, or nothing of a request can be sent
LONGEST_WAIT = 300  # seconds in all that a push waits because the Hub asks for it

_lock = threading.Lock()
_bounded: WeakSet[httpx.Client] = WeakSet()
_pushes = 0
_waited = 0


class HubUnavailable(OSError):
    """The Hub did not answer in time, or asks to wait too long; the client does not retry on this error."""


@contextmanager
def bounded_requests() -> Iterator[None]:
    """Bound the client's requests in this context, in all threads, as the client uploads files in threads of its own.

    Requests with a time limit of their own keep it.

    Raises:
        HubUnavailable: no answer within `LONGEST_SILENCE`, or the Hub asks to wait for longer than `LONGEST_WAIT`.
    """
    global _pushes, _waited
    client = get_session()
    with _lock:
        if client not in _bounded:
            _bounded.add(client)
            client.send = partial(_send, client.send)
        _waited = 0 if _pushes == 0 else _waited
        _pushes += 1
    try:
        yield
    finally:
        with _lock:
            _pushes -= 1


def asked_wait(response: httpx.Response) -> int | None:
    """Return for how many seconds an answer asks to wait, or None."""
    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    retry_after = response.headers.get("Retry-After", "")
    return int(retry_after) if retry_after.isdigit() else None


def _send(send: Callable[..., httpx.Response], request: httpx.Request, **options: Any) -> httpx.Response:
    if not _pushes:
        return send(request, **options)
    limits = request.extensions.get("timeout", {})
    bounds = {kind: limits.get(kind) or LONGEST_SILENCE for kind in ("connect", "read", "write", "pool")}
    request.extensions = request.extensions | {"timeout": bounds}
    try:
        response = send(request, **options)
    except httpx.TimeoutException as error:
        if limits == bounds:
            raise
        raise HubUnavailable(f"{request.url.host} did not answer within {LONGEST_SILENCE} seconds") from error
    except httpx.ConnectError as error:
        # The client would go on with a new session, which has no bounds.
        raise httpx.TransportError(str(error), request=request) from error
    if response.is_error:
        _count_wait(response)
    return response


def _count_wait(response: httpx.Response) -> None:
    global _waited
    wait = asked_wait(response) or 0
    with _lock:
        _waited += wait
        if _waited <= LONGEST_WAIT:
            return
    raise HubUnavailable(
        f"{response.status_code} {response.reason_phrase}, with {wait} seconds to wait: a push waits no longer than "
        f"{LONGEST_WAIT} seconds in all"
    )
