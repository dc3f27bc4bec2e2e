"""The test mixins of the installed transformers release, which only its source distribution carries."""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import transformers
from filelock import FileLock

CACHE = Path(__file__).resolve().parents[2] / ".conformance"


def mixin_folder() -> Path:
    """Folder of the mixins of the installed release; downloaded at the first call, kept in `CACHE`.

    Raises OSError where pip cannot get the source distribution.
    """
    folder = CACHE / f"transformers-{transformers.__version__}"
    CACHE.mkdir(exist_ok=True)
    with FileLock(CACHE / "lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                unpacked = unpack_tests(download(Path(scratch)), Path(scratch))
                os.replace(unpacked, folder)
    return folder


def download(folder: Path) -> Path:
    """The source distribution, put into `folder` by pip."""
    requirement = f"transformers=={transformers.__version__}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
    result = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True)
    if result.returncode:
        raise OSError(
            f"pip cannot download the source distribution of {requirement}, whose test mixins the conformance tests "
            f"run:\n{result.stderr}"
        )
    return next(folder.glob("transformers-*.tar.gz"))


def unpack_tests(archive: Path, folder: Path) -> Path:
    """The archive's folder of tests, unpacked into `folder`."""
    with tarfile.open(archive) as tar:
        root = tar.next().name.split("/")[0]
        members = [member for member in tar if member.name.startswith(f"{root}/tests/")]
        tar.extractall(folder, members, filter="data")
    return folder / root / "tests"
