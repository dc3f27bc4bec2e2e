"""The answers of `LoopbackHub`: one method per route of the Hub's API and of its storage for large files."""

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from .http import Answer, Request
from .metadata import SPACE_SDKS, check_metadata, front_matter
from .store import LARGE_ENDINGS, Commit, Refusal, Repository, StoredFile

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
LARGE_SIZE = 10 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Account:
    """A user of the hub with a token; `role` is what the token allows: `"write"` or `"read"`."""

    name: str
    token: str
    role: str = "write"


Route = tuple[str, re.Pattern[str], str]
_KIND, _REPO, _REVISION = r"(?P<kind>models|datasets|spaces)", r"(?P<repo_id>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
_API = f"/api/{_KIND}/{_REPO}"
_FILES = rf"/(?:(?P<kind>datasets|spaces)/)?{_REPO}"
_ROUTES: tuple[Route, ...] = tuple(
    (method, re.compile(pattern), name)
    for method, pattern, name in (
        ("GET", "/api/whoami-v2", "_whoami"),
        ("POST", "/api/validate-yaml", "_validate_yaml"),
        ("POST", "/api/repos/create", "_create_repository"),
        ("DELETE", "/api/repos/delete", "_delete_repository"),
        ("GET", _API, "_repository_info"),
        ("GET", f"{_API}/revision/{_REVISION}", "_repository_info"),
        ("GET", f"{_API}/refs", "_references"),
        ("GET", f"{_API}/commits/{_REVISION}", "_commits"),
        ("GET", f"{_API}/tree/{_REVISION}(?:/(?P<path>.+))?", "_tree"),
        ("POST", f"{_API}/paths-info/{_REVISION}", "_paths_info"),
        ("POST", f"{_API}/branch/(?P<name>[^/]+)", "_create_branch"),
        ("POST", f"{_API}/tag/{_REVISION}", "_create_tag"),
        ("GET", rf"{_API}/xet-(?:read|write)-token/.+", "_no_xet"),
        ("POST", f"{_API}/preupload/{_REVISION}", "_preupload"),
        ("POST", f"{_API}/commit/{_REVISION}", "_commit"),
        ("POST", rf"{_FILES}\.git/info/lfs/objects/batch", "_lfs_batch"),
        ("POST", rf"{_FILES}\.git/info/lfs/objects/verify", "_lfs_verify"),
        ("POST", f"/complete/{_KIND}/{_REPO}/(?P<oid>[0-9a-f]{{64}})", "_complete_parts"),
        ("GET", f"{_FILES}/resolve/{_REVISION}/(?P<path>.+)", "_resolve"),
        ("HEAD", f"{_FILES}/resolve/{_REVISION}/(?P<path>.+)", "_resolve"),
    )
)
_STORAGE_ROUTES: tuple[Route, ...] = tuple(
    (method, re.compile(f"/{_KIND}/{_REPO}/(?P<oid>[0-9a-f]{{64}}){part}"), name)
    for method, part, name in (
        ("PUT", "", "_storage_put"),
        ("PUT", "/(?P<part>[0-9]+)", "_storage_put_part"),
        ("GET", "", "_storage_get"),
    )
)


