"""The HTTP server of `LoopbackHub`: requests, answers and scripted faults."""

import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from .store import Refusal


@dataclass
class Fault:
    """A scripted failure of the next `times` requests that match; see `LoopbackHub.fault`."""

    method: str | None
    path: re.Pattern[str]
    status: int | None
    times: int
    headers: Mapping[str, str]
    cut_after: int | None
    reset: bool
    lose_answer: bool
    hang: bool
    after: int = 0
    hits: int = 0

    def matches(self, method: str, target: str) -> bool:
        return self.hits < self.times and self.method in (None, method) and self.path.search(target) is not None

    def answer(self, status: int) -> "Answer":
        """Return an error as JSON, as the Hub does; for 5xx an HTML page, as the gateways in front of it do."""
        if status < 500:
            return Answer.refusing(Refusal(status, f"scripted fault {status}", headers=self.headers))
        page = f"<html><body>scripted fault {status}</body></html>".encode()
        return Answer(status, {"Content-Type": "text/html", **self.headers}, page)


@dataclass(frozen=True)
class Exchange:
    """A request that the hub answered: method, path, status (0 if the connection was cut) and bytes of its body."""

    method: str
    path: str
    status: int
    received: int


@dataclass
class Request:
    """A request with its complete body; `at_storage` if it was sent to the storage for large files."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    at_storage: bool

    def json(self) -> dict[str, Any]:
        try:
            data = json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refusal(400, f"the body is no JSON: {error}") from error
        if not isinstance(data, dict):
            raise Refusal(400, f"the body must be a JSON object, got {type(data).__name__}")
        return data

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")


@dataclass
class Answer:
    """An HTTP answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of(cls, data: Any, status: int = 200, **headers: str) -> "Answer":
        """Return an answer with `data` as JSON."""
        return cls(status, {"Content-Type": "application/json", **headers}, json.dumps(data).encode())

    @classmethod
    def refusing(cls, refusal: Refusal) -> "Answer":
        """Return the answer for a refusal, with the headers that the Hub's client reads."""
        answer = cls.of({"error": refusal.message}, refusal.status)
        answer.headers |= {"X-Error-Message": refusal.message.replace("\n", " "), **refusal.headers}
        if refusal.code:
            answer.headers["X-Error-Code"] = refusal.code
        return answer


class Hub(Protocol):
    """The part of `LoopbackHub` that a server uses."""

    exchanges: list[Exchange]

    def take_fault(self, method: str, target: str) -> Fault | None: ...

    def answer(self, request: Request) -> Answer: ...


class Server(ThreadingHTTPServer):
    """One origin of the hub; it keeps track of open connections to close them when it stops."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: Hub, *, at_storage: bool):
        self.hub = hub
        self.at_storage = at_storage
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    def process_request(self, request, client_address) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._open_lock:
            for connection in self._open:
                # The thread of the handler may be closing it at the same moment.
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request, client_address) -> None:
        """Ignore clients that closed the connection; show any other error, which is a bug in this module."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def _serve(self) -> None:
        hub = self.server.hub
        fault = hub.take_fault(self.command, self.path)
        if fault and fault.hang:
            self._hang()
            return
        has_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if fault and fault.cut_after is not None and has_body:
            self.rfile.read(fault.cut_after)
            self._cut(fault.reset, fault.cut_after)
            return
        body = self._body()
        if body is None:
            self._cut(reset=False, received=0)
            return
        if fault and fault.status is not None:
            answer = fault.answer(fault.status)
        else:
            answer = hub.answer(self._request(body))
        if fault and fault.lose_answer:
            self._cut(fault.reset, len(body))
            return
        hub.exchanges.append(Exchange(self.command, self.path, answer.status, len(body)))
        self._send(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _request(self, body: bytes) -> Request:
        url = urlsplit(self.path)
        return Request(self.command, url.path, parse_qs(url.query), self.headers, body, self.server.at_storage)

    def _body(self) -> bytes | None:
        """Read the whole body; None if the client closed the connection before its end."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                chunks.append(self.rfile.read(size))
                if self.rfile.readline() != b"\r\n":
                    return None
            self.rfile.readline()
            return b"".join(chunks)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.cut_after is not None:
            self.wfile.write(answer.body[: fault.cut_after])
            self._close(fault.reset)
        else:
            self.wfile.write(answer.body)

    def _hang(self) -> None:
        """Read until the client, or the end of the hub, closes the connection."""
        while self.rfile.read1():
            pass
        self._cut(reset=False, received=0)

    def _cut(self, reset: bool, received: int) -> None:
        self.server.hub.exchanges.append(Exchange(self.command, self.path, 0, received))
        self._close(reset)

    def _close(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            time.sleep(0.05)  # a reset drops what was sent and has not arrived yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: `LoopbackHub.exchanges` is the log."""
