"""Optimizers by name, two that PyTorch lacks, and the groups in which they treat parameters differently."""

import re
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from hf_vits.recipe import OptimizerRecipe


class Lamb(Optimizer):
    """Adam whose step is scaled, per parameter, to the parameter's own norm (You et al., arXiv 1904.00962).

    As NVIDIA's FusedLAMB, which DeiT III trains with, has it by default: bias correction, weight decay inside the
    scaled step, no scaling of parameters that do not decay. FusedLAMB also clips gradients to a global norm of 1:
    here that is train.max_grad_norm.
    """

    def __init__(self, params, lr: float, betas=(0.9, 0.999), eps: float = 1e-6, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """One step; `closure`, if given, recomputes and returns the loss."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
                state["step"] += 1
                state["mean"].lerp_(p.grad, 1 - beta1)
                state["square"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                mean = state["mean"] / (1 - beta1 ** state["step"])
                root = (state["square"] / (1 - beta2 ** state["step"])).sqrt_()
                update = mean.div_(root.add_(group["eps"]))
                if decay := group["weight_decay"]:
                    update.add_(p, alpha=decay)
                    update.mul_(_trust_ratio(p, update))
                p.add_(update, alpha=-group["lr"])
        return loss


def _trust_ratio(parameter: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    """Norm of the parameter over that of its update; 1 where either is zero."""
    parameter_norm, update_norm = parameter.norm(), update.norm()
    ratio = parameter_norm / update_norm
    return torch.where((parameter_norm > 0) & (update_norm > 0), ratio, torch.ones_like(ratio))


class Adafactor(Optimizer):
    """Scaling ViT's Adafactor (arXiv 2106.04560, section 3.4; google-research/big_vision, optax.py).

    Unlike PyTorch's: second moment factored only where both largest dimensions have at least 32 rows, its decay
    1 - t^-0.8 capped at 0.999, momentum 0.9 kept in bfloat16, neither update clipping nor steps relative to the
    parameter; decoupled weight decay times the learning rate. The original factors attention kernels as
    (hidden, heads, head size), here they are matrices.
    """

    MINIMUM_TO_FACTOR = 32
    DECAY_EXPONENT = 0.8
    DECAY_CAP = 0.999
    EPSILON = 1e-30

    def __init__(self, params, lr: float, momentum: float = 0.9, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def __setstate__(self, state):
        super().__setstate__(state)
        # Loading a state casts it to the dtype of the parameter.
        for value in self.state.values():
            value["momentum"] = value["momentum"].bfloat16()

    @torch.no_grad()
    def step(self, closure=None):
        """One step; `closure`, if given, recomputes and returns the loss."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(step=0, momentum=torch.zeros_like(p, dtype=torch.bfloat16))
                state["step"] += 1
                normalised = p.grad * self._inverse_root(state, p.grad)
                momentum = state["momentum"].to(p.dtype).lerp(normalised, 1 - group["momentum"])
                state["momentum"].copy_(momentum)
                p.add_(momentum.add_(p, alpha=group["weight_decay"]), alpha=-group["lr"])
        return loss

    def _inverse_root(self, state: dict, gradient: torch.Tensor) -> torch.Tensor:
        """1 / square root of the running second moment, broadcastable to the gradient; updates `state`."""
        weight = 1 - min(self.DECAY_CAP, 1 - state["step"] ** -self.DECAY_EXPONENT)
        square = gradient.square() + self.EPSILON
        smaller, larger = _two_largest(gradient.shape) or (0, 0)
        if smaller == larger or gradient.shape[smaller] < self.MINIMUM_TO_FACTOR:
            return _running(state, "square", square, weight).rsqrt()
        rows = _running(state, "rows", square.mean(dim=larger, keepdim=True), weight)
        columns = _running(state, "columns", square.mean(dim=smaller, keepdim=True), weight)
        return (rows / rows.mean(dim=smaller, keepdim=True)).rsqrt() * columns.rsqrt()


class Lars(Optimizer):
    """SGD whose step is scaled, per matrix, to the matrix's own norm (You et al., arXiv 1708.03888).

    As for linear probes and ResNets in facebookresearch/mae (util/lars.py) and facebookresearch/dino (utils.py):
    vectors are neither scaled nor decayed, and the momentum is of scaled steps before the learning rate.
    """

    def __init__(
        self, params, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust_coefficient: float = 0.001
    ):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"trust_coefficient": trust_coefficient})

    @torch.no_grad()
    def step(self, closure=None):
        """One step; `closure`, if given, recomputes and returns the loss."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = p.grad
                if p.ndim > 1:
                    update = update.add(p, alpha=group["weight_decay"])
                    norms = p.norm(), update.norm()
                    ratio = group["trust_coefficient"] * norms[0] / norms[1]
                    update = update * torch.where((norms[0] > 0) & (norms[1] > 0), ratio, torch.ones_like(ratio))
                momentum = _running_sum(self.state[p], update, group["momentum"])
                p.add_(momentum, alpha=-group["lr"])
        return loss


def _running_sum(state: dict, update: torch.Tensor, momentum: float) -> torch.Tensor:
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(update)
    return state["momentum"].mul_(momentum).add_(update)


def _two_largest(shape: torch.Size) -> tuple[int, int] | None:
    """Indices of the second largest and the largest dimension."""
    order = sorted(range(len(shape)), key=lambda i: shape[i])
    return (order[-2], order[-1]) if len(order) > 1 else None


def _running(state: dict, name: str, value: torch.Tensor, weight: float) -> torch.Tensor:
    if name not in state:
        state[name] = torch.zeros_like(value)
    return state[name].lerp_(value, weight)


def _evaluate(closure) -> torch.Tensor | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


# "model.layers.3.", or "model.stages.1.layers.3." and whatever else is below "model.stages.1."
_LAYER = re.compile(r"(?P<stack>.+?\.(?:stages|layers?))\.(?P<outer>\d+)(?:\.layers\.(?P<inner>\d+))?\.")

OPTIMIZERS = {"adamw": AdamW, "sgd": SGD, "lamb": Lamb, "adafactor": Adafactor, "lars": Lars}


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> Optimizer:
    """The recipe's optimizer over `parameter_groups`."""
    groups = parameter_groups(model, recipe)
    try:
        return OPTIMIZERS[recipe.name](groups, lr=recipe.learning_rate, **recipe.options)
    except TypeError as error:
        raise ValueError(
            f"optimizer.options {recipe.options} do not suit optimizer.name: {recipe.name}: {error}"
        ) from error


