"""The memory that a training run needs, counted without allocating it."""

import dataclasses
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_vits.deployment.inputs import one_input
from hf_vits.hub.pull import pull
from hf_vits.optim.optimizers import build_optimizer
from hf_vits.optim.sharding import sharded_units
from hf_vits.recipe import OptimizerRecipe, Recipe, load_recipe

from . import tasks
from .building import build_model
from .task import Task

TASKS = ("image-classification", "video-classification", "audio-classification")
CLASSES = 1000
PRECISIONS = ("fp32", "bf16")


def count_memory(
    source: str | Path | dict[str, Any], overrides: Iterable[str] = (), *, processes: int = 1
) -> dict[str, Any]:
    """Count what a recipe's run keeps in memory on each device, at its peak in the backward pass.

    Activations are the tensors that autograd saves in the forward pass of a model of fake tensors; what kernels need
    for a moment, and what the CUDA context and the allocator's fragments take, is not counted.

    Args:
        source, overrides: as of `hf_vits.training.train`. Weights are never read.
        processes: number of devices, among which a batch is divided.

    Returns:
        model, parameters, batch (inputs of one pass on a device); bytes of weights, gradients, optimizer and average
        (the EMA); rows, one for each precision, with and without activation checkpointing: precision, checkpointing,
        activations, total, and sharded, the total with train.sharding: full. It divides all but activations among
        the processes. Gathered at the same time are the weights between the layers, those of two layers, the one that
        is computed and the next, and the gradients of one.

    Raises:
        ValueError: the task trains no classifier, or the batch cannot be divided.
    """
    recipe = load_recipe(source, list(overrides))
    if recipe.task not in TASKS:
        raise ValueError(f"memory is counted for {', '.join(TASKS)}, but the task of this recipe is {recipe.task}")
    parts = processes * recipe.train.accumulation
    if processes < 1 or recipe.train.batch_size % parts:
        raise ValueError(
            f"train.batch_size {recipe.train.batch_size} cannot be divided equally among {processes} devices x "
            f"train.accumulation {recipe.train.accumulation}"
        )
    batch = recipe.train.batch_size // parts
    model = empty_model(recipe, tasks.load(recipe.task))
    weights = nbytes([*model.parameters(), *model.buffers()])
    result = {
        "model": type(model).__name__,
        "parameters": model.num_parameters(),
        "batch": batch,
        "weights": weights,
        "gradients": nbytes(parameter for parameter in model.parameters() if parameter.requires_grad),
        "optimizer": optimizer_bytes(model, recipe.optimizer),
        "average": weights if recipe.train.ema_decay is not None else 0,
    }
    fixed = sum(result[name] for name in ("weights", "gradients", "optimizer", "average"))
    gathered = gathered_bytes(model) if processes > 1 else 0
    rows = []
    for precision in PRECISIONS:
        for checkpointing in (False, True):
            activations = activation_bytes(model, batch, precision, checkpointing)
            sharded = fixed // processes + gathered + activations
            row = {"precision": precision, "checkpointing": checkpointing, "activations": activations}
            rows.append(row | {"total": fixed + activations, "sharded": sharded})
    return result | {"rows": rows}


def gathered_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of the weights and gradients that are whole at the same time in a sharded model."""
    units = sharded_units(model)
    within = {parameter for unit in units for parameter in unit.parameters()}
    between = nbytes(parameter for parameter in model.parameters() if parameter not in within)
    return between + 3 * max((nbytes(unit.parameters()) for unit in units), default=0)


def empty_model(recipe: Recipe, task: Task) -> PreTrainedModel:
    """Build the recipe's model on the meta device, in training mode, with 1,000 classes unless it is pretrained."""
    settings = recipe.model
    with torch.device("meta"), no_init_weights():
        if settings.pretrained is not None:
            config = pull(AutoConfig, settings.pretrained, **settings.config)
            model = task.auto_model._model_mapping[type(config)](config)
        else:  # of a variant only the sizes count
            scratch = dataclasses.replace(settings, checkpoint=None, initialize_from=None)
            model, _ = build_model(scratch, {"num_labels": CLASSES}, task)
        return model.train().to("meta")


def nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def optimizer_bytes(model: nn.Module, recipe: OptimizerRecipe) -> int:
    """Return the bytes of the optimizer's state, by a step on the meta device."""
    optimizer = build_optimizer(model, recipe)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    states = (value for state in optimizer.state.values() for value in state.values())
    return nbytes(value for value in states if isinstance(value, Tensor))


class SavedTensors:
    """Bytes of the tensors that autograd saves for the backward pass, each storage once, and none of `known`."""

    def __init__(self, known: Iterable[Tensor]):
        self.storages = {tensor.untyped_storage()._cdata for tensor in known}
        self.kept: list[Tensor] = []  # so that no storage gets the address of one that is gone
        self.bytes = 0

    def add(self, tensor: Tensor) -> Tensor:
        """Count a tensor, and return it."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.storages:
            self.storages.add(storage._cdata)
            self.kept.append(tensor)
            self.bytes += storage.nbytes()
        return tensor


def activation_bytes(model: PreTrainedModel, batch: int, precision: str, checkpointing: bool) -> int:
    """Return the bytes that the forward pass of a model on the meta device keeps for the backward pass.

    With checkpointing these are the inputs of the layers and, since the backward pass computes one layer after the
    other anew, all that one layer saves.
    """
    with FakeTensorMode(), swapped_tensors(model):
        example = {
            name: torch.empty(batch, *value.shape[1:], dtype=value.dtype) for name, value in one_input(model).items()
        }
        saved = SavedTensors([*model.parameters(), *model.buffers()])
        layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
        inputs, used, starts = 0, [0], {}
        handles = []

        def before(layer, args, kwargs):
            nonlocal inputs
            starts[layer] = saved.bytes
            first = args[0] if args else next(iter(kwargs.values()))
            inputs += first.nbytes

        def after(layer, args, output):
            used.append(saved.bytes - starts[layer])

        for layer in layers if checkpointing else []:  # a hook would keep the last layer from leaving out tokens
            handles += [layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after)]
        try:
            autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
            with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor), autocast:
                model(**example)
        finally:
            for handle in handles:
                handle.remove()
    return saved.bytes - sum(used) + inputs + max(used) if checkpointing else saved.bytes


@contextmanager
def swapped_tensors(model: nn.Module):
    """Give a model on the meta device fake tensors of the CPU inside the context, under FakeTensorMode."""
    before = []
    made: dict[Tensor, Tensor] = {}  # tied weights stay tied
    for module in model.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is None:
                continue
            table: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
            if tensor not in made:
                fake = torch.empty(tensor.shape, dtype=tensor.dtype)
                is_parameter = isinstance(tensor, nn.Parameter)
                made[tensor] = nn.Parameter(fake, requires_grad=tensor.requires_grad) if is_parameter else fake
            before.append((table, name, tensor))
            table[name] = made[tensor]
    try:
        yield
    finally:
        for table, name, tensor in before:
            table[name] = tensor
