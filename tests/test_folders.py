"""Locked and temporary folders, of processes that are killed."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hf_vits
from hf_vits.folders import locked, temporary_folder
from hf_vits.training import train

from .support.training import tiny_recipe

LOCK = "from hf_vits.folders import locked\nwith locked(folder):"
TEMPORARY = "from hf_vits.folders import temporary_folder\nwith temporary_folder(folder, '.made-') as made:"
WAIT = "\n    print(flush=True)\n    sys.stdin.read()"
# The second folder to be renamed is the new one, when the old one is aside.
REPLACE = """
import os, signal
from hf_vits.folders import replaced
rename, renamed = Path.rename, []
def rename_once(path, target):
    renamed.append(path)
    return rename(path, target) if len(renamed) == 1 else os.kill(os.getpid(), signal.SIGKILL)
Path.rename = rename_once
with replaced(folder / "model") as new:
    new.mkdir()
"""


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Return a function that starts Python lines, which wait after a printed line, and waits for that line."""
    started = []

    def start(lines: str) -> subprocess.Popen:
        code = f"import sys\nfrom pathlib import Path\nfolder = Path({str(tmp_path)!r})\n{lines}"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.communicate()


def test_a_run_locks_its_directory_until_it_is_killed(start, tmp_path):
    other = start(LOCK + WAIT)
    with pytest.raises(OSError, match=rf"{re.escape(str(tmp_path))} is in use by process {other.pid} on .*: wait"):
        train(tiny_recipe(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".owner"}
    other.kill()
    other.wait()
    with locked(tmp_path), pytest.raises(OSError, match="is in use by process"), locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_outlives_a_kill_only_until_the_next(start, tmp_path):
    (tmp_path / ".made-by_users").mkdir()
    (tmp_path / ".made-by_users" / "file").touch()
    killed, alive = start(TEMPORARY + WAIT), start(TEMPORARY + WAIT)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(tmp_path.iterdir())) == 3
    with temporary_folder(tmp_path, ".made-") as made:
        assert not list(made.iterdir())
        assert len(list(tmp_path.iterdir())) == 3
    assert len(list(tmp_path.iterdir())) == 2
    alive.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".made-by_users"]


def test_a_model_being_replaced_survives_a_kill(start, tmp_path):
    from hf_vits.folders import replaced

    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("old")
    killed = start(REPLACE)
    killed.wait()
    assert killed.returncode == -signal.SIGKILL
    assert not model.exists()
    with pytest.raises(RuntimeError), replaced(model):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (model / "config.json").read_text() == "old"


def test_all_temporary_folders_are_of_this_kind():
    sources = Path(hf_vits.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "import tempfile" in path.read_text()] == ["folders.py"]
