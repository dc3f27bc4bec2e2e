"""What `LoopbackHub` keeps: repositories with their commits, files and large objects. Knows no HTTP."""

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

INITIAL_GITATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in (
        "*.bin",
        "*.ckpt",
        "*.h5",
        "*.msgpack",
        "*.npy",
        "*.npz",
        "*.onnx",
        "*.pt",
        "*.pth",
        "*.safetensors",
    )
).encode()


class Refusal(Exception):
    """An answer other than success, as the Hub gives it: HTTP status, message and, where there is one, its code."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class StoredFile:
    """One version of a file. A large (LFS) file is identified by its sha256, any other by git's blob hash."""

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
        """What git itself would hold in place of a large file."""
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
    """A whole state of a repository, never changed; `changed` lists the paths that differ from its parent."""

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
    """Branches, tags, commits and uploaded large objects of one repository. Safe to use from several threads."""

    kind: str
    id: str
    private: bool = False
    gated: bool = False
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
        """The commits that lead to `revision`, newest first."""
        commit: Commit | None = self.at(revision)
        found = []
        while commit is not None:
            found.append(commit)
            commit = self.commits[commit.parent] if commit.parent else None
        return found

    def at(self, revision: str) -> Commit:
        """The commit that a branch, tag or commit id names; a `Refusal` (RevisionNotFound) where there is none."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        commit_id = self.branches.get(name) or self.tags.get(name) or name
        if commit_id not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[commit_id]

    def put_object(self, sha256: str, data: bytes) -> None:
        """Keep an uploaded large object; refused unless `data` is what its name says."""
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
        """Make the next commit of `branch` and only then move the branch to it.

        `parent`, where given, must still be the branch's head, else a `Refusal` (412), as from the Hub.
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
