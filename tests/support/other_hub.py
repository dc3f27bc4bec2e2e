"""A second Hub on 127.0.0.1, written from the requests of huggingface_hub, for faults at any one of them.

It shares no code with `hf_vits.testing.hub`, so that what both get wrong is not taken for right. One event loop in a
thread reads and writes HTTP/1.1 by itself: an answer can be cut at any byte, and a request while it is sent.
It is a Hub without Xet: large files go by LFS to a second port, in parts if they are large, under signed addresses.
"""

import asyncio
import base64
import copy
import functools
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN, READER = "hf_secretOfAnn", "hf_secretOfBob"
USERS = {TOKEN: "ann", READER: "bob"}
SIGNATURE = "X-Amz-Signature=5e0f51a7ed"
HTML = b"<html><head><title>502 Bad Gateway</title></head><body>cloudfront</body></html>"

# {fault: (status, headers, body)} of the faults that are answers
ANSWERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "401": (401, {"X-Error-Message": "Invalid username or password."}, b'{"error":"Invalid username or password."}'),
    "403": (403, {"X-Error-Message": "Forbidden"}, b'{"error":"Forbidden"}'),
    "404": (404, {"X-Error-Code": "RepoNotFound"}, b'{"error":"Repository not found"}'),
    "404 bare": (404, {}, b"Not Found"),
    "429": (429, {}, b'{"error":"Too many requests"}'),
    "429 after a second": (429, {"Retry-After": "1"}, b'{"error":"Too many requests"}'),
    "429 after an hour": (429, {"Retry-After": "3600"}, b'{"error":"Too many requests"}'),
    "500": (500, {}, b'{"error":"Internal Error - We are working hard to fix this"}'),
    "502 html": (502, {"Content-Type": "text/html"}, HTML),
}
FAULTS = (*ANSWERS, "cut while sending", "cut while receiving", "never answered")


class Denied(Exception):
    def __init__(self, status: int, text: str, **headers: str):
        self.answer = status, {"X-Error-Message": text} | headers, json.dumps({"error": text}).encode()


@dataclass
class Call:
    """A request: where it was sent ("hub" or "storage"), method, path, query, headers in lower case and body."""

    port: str
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class Repo:
    """Commits as (id, message, {path: (content, whether by LFS)}), oldest first."""

    private: bool
    commits: list[tuple[str, str, dict[str, tuple[bytes, bool]]]] = field(default_factory=list)

    def add(self, message: str, files: dict[str, tuple[bytes, bool]]) -> str:
        text = repr([len(self.commits), message, sorted((name, identity(*file)) for name, file in files.items())])
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), message, files))
        return self.commits[-1][0]

    def files(self, revision: str = "main") -> dict[str, tuple[bytes, bool]]:
        return self.find(revision)[2]

    def find(self, revision: str) -> tuple[str, str, dict[str, tuple[bytes, bool]]]:
        found = [commit for commit in self.commits if revision in ("main", commit[0])]
        if not found:
            raise Denied(404, f"Invalid rev id: {revision}", **{"X-Error-Code": "RevisionNotFound"})
        return found[-1]


