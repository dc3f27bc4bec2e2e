"""HiP-16 beside the original's own code, compiled by JAX, in interleaved rounds of two processes on the CPU.

The original needs an environment of its own and a clone whose folder is named hierarchical_perceiver:

  python -m venv jaxenv && jaxenv/bin/pip install jax dm-haiku einshape absl-py chex
  git clone https://github.com/google-deepmind/hierarchical_perceiver clones/hierarchical_perceiver
  python -m benchmarks.hip_original --python jaxenv/bin/python --clones clones

A training step is the squared error of all reconstructions, its gradients, and plain gradient descent. Times are the
seconds that a process computes, on all threads together, which other load on the machine changes less than the seconds
that pass.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hf_vits import HipConfig, HipModel
from hf_vits.conversion import variants

from .commands import make_parser
from .steps import MODES

MODALITIES = {"imagenet_image": (1024, 3), "imagenet_label": (32, 1)}
LEARNING_RATE = 1e-4
ORIGINAL = """
import json, sys, time
import haiku as hk, jax, numpy as np
from jax import numpy as jnp
from hierarchical_perceiver import perceiver

options = json.loads(sys.argv[1])
shapes = options["modalities"]
inputs = {name: np.random.rand(options["batch"], *shape).astype(np.float32) for name, shape in shapes.items()}
fields = {"num_position_encoding_channels": 512, "regroup_type": "reshape", "activation_name": "sq_relu"}
fields |= {"dropout_prob": 0.0, "drop_path_rate": 0.0}

def run(inputs, is_training):
    model = perceiver.build_perceiver("HiP", "16", model_kwargs=fields)
    return model("imagenet", inputs, is_training=is_training)["input_reconstruction"]

training = options["mode"] == "training"
model = hk.transform_with_state(run)
key = jax.random.PRNGKey(0)
params, state = model.init(key, inputs, training)

def loss(params, key):
    outputs, _ = model.apply(params, state, key, inputs, training)
    return sum(jnp.square(outputs[name] - inputs[name]).mean() for name in inputs)

def train(params, key):
    gradients = jax.grad(loss)(params, key)
    return jax.tree_util.tree_map(lambda value, slope: value - options["rate"] * slope, params, gradients)

forward = jax.jit(lambda params, key: model.apply(params, state, key, inputs, False)[0])
step = jax.jit(train)
print("ready", flush=True)
for _ in sys.stdin:
    begin = time.process_time()
    if training:
        params = jax.block_until_ready(step(params, key))
    else:
        jax.block_until_ready(forward(params, key))
    print(time.process_time() - begin, flush=True)
"""


class Original:
    """The original's step in a process of its own, which answers each line with the seconds of a step."""

    def __init__(self, python: Path, clones: Path, mode: str, batch: int):
        options = {"modalities": MODALITIES, "mode": mode, "batch": batch, "rate": LEARNING_RATE}
        flags = "--xla_cpu_multi_thread_eigen=false" if torch.get_num_threads() == 1 else ""
        self.process = subprocess.Popen(
            [str(python), "-c", ORIGINAL, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(clones.resolve()), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        )
        self._read()

    def step(self) -> float:
        """Return the seconds that a step computes."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise OSError("the original's process ended; its error is above")
        return line


def our_step(mode: str, batch: int) -> Callable[[], None]:
    fields = {"modalities": [[name, *shape] for name, shape in MODALITIES.items()], "datasets": None}
    model = HipModel(HipConfig(**variants("hip")["hip_16"] | fields)).train(mode == "training")
    inputs = {name: torch.rand(batch, *shape) for name, shape in MODALITIES.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def train() -> None:
        optimizer.zero_grad()
        outputs = model(inputs).reconstruction
        torch.stack([(outputs[name] - value).square().mean() for name, value in inputs.items()]).sum().backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode():
            model(inputs)

    return train if mode == "training" else infer


def main() -> None:
    parser = make_parser("hip_original", __doc__)
    parser.add_argument("--python", type=Path, required=True, help="of the original's environment")
    parser.add_argument("--clones", type=Path, required=True, help="folder with the clone hierarchical_perceiver")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="after a warm-up (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for mode in MODES:
        original, ours = Original(args.python, args.clones, mode, args.batch), our_step(mode, args.batch)
        times = []
        for _ in range(args.rounds + 1):
            begin = time.process_time()
            ours()
            times.append((time.process_time() - begin, original.step()))
        own, theirs = (statistics.median(values) for values in zip(*times[1:], strict=True))
        row = {"mode": mode, "batch": args.batch, "ours_s": own, "original_s": theirs, "ratio": own / theirs}
        print(json.dumps(row), flush=True)
        original.close()


if __name__ == "__main__":
    main()
