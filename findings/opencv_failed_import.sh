#!/usr/bin/env bash
# opencv-python-headless 4.10.0.82: after an import that fails, processes that are started later do not start.
#
# The package asks for "numpy>=1.21.2", so pip installs NumPy 2 with it, for which it was not built: `import cv2` raises
# ImportError. A program that catches this, as for an optional package, goes on with the package's own folder in
# sys.path before the standard library. multiprocessing hands sys.path to the processes that it spawns, and these find cv2/typing where they import
# the standard library's `typing`: every one of them dies while it starts.
#
# Expected: an import that failed leaves sys.path as it was. Seen: the output below; the same processes start before it.
# Instead: version 4.10.0.84, the first for NumPy 2, or find out by importlib.util.find_spec without importing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==4.10.0.82 numpy==2.0.0
cat > "$work/script.py" <<'PY'
import multiprocessing
import sys
from importlib.metadata import version


def work(number):
    import dataclasses  # noqa: F401 - needs typing on the way

    import numpy as np

    return int(np.square(number))


def exit_code():
    process = multiprocessing.get_context("spawn").Process(target=work, args=(3,))
    process.start()
    process.join()
    return process.exitcode


if __name__ == "__main__":
    print("opencv-python-headless", version("opencv-python-headless"), "numpy", version("numpy"))
    before, first = exit_code(), sys.path[0]
    try:
        import cv2
    except ImportError as error:
        print("import cv2:", type(error).__name__)
    left = [path for path in sys.path if path.rstrip("/").endswith("cv2")]
    after = exit_code()
    print("exit code of a spawned process before and after:", before, after)
    print("folders of cv2 left in sys.path:", len(left))
    sys.exit(not (before == 0 and after != 0 and left))
PY
"$work/venv/bin/python" "$work/script.py" 2> "$work/errors" && { grep -m1 "cv2/typing" "$work/errors" | sed "s|$work|WORK|" || true; } || { tail -5 "$work/errors"; exit 1; }