def identity(content: bytes, lfs: bool) -> str:
    """Return what names a version of a file: sha256 of a large file, git's hash of another."""
    if lfs:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def reply(data: Any, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"} | headers, json.dumps(data).encode()


class OtherHub:
    """A Hub that runs during its `with` block, and fails where `fail` says.

    Args:
        part: large files of more bytes are uploaded in parts of so many.

    Attributes:
        repos: {name: repository}.
        calls: (method, path) of every request that arrived.
        hits: number of requests that failed as asked.
    """

    def __init__(self, part: int = 40_000) -> None:
        self.part = part
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self.hits = 0
        self._fault: tuple[str, int, int] | None = None
        self._loop = asyncio.new_event_loop()
        self._ports: dict[str, int] = {}

    def __enter__(self) -> "OtherHub":
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[ready], daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def state(self) -> Any:
        """Return all that the Hub holds, for `restore`."""
        return copy.deepcopy((self.repos, self.large, self.parts))

    def restore(self, state: Any) -> None:
        self.repos, self.large, self.parts = copy.deepcopy(state)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        for port in ("hub", "storage"):
            serve = asyncio.start_server(functools.partial(self._talk, port), "127.0.0.1")
            server = self._loop.run_until_complete(serve)
            self._ports[port] = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        for task in (tasks := asyncio.all_tasks(self._loop)):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def url(self, port: str = "hub") -> str:
        return f"http://127.0.0.1:{self._ports[port]}"

    def fail(self, fault: str | None, first: int = 0, times: int = 1) -> None:
        """Let `times` requests fail from the one numbered `first`, counted from now; None: fail no more."""
        self.calls, self.hits = [], 0
        self._fault = None if fault is None else (fault, first, times)

    # HTTP.

    async def _talk(self, port: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(port, reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _exchange(self, port: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection may be used for another."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        line, *lines = head.rstrip().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        address = urlsplit(target)
        call = Call(port, method, unquote(address.path), parse_qs(address.query), headers)
        fault = self._take()
        self.calls.append((method, f"{port}:{call.path}"))
        if fault == "never answered":
            await reader.read()
            return False
        size = int(headers.get("content-length", 0))
        if fault == "cut while sending":
            await reader.readexactly(size // 2)
            return False
        if headers.get("transfer-encoding") == "chunked":
            while length := int(await reader.readline(), 16):
                call.body += (await reader.readexactly(length + 2))[:-2]
            await reader.readline()
        else:
            call.body = await reader.readexactly(size)
        status, more, body = ANSWERS.get(fault or "") or self._answer(call)
        head = f"HTTP/1.1 {status} -\r\n"
        for name, value in ({"Content-Length": str(len(body))} | more).items():
            head += f"{name}: {value}\r\n"
        sent = b"" if method == "HEAD" else body
        whole = f"{head}\r\n".encode("latin-1") + sent
        if fault == "cut while receiving":
            writer.write(whole[: -(len(sent) // 2 or len(whole) // 2)])
            await writer.drain()
            writer.write_eof()
            await reader.read()
            return False
        writer.write(whole)
        await writer.drain()
        return True

    def _take(self) -> str | None:
        number = len(self.calls)
        if self._fault is None or not self._fault[1] <= number < self._fault[1] + self._fault[2]:
            return None
        self.hits += 1
        return self._fault[0]

    # The Hub.

    def _answer(self, call: Call) -> tuple[int, dict[str, str], bytes]:
        try:
            for pattern, answer in ROUTES:
                if found := re.fullmatch(pattern, f"{call.method} {call.port}:{call.path}"):
                    return answer(self, call, *found.groups())
            raise Denied(404, f"no {call.method} {call.path} here", **{"X-Error-Code": "RepoNotFound"})
        except Denied as denied:
            return denied.answer

    def _user(self, call: Call) -> str | None:
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in USERS:
            raise Denied(401, "Invalid credentials in Authorization header")
        return USERS.get(token)

    def _repo(self, call: Call, name: str, write: bool = False) -> Repo:
        user, repo = self._user(call), self.repos.get(name)
        owner = user == name.split("/")[0]
        if repo is None or (repo.private and not owner):
            raise Denied(404 if user else 401, "Repository not found", **{"X-Error-Code": "RepoNotFound"})
        if write and not owner:
            raise Denied(403 if user else 401, "You need write access")
        return repo

    def whoami(self, call: Call) -> Any:
        user = self._user(call)
        if user is None:
            raise Denied(401, "Invalid username or password.")
        return reply({"name": user, "type": "user", "orgs": []})

    def card(self, call: Call) -> Any:
        wrong = [] if call.data["content"].startswith("---\n") else [{"message": "no metadata"}]
        return reply({"errors": wrong, "warnings": []}, 400 if wrong else 200)

    def create(self, call: Call) -> Any:
        user = self._user(call)
        name = f"{call.data.get('organization') or user}/{call.data['name']}"
        if user is None or user != name.split("/")[0]:
            raise Denied(403 if user else 401, f"no rights in the namespace of {name}")
        if name in self.repos:
            return reply({"error": "You already created this model repo", "url": f"{self.url()}/{name}"}, 409)
        self.repos[name] = Repo(call.data.get("visibility") == "private" or call.data.get("private") is True)
        self.repos[name].add("initial commit", {".gitattributes": (b"*.safetensors filter=lfs\n", False)})
        return reply({"url": f"{self.url()}/{name}", "name": name, "id": "1"})

    def info(self, call: Call, name: str, revision: str | None) -> Any:
        repo = self._repo(call, name)
        sha, _, files = repo.find(revision or "main")
        listed = {"siblings": [{"rfilename": path} for path in sorted(files)]}
        return reply({"id": name, "modelId": name, "sha": sha, "private": repo.private, "tags": []} | listed)

    def refs(self, call: Call, name: str) -> Any:
        head = self._repo(call, name).find("main")[0]
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": head}
        return reply({"branches": [branch], "tags": [], "converts": []})

    def tree(self, call: Call, name: str, revision: str, folder: str | None) -> Any:
        inside = f"{folder}/" if folder else ""
        files = self._repo(call, name).files(revision)
        found = {path: file for path, file in files.items() if path.startswith(inside)}
        if not found:
            raise Denied(404, f"{folder} does not exist", **{"X-Error-Code": "EntryNotFound"})
        entries = []
        for path, (content, lfs) in sorted(found.items()):
            entry = {"type": "file", "path": path, "size": len(content), "oid": identity(content, False)}
            large = {"oid": identity(content, True), "size": len(content), "pointerSize": 130}
            entries.append(entry | ({"lfs": large} if lfs else {}))
        return reply(entries)

    def preupload(self, call: Call, name: str, revision: str) -> Any:
        files = self._repo(call, name, write=True).files(revision)
        return reply(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                        "oid": identity(*files[file["path"]]) if file["path"] in files else None,
                    }
                    for file in call.data["files"]
                ]
            }
        )

    def batch(self, call: Call, name: str) -> Any:
        self._repo(call, name, write=True)
        objects = []
        for wanted in call.data["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            if oid not in self.large:
                check = {"href": f"{self.url()}/{name}/verify"}
                wanted["actions"] = {"upload": self._where(oid, size), "verify": check}
            objects.append(wanted)
        return reply({"transfer": "basic", "objects": objects})

    def _where(self, oid: str, size: int) -> dict[str, Any]:
        address = f"{self.url('storage')}/{oid}"
        if size <= self.part:
            return {"href": f"{address}?{SIGNATURE}"}
        parts = {f"{number + 1:05}": f"{address}/{number}?{SIGNATURE}" for number in range(-(-size // self.part))}
        return {"href": f"{self.url()}/complete?{SIGNATURE}", "header": {"chunk_size": str(self.part)} | parts}

    def verify(self, call: Call, name: str) -> Any:
        self._repo(call, name, write=True)
        if len(self.large.get(call.data["oid"], b"")) != call.data["size"]:
            raise Denied(404, "no such object")
        return reply({"success": True})

    def complete(self, call: Call) -> Any:
        oid, count = call.data["oid"], len(call.data["parts"])
        return self._keep(oid, b"".join(self.parts.get((oid, number), b"") for number in range(count)))

    def _keep(self, oid: str, content: bytes) -> Any:
        if identity(content, True) != oid:
            raise Denied(400, "BadDigest")
        self.large[oid] = content
        return reply({})

    def commit(self, call: Call, name: str, revision: str) -> Any:
        repo = self._repo(call, name, write=True)
        head, _, before = repo.find(revision)
        (header, *steps) = [(line["key"], line["value"]) for line in map(json.loads, call.body.splitlines())]
        if header[1].get("parentCommit", head) != head:
            raise Denied(412, "A commit has happened since. Please refresh and try again.")
        files = dict(before)
        for kind, value in steps:
            if kind == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), False)
            elif kind == "lfsFile":
                files[value["path"]] = (self.large[value["oid"]], True)
            else:
                del files[value["path"]]
        oid = repo.add(header[1]["summary"], files)
        return reply({"success": True, "commitOid": oid, "commitUrl": f"{self.url()}/{name}/commit/{oid}"})

    # Files.

    def resolve(self, call: Call, name: str, revision: str, path: str) -> Any:
        repo = self._repo(call, name)
        sha, _, files = repo.find(revision)
        headers = {"X-Repo-Commit": sha}
        if path not in files:
            raise Denied(404, "Entry not found", **headers, **{"X-Error-Code": "EntryNotFound"})
        content, lfs = files[path]
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{identity(content, lfs)}"'}
        place = f"{self.url('storage')}/{identity(content, True)}?{SIGNATURE}"
        headers["Location"] = place if lfs else f"/api/resolve-cache/models/{name}/{sha}/{path}"
        return (302 if lfs else 307), headers, b"Redirecting"

    def cached(self, call: Call, name: str, sha: str, path: str) -> Any:
        content, lfs = self._repo(call, name).files(sha)[path]
        return self._piece(call, content, {"ETag": f'"{identity(content, lfs)}"', "X-Repo-Commit": sha})

    def download(self, call: Call, oid: str) -> Any:
        self._check_signed(call)
        return self._piece(call, self.large[oid], {"ETag": f'"{oid[:32]}"'})

    def upload(self, call: Call, oid: str, part: str | None) -> Any:
        self._check_signed(call)
        if part is None:
            return self._keep(oid, call.body)
        self.parts[oid, int(part)] = call.body
        return reply({}, ETag=f'"{identity(call.body, True)}"')

    def _check_signed(self, call: Call) -> None:
        if "authorization" in call.headers or SIGNATURE.split("=")[0] not in call.query:
            raise Denied(403, "SignatureDoesNotMatch")

    def _piece(self, call: Call, content: bytes, headers: dict[str, str]) -> Any:
        start = re.fullmatch(r"bytes=(\d+)-", call.headers.get("range", ""))
        if start is None:
            return 200, headers | {"Content-Length": str(len(content))}, content
        begin = int(start[1])
        headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        return 206, headers, content[begin:]


NAME = "([^/:]+/[^/]+)"
MODEL = f"hub:/api/models/{NAME}"
ROUTES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("GET hub:/api/whoami-v2", OtherHub.whoami),
    ("POST hub:/api/validate-yaml", OtherHub.card),
    ("POST hub:/api/repos/create", OtherHub.create),
    (f"GET {MODEL}(?:/revision/([^/]+))?", OtherHub.info),
    (f"GET {MODEL}/refs", OtherHub.refs),
    (f"GET {MODEL}/tree/([^/]+)(?:/(.+))?", OtherHub.tree),
    (f"POST {MODEL}/preupload/([^/]+)", OtherHub.preupload),
    (f"POST {MODEL}/commit/([^/]+)", OtherHub.commit),
    (rf"POST hub:/{NAME}\.git/info/lfs/objects/batch", OtherHub.batch),
    (f"POST hub:/{NAME}/verify", OtherHub.verify),
    ("POST hub:/complete", OtherHub.complete),
    (f"(?:GET|HEAD) hub:/{NAME}/resolve/([^/]+)/(.+)", OtherHub.resolve),
    (f"(?:GET|HEAD) hub:/api/resolve-cache/models/{NAME}/([^/]+)/(.+)", OtherHub.cached),
    ("GET storage:/([0-9a-f]{64})", OtherHub.download),
    ("PUT storage:/([0-9a-f]{64})(?:/([0-9]+))?", OtherHub.upload),
)
