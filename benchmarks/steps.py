"""Steps of inference and training, the same for every contestant, and their floating-point operations."""

from collections.abc import Callable

import torch
from timm.utils import reparameterize_model
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import hf_vits

from .contestants import Subject

MODES = ("inference", "training")
ENGINES = ("eager", "compile")

Step = Callable[[], None]


def make_step(builder: Callable[[], nn.Module], subject: Subject, mode: str, batch: int, engine: str) -> Step:
    """Return a function that repeats one step of a newly built model on fixed random inputs and labels.

    Inference is a forward pass in eval mode; training is forward, cross entropy, backward and a fused AdamW step.
    """
    torch.manual_seed(0)
    model = builder()
    inputs = subject.inputs(batch)
    labels = torch.randint(subject.num_classes, (batch,))
    forward = torch.compile(model) if engine == "compile" else model
    if mode == "inference":
        model.eval()
        if subject.folds_norms:
            fold_norms(model)
        return lambda: infer(forward, inputs)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    return lambda: train(forward, inputs, labels, optimizer)


def fold_norms(model: nn.Module) -> None:
    """Fold batch norms in place, for our models and timm's; transformers has no function for it."""
    if type(model).__module__.startswith("hf_vits."):
        hf_vits.fuse(model)
    else:
        reparameterize_model(model, inplace=True)


@torch.inference_mode()
def infer(forward: Callable, inputs: torch.Tensor) -> None:
    forward(inputs)


def train(forward: Callable, inputs: torch.Tensor, labels: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    outputs = forward(inputs)
    logits = outputs if isinstance(outputs, torch.Tensor) else outputs.logits
    nn.functional.cross_entropy(logits, labels).backward()
    optimizer.step()


def make_layer_step(layer: nn.Module, inputs: list[torch.Tensor], mode: str) -> Step:
    """Return a function that repeats a forward pass of a layer, or for training a forward and a backward pass."""
    for states in inputs:
        states.requires_grad_(mode == "training")

    def infer_layer() -> None:
        with torch.inference_mode():
            layer(*inputs)

    def train_layer() -> None:
        layer.zero_grad()
        for states in inputs:
            states.grad = None
        layer(*inputs).mean().backward()

    return infer_layer if mode == "inference" else train_layer


def count_flops(subject: Subject, mode: str, batch: int) -> int:
    """Count the floating-point operations of our step; a multiplication and an addition are two operations.

    Only matrix products and convolutions count. For attention, the counter sees its products only in the unfused
    kernel.
    """
    training = mode == "training"
    counted = subject.smallest_training_batch
    model = subject.builders["ours"]().requires_grad_(training).train(training)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = model(subject.inputs(counted)).logits
        if training:
            logits.sum().backward()
    return batch * counter.get_total_flops() // counted
