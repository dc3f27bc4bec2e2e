#!/usr/bin/env bash
# soundfile 0.14.0 with its libsndfile 1.2.2: a MIDI sample dump (SDS) of one block is read as no samples.
#
# SDS stores samples in blocks of 120 bytes: 60 samples of 8 bits, 40 of 16 or 30 of 24 bits. A file that soundfile
# wrote with so few samples announces them correctly (SoundFile.frames), yet read() returns an empty array, without an
# error. With one sample more, and so a second block, the file is read whole.
#
# Expected: as many samples as were written. Seen: the output below.
# Instead: compare what was read with `frames`, or store short sounds as WAV or AIFF.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import soundfile

print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}")
seen = {}
for subtype, block in (("PCM_S8", 60), ("PCM_16", 40), ("PCM_24", 30)):
    for count in (block, block + 1):
        soundfile.write("sound.sds", np.linspace(-0.5, 0.5, count), 22050, subtype, format="SDS")
        with soundfile.SoundFile("sound.sds") as file:
            seen[subtype, count] = file.frames, len(file.read())
            announced, read = seen[subtype, count]
        print(f"{subtype}: {count} samples written, {announced} announced, {read} read")
sys.exit(any(seen[key] != (key[1], key[1] if key[1] % 10 else 0) for key in seen))
PY
