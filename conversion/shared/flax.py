"""Conversion of Flax parameter trees to torch's names and layouts."""

import re

import torch


def torch_layout(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename `a/b/kernel` to `a.b.weight` and convert every tensor to torch's layout.

    - Dense kernels (in, out) are transposed; the head axis of query, key and value kernels (in, heads, head_dim) and
      of attention's out kernel (heads, head_dim, out) is flattened first.
    - Convolution kernels ([time,] height, width, in, out) become (out, in, [time,] height, width).
    - `scale` of a norm becomes `weight`; biases are flattened.
    - Other leaves (tables, tokens) keep name and shape.
    """
    return {torch_key(key): torch_tensor(key, value) for key, value in tensors.items()}


def torch_key(key: str) -> str:
    return re.sub(r"/(kernel|scale)$", "/weight", key).replace("/", ".")


def torch_tensor(key: str, tensor: torch.Tensor) -> torch.Tensor:
    leaf = key.rsplit("/", 1)[-1]
    if leaf in ("bias", "scale"):
        return tensor.flatten()
    if leaf != "kernel":
        return tensor
    if tensor.ndim > 3:
        return tensor.movedim((-1, -2), (0, 1))
    if tensor.ndim == 3:
        tensor = tensor.flatten(0, 1) if "/out/" in key else tensor.flatten(1)
    return tensor.t()


def unstack_scanned(tensors: dict[str, torch.Tensor], scanned: str, layer: str) -> dict[str, torch.Tensor]:
    """Split tensors of layers that `nn.scan` stacked along the first axis into one tensor per layer.

    Args:
        scanned: prefix of the stacked tensors, such as "Transformer/encoderblock/".
        layer: prefix of a layer with a placeholder for its index, such as "Transformer/encoderblock_{}/".
    """
    unstacked = {}
    for key, value in tensors.items():
        if key.startswith(scanned) and value.ndim:
            for index, part in enumerate(value):
                unstacked[layer.format(index) + key.removeprefix(scanned)] = part
        else:
            unstacked[key] = value
    return unstacked


def infer_flax_heads(tensors: dict[str, torch.Tensor]) -> dict:
    """Return `num_attention_heads`, the second last axis of an encoder's query kernel; {} if there is none."""
    queries = re.compile(r"\w*Transformer/encoderblock.*/MultiHeadDotProductAttention_\w+/query/kernel")
    kernel = next((tensor for key, tensor in tensors.items() if queries.fullmatch(key)), None)
    return {} if kernel is None or kernel.ndim < 3 else {"num_attention_heads": kernel.shape[-2]}
