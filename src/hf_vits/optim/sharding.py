"""Weights and optimizer state divided among processes, through PyTorch's FSDP2.

`accelerate` has FSDP on accelerators alone: on the CPU it trains in DistributedDataParallel without saying so. So
`fully_shard` is called here, on any device.
"""

import copy
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel


def sharded_units(model: PreTrainedModel) -> list[nn.Module]:
    """Return the modules whose parameters are gathered and freed together.

    They are those that `_no_split_modules` of the model, or of a model within it, names. Of units in one another, the
    inner ones come first.
    """
    names = {name for part in model.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    units = [module for module in model.modules() if type(module).__name__ in names and module is not model]
    return units[::-1]


def shard(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Divide every parameter of a model, in place, among the processes of a mesh; buffers stay whole.

    Parameters without dimensions, which cannot be divided, stay whole too. What is left between the units is gathered
    while the model's own forward pass runs.
    """

    def placement(parameter: nn.Parameter) -> Shard | None:
        # Tables such as (1, tokens, channels) are divided along an axis of which every process gets a part.
        size = mesh.size()
        if len(parameter) >= size:
            return None
        return next((Shard(axis) for axis, n in enumerate(parameter.shape) if axis and n % size == 0), None)

    # Of what a model returns only the loss goes backward, and nobody changes that in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    whole = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    for module in [*sharded_units(model), model]:
        # After an evaluation, weights that stayed gathered would be those of the evaluation.
        fully_shard(module, mesh=mesh, reshard_after_forward=True, shard_placement_fn=placement, ignored_params=whole)


def is_sharded(model: nn.Module) -> bool:
    """Return whether parameters of a model are divided among processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole_weights(model: nn.Module, *, everywhere: bool = False) -> dict[str, Any]:
    """Return the state dict of a model with whole weights; of a sharded one, all processes must call this.

    Args:
        everywhere: return those of a sharded model on all processes, on its device; otherwise the main process has
            them on the CPU, and the others {}.
    """
    if not is_sharded(model):
        return model.state_dict()
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=not everywhere))


def load_weights(model: nn.Module, weights: dict[str, Any]) -> None:
    """Give a model, which may be sharded, whole weights that every process has."""
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True))


def skeleton(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model with parameters on the meta device, from which `assembled` makes whole models."""
    empty: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, empty)


def assembled(bones: PreTrainedModel, model: PreTrainedModel) -> PreTrainedModel:
    """Return a whole model from a sharded one and its `skeleton`; all processes must call this."""
    whole = copy.deepcopy(bones)
    whole.load_state_dict(whole_weights(model, everywhere=True), assign=True)
    return whole.train(model.training)


def gather_state(optimizer: Optimizer) -> None:
    """Let the optimizer of a sharded model return its state whole, and load a whole one.

    All processes must ask for the state; the main process gets it on the CPU. So it fits any number of processes.
    """

    def gather(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        whole: dict[int, dict[str, Any]] = {}
        for place, values in state["state"].items():
            for name, value in values.items():
                full = value.full_tensor() if isinstance(value, DTensor) else value
                if dist.get_rank() == 0:
                    whole.setdefault(place, {})[name] = full.cpu() if isinstance(full, Tensor) else full
        return state | {"state": whole}

    def divide(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        parts = {
            place: {name: part_of(value, parameters[place]) for name, value in values.items()}
            for place, values in state["state"].items()
        }
        return state | {"state": parts}

    optimizer.register_state_dict_post_hook(gather)
    optimizer.register_load_state_dict_pre_hook(divide)


def part_of(value: Any, parameter: Tensor) -> Any:
    """Return this process's part of a whole value of an optimizer's state, divided as its parameter is."""
    if not (isinstance(value, Tensor) and isinstance(parameter, DTensor) and value.shape == parameter.shape):
        return value
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


@torch.no_grad()
def share_buffers(model: nn.Module) -> None:
    """Give all processes the main process's buffers, as DistributedDataParallel does before each forward pass."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for buffer in model.buffers():
        kinds.setdefault(buffer.dtype, []).append(buffer)
    for buffers in kinds.values():
        joined = torch.cat([buffer.reshape(-1) for buffer in buffers])
        dist.broadcast(joined, 0)
        for buffer, new in zip(buffers, joined.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(new.view_as(buffer))
