#!/usr/bin/env bash
# transformers 5.24.0: AutoBackbone.from_pretrained takes a local folder for the name of a timm model on the Hub.
#
# A backbone saved by its own save_pretrained loads by its class and by AutoModel, as every transformers model does.
# AutoBackbone.from_pretrained on the same folder raises HFValidationError: before it reads the folder's config.json it
# asks the Hub whether the folder's path is a repository of timm's, and a path is no repository id.
#
# Expected: the folder loads, or the error says that a local folder needs the class. Seen: the output below.
# Instead: the from_pretrained of the class that wrote the folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.24.0 huggingface-hub==2.4.0
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - "$work/saved" <<'PY'
import sys

import transformers
from transformers import AutoBackbone, Dinov2Backbone, Dinov2Config

transformers.logging.set_verbosity_error()
folder = sys.argv[1]
config = Dinov2Config(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, out_indices=[2]
)
Dinov2Backbone(config).save_pretrained(folder)
print(f"transformers {transformers.__version__}")
print("Dinov2Backbone.from_pretrained:", type(Dinov2Backbone.from_pretrained(folder)).__name__)
try:
    outcome = type(AutoBackbone.from_pretrained(folder)).__name__
except Exception as error:
    outcome = type(error).__name__
print("AutoBackbone.from_pretrained:", outcome)
sys.exit(outcome != "HFValidationError")
PY
