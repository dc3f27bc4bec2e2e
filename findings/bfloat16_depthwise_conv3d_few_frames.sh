#!/usr/bin/env bash
# torch 2.14.1 (oneDNN 3.12.0), CPU with AVX-512: the weight gradient of a depth-wise 3D convolution in bfloat16 is
# wrong, and often NaN, where the input lies in channels-last order and has fewer frames than the kernel, without an
# error. A video transformer that pools its tokens, MViT for one, meets exactly that on clips of four frames: tokens
# turned into a map lie in channels-last order, and the patch embedding has halved the frames.
#
# Expected: the gradient that float32 gives, up to the precision of bfloat16, as contiguous inputs and three frames give.
# Seen: relative errors of about 1, other ones at each call, so memory is read that nobody wrote: here the memory freed
# before holds ones, and the errors differ. Forward pass and input gradient are right.
# Instead: call .contiguous() on the input, or compute in float32.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import torch
from torch.nn.functional import conv3d

CHANNELS = 32


def weight_gradient_error(frames: int, memory_format: torch.memory_format, dtype: torch.dtype) -> float:
    """Return the largest error of the gradient beside float32, relative to its largest entry, over ten calls."""
    torch.manual_seed(0)
    clips = torch.randn(2, CHANNELS, frames, 7, 7).to(dtype).to(memory_format=memory_format)
    weight = torch.randn(CHANNELS, 1, 3, 3, 3).to(dtype).requires_grad_()
    exact_weight = weight.detach().float().requires_grad_()
    exact = conv3d(clips.float(), exact_weight, padding=1, groups=CHANNELS)
    upstream = torch.randn_like(exact).to(dtype)
    exact.backward(upstream.float())
    errors = []
    for _ in range(10):
        freed = [torch.ones(size) for size in range(1000, 60000, 1000)]
        del freed
        weight.grad = None
        conv3d(clips, weight, padding=1, groups=CHANNELS).backward(upstream)
        error = (weight.grad.float() - exact_weight.grad).abs().max() / exact_weight.grad.abs().max()
        errors.append(float("inf") if error.isnan() else error.item())
    return max(errors)


if "AVX512" not in torch.backends.cpu.get_cpu_capability():
    raise SystemExit("this finding needs a CPU with AVX-512")
print("torch", torch.__version__)
for dtype in (torch.bfloat16, torch.float32):
    for memory_format in (torch.channels_last_3d, torch.contiguous_format):
        for frames in (1, 2, 3, 4):
            error = weight_gradient_error(frames, memory_format, dtype)
            print(dtype, memory_format, f"{frames} frames: relative error of the weight gradient {error:.4f}")
            wrong = dtype == torch.bfloat16 and memory_format == torch.channels_last_3d and frames == 2
            assert (error > 0.1) == wrong, "the finding no longer holds"
PY
