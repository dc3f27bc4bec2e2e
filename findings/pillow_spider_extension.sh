#!/usr/bin/env bash
# Pillow 13.0.0: saving one SPIDER image changes the format of every later file with the same ending.
#
# Image.save(path, format="SPIDER") registers the ending of path for SPIDER, whatever it is, for the whole process. Once
# an image was saved so under a name that ends in .png, image.save("other.png") writes SPIDER as well: a file of 32-bit
# floats in one channel, which Image.open reads without complaint. Colour is lost, and no error or warning is raised.
#
# Expected: PNG, as for every other format that is named by its argument. Seen: the output below.
# Instead: give the format of every file that is saved in such a process, save(path, format="PNG").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import PIL
from PIL import Image

print(f"Pillow {PIL.__version__}")
image = Image.new("RGB", (8, 8), "red")


def saved(**options):
    image.save("image.png", **options)
    with Image.open("image.png") as opened:
        return opened.format, opened.mode


before = saved()
image.convert("F").save("volume.png", format="SPIDER")
after, named = saved(), saved(format="PNG")
print("before:", before)
print("after one SPIDER file that ends in .png:", after)
print("after, with format='PNG':", named)
sys.exit((before, after, named) != (("PNG", "RGB"), ("SPIDER", "F"), ("PNG", "RGB")))
PY