class HubApi:
    """The state of a hub and its answers to requests, independent of sockets and scripted faults.

    Args:
        multipart_above: large files of more bytes than this are uploaded in parts of this size.

    Attributes:
        lfs_uploads: the sha256 of every large object received, in order.
    """

    def __init__(self, *, multipart_above: int | None = None):
        self.multipart_above = multipart_above
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.lfs_uploads: list[str] = []
        self._parts: dict[tuple[str, str, str], dict[int, bytes]] = {}
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Return the address of the API, without trailing slash."""
        raise NotImplementedError

    @property
    def storage(self) -> str:
        """Return the address of the storage for large files, without trailing slash."""
        raise NotImplementedError

    def answer(self, request: Request) -> Answer:
        """Handle a request; a `Refusal` that is raised becomes the answer."""
        try:
            for method, pattern, name in _STORAGE_ROUTES if request.at_storage else _ROUTES:
                found = pattern.fullmatch(request.path)
                if found and method == request.method:
                    values = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                    handler: Callable[..., Answer] = getattr(self, name)
                    return handler(request, **values)
            return self._no_route(request)
        except Refusal as refusal:
            return Answer.refusing(refusal)

    # Accounts and their rights.

    def _account(self, request: Request) -> Account | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        account = self.accounts.get(header.removeprefix("Bearer "))
        if account is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return account

    def _writer(self, request: Request, namespace: str) -> Account:
        account = self._account(request)
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        if account.role != "write":
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        if account.name != namespace:
            raise Refusal(403, f'You don\'t have the rights to write under the namespace "{namespace}"')
        return account

    def _visible(self, request: Request, kind: str, repo_id: str, *, files: bool = False) -> Repository:
        account = self._account(request)
        repository = self.repositories.get((KINDS[kind], repo_id))
        owned = account is not None and account.name == repo_id.split("/")[0]
        if repository is None or (repository.private and not owned):
            if account is None:
                raise Refusal(401, "Invalid username or password.", "RepoNotFound")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if files and repository.gated and not owned:
            raise Refusal(
                403 if account else 401,
                f"Access to {repository.kind} {repo_id} is restricted and you are not in the authorized list.",
                "GatedRepo",
            )
        return repository

    def _writable(self, request: Request, kind: str, repo_id: str) -> tuple[Repository, Account]:
        repository = self._visible(request, kind, repo_id)
        return repository, self._writer(request, repository.owner)

    def _no_route(self, request: Request) -> Answer:
        # `AutoModel.from_pretrained("name")` asks for a name without namespace: no repository has one.
        if re.match(r"/api/(models|datasets|spaces)/|.+/resolve/", request.path):
            self._visible(request, "models", "")
        raise Refusal(404, f"{request.method} {request.path}: not a route of this hub")

    # Accounts, cards, repositories.

    def _whoami(self, request: Request) -> Answer:
        account = self._account(request)
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        access = {"displayName": "loopback", "role": account.role}
        return Answer.of(
            {
                "type": "user",
                "id": _stable_id(account.name),
                "name": account.name,
                "fullname": account.name,
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": access},
            }
        )

    def _validate_yaml(self, request: Request) -> Answer:
        data = request.json()
        errors, warnings = check_metadata(str(data.get("content", "")), data.get("repoType", "model"))
        data = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
        return Answer.of(data, 400 if errors else 200)

    def _create_repository(self, request: Request) -> Answer:
        data = request.json()
        kind, repo_id = self._named(request, data)
        self._writer(request, repo_id.split("/")[0])
        private = data.get("visibility") == "private" or data.get("private") is True
        if kind == "space" and data.get("sdk") not in SPACE_SDKS:
            raise Refusal(400, f'"sdk" must be one of {", ".join(sorted(SPACE_SDKS))}; got {data.get("sdk")!r}')
        url = f"{self.endpoint}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
        with self._lock:
            if (kind, repo_id) in self.repositories:
                return Answer.of({"error": f"You already created this {kind} repo", "url": url}, 409)
            self.repositories[kind, repo_id] = Repository(kind, repo_id, private=private, sdk=data.get("sdk"))
        return Answer.of({"url": url, "name": repo_id, "id": _stable_id(repo_id)})

    def _delete_repository(self, request: Request) -> Answer:
        kind, repo_id = self._named(request, request.json())
        self._writable(request, f"{kind}s", repo_id)
        del self.repositories[kind, repo_id]
        return Answer.of({})

    def _named(self, request: Request, data: Mapping[str, Any]) -> tuple[str, str]:
        """Return the kind and id of the repository that a body names, by default in the user's own namespace."""
        account = self._account(request)
        namespace = data.get("organization") or (account.name if account else "")
        return data.get("type", "model"), f"{namespace}/{data['name']}"

    def _repository_info(self, request: Request, kind: str, repo_id: str, revision: str = "main") -> Answer:
        repository = self._visible(request, kind, repo_id)
        commit = repository.at(revision)
        metadata = front_matter(commit.files["README.md"].content.decode()) if "README.md" in commit.files else {}
        data = {
            "_id": _stable_id(repo_id),
            "id": repo_id,
            "modelId": repo_id,
            "author": repository.owner,
            "sha": commit.id,
            "lastModified": _date(commit),
            "createdAt": _date(repository.history()[-1]),
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": metadata.get("tags", []),
            "cardData": metadata,
            "siblings": [
                self._sibling(path, file, request.flag("blobs")) for path, file in sorted(commit.files.items())
            ],
        }
        data |= {key: metadata[key] for key in ("pipeline_tag", "library_name") if key in metadata}
        if repository.kind == "space":
            data["sdk"] = metadata.get("sdk", repository.sdk)
        return Answer.of(data)

    @staticmethod
    def _sibling(path: str, file: StoredFile, details: bool) -> dict[str, Any]:
        sibling: dict[str, Any] = {"rfilename": path}
        if details:
            sibling |= {"size": file.size, "blobId": file.blob_id}
        if details and file.lfs:
            sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        return sibling

    # Revisions and trees.

    def _references(self, request: Request, kind: str, repo_id: str) -> Answer:
        repository = self._visible(request, kind, repo_id)

        def listed(names: Mapping[str, str], folder: str) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": id} for name, id in names.items()]

        branches, tags = listed(repository.branches, "heads"), listed(repository.tags, "tags")
        return Answer.of({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    def _commits(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        history = self._visible(request, kind, repo_id).history(revision)
        return Answer.of(
            [
                {
                    "id": commit.id,
                    "title": commit.title,
                    "message": commit.message,
                    "authors": [{"user": commit.author}],
                    "date": _date(commit),
                }
                for commit in history
            ]
        )

    def _create_branch(self, request: Request, kind: str, repo_id: str, name: str) -> Answer:
        repository, _ = self._writable(request, kind, repo_id)
        start = repository.at(request.json().get("startingPoint", "main"))
        if name in repository.branches:
            raise Refusal(409, f"Reference already exists: refs/heads/{name}")
        repository.branches[name] = start.id
        return Answer.of({})

    def _create_tag(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        repository, _ = self._writable(request, kind, repo_id)
        name = request.json()["tag"]
        if name in repository.tags:
            raise Refusal(409, f"Reference already exists: refs/tags/{name}")
        repository.tags[name] = repository.at(revision).id
        return Answer.of({})

    def _tree(self, request: Request, kind: str, repo_id: str, revision: str, path: str = "") -> Answer:
        history = self._visible(request, kind, repo_id).history(revision)
        commit = history[0]
        prefix = f"{path}/" if path else ""
        below = [name for name in sorted(commit.files) if name.startswith(prefix)]
        if prefix and not below:
            raise Refusal(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        entries: dict[str, dict[str, Any]] = {}
        for name in below:
            parts = name.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if request.flag("recursive") else min(2, len(parts))):
                folder = prefix + "/".join(parts[:depth])
                entries[folder] = {"type": "directory", "oid": _stable_id(folder), "size": 0, "path": folder}
            if len(parts) == 1 or request.flag("recursive"):
                entries[name] = self._tree_entry(name, history, request.flag("expand"))
        return Answer.of(list(entries.values()))

    def _paths_info(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        history = self._visible(request, kind, repo_id).history(revision)
        form = parse_qs(request.body.decode())
        expand = form.get("expand", [""])[0].lower() == "true"
        paths = [path for path in form.get("paths", []) if path in history[0].files]
        return Answer.of([self._tree_entry(path, history, expand) for path in paths])

    @staticmethod
    def _tree_entry(path: str, history: list[Commit], expand: bool) -> dict[str, Any]:
        file = history[0].files[path]
        entry: dict[str, Any] = {"type": "file", "oid": file.blob_id, "size": file.size, "path": path}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        if expand:
            commit = next(commit for commit in history if path in commit.changed)
            entry["lastCommit"] = {"id": commit.id, "title": commit.title, "date": _date(commit)}
        return entry

    # Uploads: preupload decides how each file is sent, large files go to storage, the commit lists them all.

    def _no_xet(self, request: Request, kind: str, repo_id: str) -> Answer:
        self._visible(request, kind, repo_id)
        raise Refusal(404, "This hub has no Xet storage: set HF_HUB_DISABLE_XET=1, so that the client uploads by LFS.")

    def _preupload(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        repository, _ = self._writable(request, kind, repo_id)
        if request.flag("create_pr"):
            raise Refusal(400, "This hub has no pull requests.")
        present = repository.at(revision).files
        return Answer.of(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if _is_large(file) else "regular",
                        "shouldIgnore": False,
                        "oid": present[file["path"]].etag if file["path"] in present else None,
                    }
                    for file in request.json()["files"]
                ]
            }
        )

    def _lfs_batch(self, request: Request, repo_id: str, kind: str = "models") -> Answer:
        repository, _ = self._writable(request, kind, repo_id)
        objects = []
        for item in request.json()["objects"]:
            answer = {"oid": item["oid"], "size": item["size"], "authenticated": True}
            if item["oid"] not in repository.objects:
                answer["actions"] = self._upload_actions(kind, repo_id, item["oid"], item["size"])
            objects.append(answer)
        return Answer.of({"transfer": "basic", "objects": objects})

    def _upload_actions(self, kind: str, repo_id: str, oid: str, size: int) -> dict[str, Any]:
        prefix = "" if kind == "models" else f"{kind}/"
        verify = {"href": f"{self.endpoint}/{prefix}{repo_id}.git/info/lfs/objects/verify", "header": {}}
        target = f"/{kind}/{repo_id}/{oid}"
        chunk = self.multipart_above
        if chunk is None or size <= chunk:
            return {"upload": {"href": self._signed(self.storage, "PUT", target), "header": {}}, "verify": verify}
        parts = range(1, -(-size // chunk) + 1)
        header = {f"{part:05d}": self._signed(self.storage, "PUT", f"{target}/{part}") for part in parts}
        href = self._signed(self.endpoint, "POST", f"/complete{target}")
        return {"upload": {"href": href, "header": {"chunk_size": str(chunk), **header}}, "verify": verify}

    def _lfs_verify(self, request: Request, repo_id: str, kind: str = "models") -> Answer:
        repository, _ = self._writable(request, kind, repo_id)
        data = request.json()
        found = repository.objects.get(data["oid"])
        if found is None or len(found) != data["size"]:
            raise Refusal(404, f"object {data['oid']} of {data['size']} bytes was not uploaded")
        return Answer.of({})

    def _complete_parts(self, request: Request, kind: str, repo_id: str, oid: str) -> Answer:
        self._check_signature(request)
        parts = self._parts.pop((kind, repo_id, oid), {})
        named = [(part["partNumber"], part["etag"]) for part in request.json()["parts"]]
        if named != [(number, _part_etag(parts[number])) for number in sorted(parts)]:
            raise Refusal(400, "InvalidPart: the parts named are not those uploaded")
        return self._keep_object(kind, repo_id, oid, b"".join(parts[number] for number in sorted(parts)))

    def _keep_object(self, kind: str, repo_id: str, oid: str, data: bytes) -> Answer:
        repository = self.repositories.get((KINDS[kind], repo_id))
        if repository is None:
            raise Refusal(404, "NoSuchBucket")
        repository.put_object(oid, data)
        with self._lock:
            self.lfs_uploads.append(oid)
        return Answer(headers={"ETag": f'"{oid}"'})

    def _commit(self, request: Request, kind: str, repo_id: str, revision: str) -> Answer:
        repository, account = self._writable(request, kind, repo_id)
        if request.flag("create_pr"):
            raise Refusal(400, "This hub has no pull requests.")
        try:
            lines = [json.loads(line) for line in request.body.splitlines()]
            header = next(line["value"] for line in lines if line["key"] == "header")
        except (ValueError, KeyError, StopIteration) as error:
            raise Refusal(400, f"the commit cannot be read: {error!r}") from error
        added = {line["value"]["path"]: file for line in lines if (file := _added_file(line, repository))}
        deleted = [line["value"]["path"] for line in lines if line["key"] in ("deletedFile", "deletedFolder")]
        if "README.md" in added:
            errors, _ = check_metadata(added["README.md"].content.decode(), repository.kind)
            if errors:
                raise Refusal(400, f"Invalid metadata in README.md: {'; '.join(errors)}")
        commit = repository.commit(
            revision,
            added,
            deleted,
            title=header["summary"],
            message=header.get("description", ""),
            author=account.name,
            parent=header.get("parentCommit"),
        )
        url = f"{self.endpoint}/{'' if kind == 'models' else kind + '/'}{repo_id}/commit/{commit.id}"
        return Answer.of({"success": True, "commitOid": commit.id, "commitUrl": url, "hookOutput": ""})

    # Downloads.

    def _resolve(self, request: Request, repo_id: str, revision: str, path: str, kind: str = "models") -> Answer:
        repository = self._visible(request, kind, repo_id, files=True)
        commit = repository.at(revision)
        headers = {"X-Repo-Commit": commit.id}
        file = commit.files.get(path)
        if file is None:
            raise Refusal(404, "Entry not found", "EntryNotFound", headers)
        if not file.lfs:
            return _content(request, file, headers)
        headers |= {
            "X-Linked-Etag": f'"{file.etag}"',
            "X-Linked-Size": str(file.size),
            "Location": self._signed(self.storage, "GET", f"/{kind}/{repo_id}/{file.sha256}"),
        }
        return Answer(302, headers)

    # The storage for large files: a second origin with signed addresses and without tokens.

    def _signed(self, origin: str, method: str, target: str) -> str:
        return f"{origin}{quote(target)}?signature={self._signature(method, quote(target))}"

    def _signature(self, method: str, target: str) -> str:
        return hashlib.blake2b(f"{method} {target}".encode(), key=self._secret, digest_size=20).hexdigest()

    def _check_signature(self, request: Request) -> None:
        if request.query.get("signature") != [self._signature(request.method, request.path)]:
            raise Refusal(403, "SignatureDoesNotMatch")
        if request.at_storage and "Authorization" in request.headers:
            raise Refusal(400, "InvalidArgument: a signed address must not be sent a token")

    def _storage_put(self, request: Request, kind: str, repo_id: str, oid: str) -> Answer:
        self._check_signature(request)
        return self._keep_object(kind, repo_id, oid, request.body)

    def _storage_put_part(self, request: Request, kind: str, repo_id: str, oid: str, part: str) -> Answer:
        self._check_signature(request)
        with self._lock:
            self._parts.setdefault((kind, repo_id, oid), {})[int(part)] = request.body
        return Answer(headers={"ETag": _part_etag(request.body)})

    def _storage_get(self, request: Request, kind: str, repo_id: str, oid: str) -> Answer:
        self._check_signature(request)
        repository = self.repositories.get((KINDS[kind], repo_id))
        data = repository.objects.get(oid) if repository else None
        if data is None:
            raise Refusal(404, "NoSuchKey")
        return _content(request, StoredFile(data, lfs=True), {})


def _stable_id(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()[:24]


def _part_etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _date(commit: Commit) -> str:
    return commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _is_large(file: Mapping[str, Any]) -> bool:
    """Return whether a file announced at preupload goes to storage: by its ending, its size or binary content."""
    sample = base64.b64decode(file.get("sample", ""))
    try:
        sample[:-4].decode()  # the sample may end in the middle of a character
    except UnicodeDecodeError:
        return True
    return file["path"].endswith(LARGE_ENDINGS) or file["size"] > LARGE_SIZE or b"\0" in sample


def _added_file(line: Mapping[str, Any], repository: Repository) -> StoredFile | None:
    value = line["value"]
    if line["key"] == "file":
        return StoredFile(base64.b64decode(value["content"]), lfs=False)
    if line["key"] == "lfsFile":
        data = repository.objects.get(value["oid"])
        if data is None or len(data) != value.get("size", len(data)):
            raise Refusal(
                400, f"LFS pointer of {value['path']} points to a file that was not uploaded: {value['oid']}"
            )
        return StoredFile(data, lfs=True)
    return None


def _content(request: Request, file: StoredFile, headers: Mapping[str, str]) -> Answer:
    headers = {
        **headers,
        "ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if wanted is None:
        return Answer(200, headers, file.content)
    start, stop = int(wanted[1]), int(wanted[2] or file.size - 1) + 1
    if start >= file.size:
        raise Refusal(416, "InvalidRange", headers={"Content-Range": f"bytes */{file.size}"})
    headers["Content-Range"] = f"bytes {start}-{min(stop, file.size) - 1}/{file.size}"
    return Answer(206, headers, file.content[start:stop])