def parameter_groups(model: nn.Module, recipe: OptimizerRecipe) -> list[dict]:
    """Trainable parameters grouped by learning rate and weight decay, in the model's order of appearance."""
    scale = layer_scales(model, recipe.layer_decay)
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        learning_rate = recipe.learning_rate * scale(name)
        decay = weight_decay_of(name, parameter, model, recipe)
        group = groups.setdefault(
            (learning_rate, decay), {"params": [], "names": [], "lr": learning_rate, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def weight_decay_of(name: str, parameter: nn.Parameter, model: nn.Module, recipe: OptimizerRecipe) -> float:
    """Weight decay of one parameter; those of at most one dimension and those of `no_decay` have none."""
    if parameter.ndim <= 1 or any(re.search(pattern, name) for pattern in recipe.no_decay):
        return 0.0
    is_head = not name.startswith(f"{model.base_model_prefix}.")
    return recipe.head_weight_decay if is_head and recipe.head_weight_decay is not None else recipe.weight_decay


def layer_scales(model: nn.Module, decay: float) -> Callable[[str], float]:
    """Function from a parameter's name to its factor of the learning rate.

    The head and what follows the last layer have 1, each layer below `decay` times that of the one above it, the
    embeddings that of a layer below the first. What a stage has besides its layers counts as part of its first.
    """
    if decay == 1:
        return lambda name: 1.0
    embeddings = f"{getattr(model, 'base_model_prefix', '')}.embeddings."
    names = [name for name, _ in model.named_parameters() if not name.startswith(embeddings)]
    layers = [match for name in names if (match := _LAYER.match(name))]
    stacks = sorted({match["stack"] for match in layers})
    if len(stacks) != 1:
        raise ValueError(
            f"optimizer.layer_decay needs a model with one stack of layers or of stages; {type(model).__name__} has "
            f"{', '.join(stacks) or 'none'}"
        )
    order = sorted({place(match) for match in layers})

    def scale(name: str) -> float:
        if name.startswith(embeddings):
            return decay ** (len(order) + 1)
        match = _LAYER.match(name)
        return decay ** (len(order) - order.index(place(match))) if match else 1.0

    return scale


def place(match: re.Match) -> tuple[int, int]:
    """(layer, 0), or (stage, layer) in a model in stages, of a match of `_LAYER`."""
    return int(match["outer"]), int(match["inner"] or 0)
