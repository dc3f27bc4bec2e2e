"""The contents of `LoopbackHub`: repositories with their commits, files and large objects."""

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

# Files that are stored as large (LFS) files, whatever their size.
LARGE_ENDINGS = (".bin", ".ckpt", ".h5", ".msgpack", ".npy", ".npz", ".onnx", ".pt", ".pth", ".safetensors")
INITIAL_GITATTRIBUTES = "".join(
    f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LARGE_ENDINGS
).encode()


class Refusal(Exception):
    """An error as the Hub answers it: HTTP status, message and possibly an error code."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class StoredFile:
    """A version of a file, identified by its sha256 if it is a large (LFS) file and by git's blob hash otherwise."""

    content: bytes
    lfs: bool

    @property
    def size(self) -> int:
        return len(self.content)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """Return the pointer file that git stores in place of a large file."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @cached_property
    def blob_id(self) -> str:
        data = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass(frozen=True)
class Commit:
    """An immutable state of a repository; `changed` lists the paths that differ from the parent commit."""

    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: datetime
    files: Mapping[str, StoredFile]
    changed: tuple[str, ...]


@dataclass
class Repository:
    """A repository: branches, tags, commits and uploaded large objects. Several threads may use it."""

    kind: str
    id: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self):
        first = self._new_commit(
            None, {".gitattributes": StoredFile(INITIAL_GITATTRIBUTES, lfs=False)}, "initial commit", "", "system"
        )
        self.commits[first.id] = first
        self.branches["main"] = first.id

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    @property
    def head(self) -> Commit:
        return self.at("main")

    def history(self, revision: str = "main") -> list[Commit]:
        """Return the commits that lead to `revision`, newest first."""
        commit: Commit | None = self.at(revision)
        found = []
        while commit is not None:
            found.append(commit)
            commit = self.commits[commit.parent] if commit.parent else None
        return found

    def at(self, revision: str) -> Commit:
        """Return the commit of a branch, tag or commit id; raise `Refusal` (RevisionNotFound) if there is none."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        commit_id = self.branches.get(name) or self.tags.get(name) or name
        if commit_id not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[commit_id]

    def put_object(self, sha256: str, data: bytes) -> None:
        """Store an uploaded large object; raise `Refusal` if `data` does not have this sha256."""
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise Refusal(400, f"BadDigest: the object announced as {sha256} arrived as {found} ({len(data)} bytes)")
        with self.lock:
            self.objects[sha256] = data

    def commit(
        self,
        branch: str,
        added: Mapping[str, StoredFile],
        deleted: Iterable[str],
        *,
        title: str,
        message: str,
        author: str,
        parent: str | None = None,
    ) -> Commit:
        """Add a commit to `branch` and return it.

        Raises `Refusal` (412), as the Hub does, if `parent` is given and is no longer the head of the branch.
        """
        with self.lock:
            if branch not in self.branches:
                raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            base = self.commits[self.branches[branch]]
            if parent is not None and parent != base.id:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = dict(base.files)
            for path in deleted:
                self._delete(files, path)
            files.update(added)
            commit = self._new_commit(base, files, title, message, author)
            self.commits[commit.id] = commit
            self.branches[branch] = commit.id
            return commit

    @staticmethod
    def _delete(files: dict[str, StoredFile], path: str) -> None:
        gone = [name for name in files if name == path or name.startswith(f"{path.rstrip('/')}/")]
        if not gone:
            raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        for name in gone:
            del files[name]

    def _new_commit(
        self, base: Commit | None, files: Mapping[str, StoredFile], title: str, message: str, author: str
    ) -> Commit:
        before = base.files if base else {}
        changed = sorted(path for path in {*before, *files} if before.get(path) != files.get(path))
        date = datetime.now(UTC)
        digest = hashlib.sha1(f"{base and base.id} {len(self.commits)} {date.isoformat()} {title}\n".encode())
        for path in sorted(files):
            digest.update(f"{files[path].blob_id} {path}\n".encode())
        return Commit(
            digest.hexdigest(), base.id if base else None, title, message, author, date, files, tuple(changed)
        )
