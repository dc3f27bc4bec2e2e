#!/usr/bin/env bash
# accelerate 1.15.0 with transformers 5.24.0 and torch 2.14.1: two processes on the CPU whose TrainingArguments ask for
# FSDP train without it. No parameter is sharded; the model is wrapped in DistributedDataParallel, and nothing says so.
#
# A test of sharded training on a machine without accelerators thus passes whatever sharding would do.
#
# Expected: parameters sharded over the two processes (DTensor), as torch's fully_shard does on the CPU with gloo, or an
# error. Seen: plain parameters of full size in DistributedDataParallel.
# Instead: torch.distributed.fsdp.fully_shard, which the second part of this script runs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.14.1 transformers==5.24.0 accelerate==1.15.0 numpy==2.4.0
cd "$work"
cat > asked.py <<'PY'
import torch
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTForImageClassification

seen = {}


class Look(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        wrapped = trainer.model_wrapped
        seen.update(wrapper=type(wrapped).__name__, sharded=any(isinstance(p, DTensor) for p in wrapped.parameters()))


config = ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
)
model = ViTForImageClassification(config)
data = [{"pixel_values": torch.randn(3, 32, 32), "labels": 0} for _ in range(8)]
arguments = TrainingArguments(
    output_dir="out", max_steps=2, use_cpu=True, report_to=[], save_strategy="no", per_device_train_batch_size=2,
    fsdp=True, fsdp_config={"transformer_layer_cls_to_wrap": ["ViTLayer"], "fsdp_version": 2},
)
trainer = Trainer(model, arguments, train_dataset=data, callbacks=[Look()])
trainer.train()
kind = trainer.accelerator.distributed_type
if trainer.accelerator.is_main_process:
    print("fsdp asked for:", kind, seen)
assert kind == DistributedType.MULTI_CPU, kind
assert seen == {"wrapper": "DistributedDataParallel", "sharded": False}, seen
PY
cat > direct.py <<'PY'
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

dist.init_process_group("gloo")
layer = fully_shard(torch.nn.Linear(8, 8), mesh=init_device_mesh("cpu", (2,)))
layer(torch.randn(2, 8)).sum().backward()
sharded = all(isinstance(p, DTensor) and p.grad.to_local().shape[0] == p.shape[0] // 2 for p in layer.parameters())
if dist.get_rank() == 0:
    print("fully_shard on the CPU: sharded", sharded)
assert sharded
dist.destroy_process_group()
PY
run() { "$work/venv/bin/python" -W ignore -m torch.distributed.run --nproc-per-node 2 --standalone "$1" 2>log || { cat log; exit 1; }; }
run asked.py | grep -v "^{" || { echo "the finding no longer holds"; exit 1; }
run direct.py
