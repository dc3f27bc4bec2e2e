#!/usr/bin/env bash
# imagecorruptions 1.1.2, the newest release: with today's setuptools it cannot be imported, with today's scikit-image
# its Gaussian and glass blurs fail.
#
# It imports pkg_resources, which setuptools 82 removed, and passes multichannel to skimage.filters.gaussian, which
# scikit-image 0.21 no longer takes. Its repository has mended the latter, without a release.
#
# Expected: `from imagecorruptions import corrupt`, and blurred images. Seen: the errors below.
# Instead: pins of its time, see benchmarks/corruptions.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip() { "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip numpy==1.24.4 scipy==1.10.1 scikit-image==0.21.0 opencv-python-headless==4.8.1.78 numba==0.58.1 pillow==10.4.0
pip --no-deps imagecorruptions==1.1.2
cd "$work"
pip setuptools==82.0.0
"$work/venv/bin/python" -W ignore - <<'PY'
try:
    import imagecorruptions
except ModuleNotFoundError as error:
    print("setuptools 82.0.0:", error)
    assert "pkg_resources" in str(error)
else:
    raise SystemExit("the finding no longer holds: imagecorruptions can be imported")
PY
pip setuptools==69.5.1
"$work/venv/bin/python" -W ignore - <<'PY'
import numpy as np
from imagecorruptions import corrupt

image = np.zeros((64, 64, 3), np.uint8)
failed = []
for name in ("gaussian_blur", "glass_blur", "contrast"):
    try:
        corrupt(image, corruption_name=name)
    except TypeError as error:
        failed.append(name)
        print(f"scikit-image 0.21.0: {name}: {error}")
assert failed == ["gaussian_blur", "glass_blur"], f"the finding no longer holds: {failed}"
PY
