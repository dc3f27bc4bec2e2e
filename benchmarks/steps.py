"""One step of each mode, the same for every contestant, and what it costs."""

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
    """What repeats one step of a freshly built model on fixed random inputs and labels.

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
    """Fold batch norms away in place where there is a way: ours, timm's; transformers has none."""
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


def count_flops(subject: Subject, mode: str, batch: int) -> int:
    """Floating-point operations of our step, a multiplication and an addition counting two.

    Only matrix products and convolutions count; attention is counted as the products it is made of, which the
    counter sees with the unfused kernel alone.
    """
    training = mode == "training"
    counted = subject.smallest_training_batch
    model = subject.builders["ours"]().requires_grad_(training).train(training)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = model(subject.inputs(counted)).logits
        if training:
            logits.sum().backward()
    return batch * counter.get_total_flops() // counted
