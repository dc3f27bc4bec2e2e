"""A Hugging Face Hub on 127.0.0.1, for tests and `make demo`, which must not need the real one.

`LoopbackHub` is an HTTP server with the routes that huggingface_hub 2.4 uses: accounts and tokens,
repositories (models, datasets, spaces), revisions and trees, preupload, LFS upload (in one piece or in parts),
commits, downloads with etags and ranges, and the check of a card's metadata. As with the real Hub, large files live on
a second origin (a second port) with signed addresses that refuse requests with a token. Everything is kept in memory.

Differences from the real Hub:

- No Xet storage. The client uploads through Xet whenever hf_xet is installed, without asking the Hub, so
  `HF_HUB_DISABLE_XET=1` must be set; `environment()` and `in_process()` do that. The client then uploads by LFS.
- An anonymous request for a missing or private repository is answered with 401, as by the real Hub, but with
  `X-Error-Code: RepoNotFound`: without it, the client understands 401 in this way only if the address is https.
- No pull requests, and listings come in one page.
"""

import os
import re
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from .api import Account, HubApi
from .http import Exchange, Fault, Server
from .store import Repository


class LoopbackHub(HubApi):
    """A Hub on 127.0.0.1 that runs during its `with` block.

    ```python
    with LoopbackHub() as hub, hub.in_process(home):
        push_to_hub(model, "user/tiny", token=hub.token)
        AutoModel.from_pretrained("user/tiny")
    ```

    Args:
        user: name of a user and of the namespace that this user owns.
        multipart_above: large files of more bytes than this are uploaded in parts of this size.

    Attributes:
        token: a token of `user` with write access.
        exchanges: every request answered, in order.
        lfs_uploads: the sha256 of every large object received, in order.
    """

    def __init__(self, user: str = "user", *, multipart_above: int | None = None):
        super().__init__(multipart_above=multipart_above)
        self.user = user
        self.token = self.add_account(user)
        self.exchanges: list[Exchange] = []
        self._faults: list[Fault] = []
        self._servers: list[Server] = []

    def __enter__(self) -> "LoopbackHub":
        self._servers = [Server(self, at_storage=False), Server(self, at_storage=True)]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.close_connections()
        self._servers = []

    @property
    def endpoint(self) -> str:
        """Return the address to pass as `endpoint=` or `HF_ENDPOINT`."""
        return self._origin(0)

    @property
    def storage(self) -> str:
        return self._origin(1)

    def _origin(self, index: int) -> str:
        if not self._servers:
            raise RuntimeError("LoopbackHub is not running: use it as `with LoopbackHub() as hub:`")
        return f"http://127.0.0.1:{self._servers[index].server_port}"

    def add_account(self, name: str, role: str = "write") -> str:
        """Make a token for the user `name` that allows to `"read"` or also to `"write"`, and return it."""
        if role not in ("read", "write"):
            raise ValueError(f"role must be 'read' or 'write', got {role!r}")
        token = f"hf_{secrets.token_hex(17)}"
        self.accounts[token] = Account(name, token, role)
        return token

    def repository(self, repo_id: str, kind: str = "model") -> Repository:
        """Return a repository with its commits and files; KeyError if there is none."""
        return self.repositories[kind, repo_id]

    def fault(
        self,
        *,
        method: str | None = None,
        path: str = "",
        status: int | None = None,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
        cut_after: int | None = None,
        reset: bool = False,
        lose_answer: bool = False,
        hang: bool = False,
        after: int = 0,
    ) -> Fault:
        """Make the next `times` requests fail whose method and path with query match `method` and the regex `path`.

        The first `after` of them are answered as usual.

        Exactly one way to fail is given:

        - `status`: answer with this status and `headers`, and do nothing else.
        - `cut_after`: cut the connection after so many bytes of the request body or, if there is none, of the answer;
          with a TCP reset if `reset`.
        - `lose_answer`: do what is asked, then cut the connection before answering.
        - `hang`: never answer, and keep the connection open.

        Returns the fault, which counts its `hits`.
        """
        if sum((status is not None, cut_after is not None, lose_answer, hang)) != 1:
            raise ValueError("a fault has exactly one of status=, cut_after=, lose_answer=True and hang=True")
        fault = Fault(
            method, re.compile(path), status, times, headers or {}, cut_after, reset, lose_answer, hang, after
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def environment(self, home: Path | str, token: str | None = None) -> dict[str, str]:
        """Return environment variables with which a new process uses this hub, with its caches below `home`.

        token: the value of `HF_TOKEN`; by default there is none.
        """
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(Path(home, "hub")),
            "HF_MODULES_CACHE": str(Path(home, "modules")),
            "HF_TOKEN_PATH": str(Path(home, "token")),
            "HF_TOKEN": token or "",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    @contextmanager
    def in_process(self, home: Path | str, token: str | None = None) -> Iterator[None]:
        """Make the Hub clients of this process use this hub, with their caches below `home`.

        huggingface_hub and transformers read the environment once, at import, so their variables are changed too
        during the context. Do not enter it in several threads at once.
        """
        import huggingface_hub
        from huggingface_hub import constants, hf_api
        from transformers import dynamic_module_utils
        from transformers.utils import hub as transformers_hub

        environment = self.environment(home, token)
        modules = environment["HF_MODULES_CACHE"]
        with ExitStack() as stack:
            stack.enter_context(patch.dict(os.environ, environment))
            for target, name, value in (
                (constants, "ENDPOINT", self.endpoint),
                (constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"),
                (constants, "HF_HUB_CACHE", environment["HF_HUB_CACHE"]),
                (constants, "HF_TOKEN_PATH", environment["HF_TOKEN_PATH"]),
                (constants, "HF_HUB_DISABLE_XET", True),
                (constants, "HF_HUB_OFFLINE", False),
                (hf_api.api, "endpoint", self.endpoint),
                (transformers_hub, "_hf_api", None),
                (transformers_hub, "HF_MODULES_CACHE", modules),
                (dynamic_module_utils, "HF_MODULES_CACHE", modules),
            ):
                stack.enter_context(patch.object(target, name, value))
            stack.enter_context(_fresh_remote_code())
            # The shared client keeps connections and proxy settings, which are valid only inside or only outside.
            huggingface_hub.close_session()
            stack.callback(huggingface_hub.close_session)
            yield

    def take_fault(self, method: str, target: str) -> Fault | None:
        """Return the first scripted fault that matches a request, and count the hit."""
        with self._lock:
            fault = next((fault for fault in self._faults if fault.matches(method, target)), None)
            if fault is None:
                return None
            if fault.after > 0:
                fault.after -= 1
                return None
            fault.hits += 1
            return fault


@contextmanager
def _fresh_remote_code() -> Iterator[None]:
    """Unload the modules that transformers imported from repositories, which belong to one cache folder."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "transformers_modules"]:
            del sys.modules[name]

    search_path = list(sys.path)
    forget()
    try:
        yield
    finally:
        forget()
        sys.path[:] = search_path
