#!/usr/bin/env bash
# onnxscript 0.7.2 with torch 2.14.1: an export to ONNX computes other values where two dimensions happen to be equal.
#
# A module splits (batch, heads, rows, width) features for one matrix product by row: movedim, flatten, matmul,
# unflatten, movedim back, as decomposed relative positions of video transformers do. torch.onnx.export writes it with
# a reshape before and after the product. With a fixed batch, onnxscript's rewrite rule that drops a
# Reshape-MatMul-Reshape applies where the shapes allow both readings, and the graph multiplies other pairs: with as
# many rows as heads the output is wrong by more than 1, without any error or warning; with one row less it is exact.
#
# Expected: equal to torch within rounding for both. Seen: the output below.
# Instead: torch.einsum, which is exported without the pair of reshapes; and a test in onnxruntime at square sizes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import sys
import tempfile

import onnxruntime
import onnxscript
import torch


class ByRow(torch.nn.Module):
    """Multiply the features of each row with the row's own matrix."""

    def __init__(self, rows):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(rows, 8, 5))

    def forward(self, x):  # (batch, heads, rows, columns, 8)
        by_row = x.movedim(2, 0)
        product = by_row.flatten(1, -2) @ self.table
        return product.unflatten(1, by_row.shape[1:-1]).movedim(0, 2)


def difference(heads, rows):
    torch.manual_seed(0)
    module, x = ByRow(rows).eval(), torch.randn(1, heads, rows, 4, 8)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.onnx"
        torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path)
        got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    return (torch.from_numpy(got) - module(x)).abs().max().item()


print(f"torch {torch.__version__}, onnxscript {onnxscript.__version__}, onnxruntime {onnxruntime.__version__}")
square, other = difference(4, 4), difference(4, 3)
print(f"4 heads, 4 rows: largest difference {square:.3g}")
print(f"4 heads, 3 rows: largest difference {other:.3g}")
sys.exit(not (square > 1 and other < 1e-4))
PY
