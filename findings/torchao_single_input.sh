#!/usr/bin/env bash
# torchao 0.18.0 with torch 2.14.1: quantize_ to int8 weights fails on a linear layer with one input feature.
#
# nn.Linear(1, 16), the embedding of tokens that are single numbers (a spectrogram's points in SepTr), raises
# RuntimeError about the shape of its own scales; nn.Linear(2, 16) and nn.Linear(16, 1) are quantised. One scale for
# each output is as many numbers as the weight has, which torchao seems to take for one scale in all.
#
# Expected: 16 scales, as for every other layer of 16 outputs. Seen: the output below.
# Instead: filter_fn=lambda module, name: isinstance(module, torch.nn.Linear) and module.in_features > 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchao==0.18.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import sys

import torch
import torchao
from torchao.quantization import Int8WeightOnlyConfig, quantize_

print(f"torch {torch.__version__}, torchao {torchao.__version__}")
outcomes = {}
for inputs, outputs in ((1, 16), (2, 16), (16, 1)):
    model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs))
    try:
        quantize_(model, Int8WeightOnlyConfig())
        outcomes[inputs, outputs] = f"output {tuple(model(torch.ones(3, inputs)).shape)}"
    except RuntimeError as error:
        outcomes[inputs, outputs] = f"RuntimeError: {error}"
    print(f"Linear{(inputs, outputs)}: {outcomes[inputs, outputs]}")
sys.exit(["RuntimeError" in outcome for outcome in outcomes.values()] != [True, False, False])
PY
