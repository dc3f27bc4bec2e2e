#!/usr/bin/env bash
# transformers 5.24.0: of ZoeDepth's three readout types only the default, "project", computes. "ignore" and "add", which
# its configuration describes beside it, raise RuntimeError in the first forward pass, with transformers' own DINOv2 as
# backbone. "ignore" turns the sequence into a map and then treats it as a sequence once more; "add" adds the class token
# of (batch, channels) to a map whose last sizes are rows and columns.
#
# Expected: depth maps of the same size for all three. Seen: the errors below. Instead: readout_type="project".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.24.0 numpy==2.4.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PY'
import torch
import transformers
from transformers import Dinov2Config, ZoeDepthConfig, ZoeDepthForDepthEstimation

print("transformers", transformers.__version__, "torch", torch.__version__)
backbone = Dinov2Config(
    hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
    out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
)
small = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "bottleneck_features": 8, "num_relative_features": 8}
small |= {"bin_embedding_dim": 8, "num_attractors": [4, 2, 2, 1]}
bins = [{"name": "one", "n_bins": 4, "min_depth": 0.001, "max_depth": 10.0}]
failed = []
for readout in ("project", "ignore", "add"):
    config = ZoeDepthConfig(backbone_config=backbone, readout_type=readout, bin_configurations=bins, **small)
    model = ZoeDepthForDepthEstimation(config).eval()
    try:
        depth = model(torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))).predicted_depth
        print(f"{readout}: {tuple(depth.shape)}")
    except RuntimeError as error:
        failed.append(readout)
        print(f"{readout}: RuntimeError: {str(error)[:120]}")
assert failed == ["ignore", "add"], f"the finding no longer holds: {failed}"
PY
