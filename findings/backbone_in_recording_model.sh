#!/usr/bin/env bash
# transformers 5.24.0: a backbone inside a model that records its outputs returns other feature maps, silently.
#
# Every backbone installs the hooks that record its layers when it is made. A model around it, whose forward method has
# @capture_outputs, installs hooks at its first call with output_hidden_states=True, on the layers of the models inside
# as well. From then on each layer of the backbone is recorded twice, and the backbone pairs its stages with the list in
# order: the map of stage 2 is that of stage 1, from that call on, also in calls without output_hidden_states.
#
# Expected: the same feature maps, whatever the outer model records. Seen: the output below, without a warning.
# Instead: install the outer model's hooks while the backbone is not yet its attribute.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.14.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import torch
import transformers
from transformers import Dinov2Backbone, Dinov2Config, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

STAGES = ["stage1", "stage2", "stage3"]


class OuterConfig(PreTrainedConfig):
    model_type = "outer"


class Layer(torch.nn.Linear):
    pass


class Outer(PreTrainedModel):
    config_class = OuterConfig
    _can_record_outputs = {"hidden_states": Layer}

    def __init__(self, config):
        super().__init__(config)
        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28}
        self.backbone = Dinov2Backbone(Dinov2Config(**sizes, out_features=STAGES))
        self.layer = Layer(16, 16)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, pixel_values, **kwargs):
        self.maps = self.backbone(pixel_values).feature_maps
        return BaseModelOutput(last_hidden_state=self.layer(self.maps[-1].flatten(2).transpose(1, 2)))


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
torch.manual_seed(0)
model, images = Outer(OuterConfig()).eval(), torch.rand(1, 3, 28, 28)
with torch.no_grad():
    model(images)
    before = model.maps
    model(images, output_hidden_states=True)
    model(images)
same = [torch.equal(old, new) for old, new in zip(before, model.maps)]
shifted = torch.equal(model.maps[1], before[0])
print("maps as before:", dict(zip(STAGES, same)))
print("stage2 is now the map of stage1:", shifted)
sys.exit((same, shifted) != ([True, False, False], True))
PY
