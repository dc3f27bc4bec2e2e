"""Optimizers by name, three that PyTorch lacks, and parameter groups by learning rate and weight decay."""

import re
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from hf_vits.recipe import OptimizerRecipe


class Lamb(Optimizer):
    """LAMB: Adam with the step of each parameter scaled to the parameter's norm (You et al., arXiv 1904.00962).

    The defaults of NVIDIA's FusedLAMB, with which DeiT III trains: bias correction, weight decay inside the scaled
    step, no scaling of parameters without weight decay. FusedLAMB also clips gradients to a global norm of 1, for
    which recipes have train.max_grad_norm.
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
    """Return the ratio of the norms of a parameter and its update; 1 if either is zero."""
    parameter_norm, update_norm = parameter.norm(), update.norm()
    ratio = parameter_norm / update_norm
    return torch.where((parameter_norm > 0) & (update_norm > 0), ratio, torch.ones_like(ratio))


class Adafactor(Optimizer):
    """Adafactor as in Scaling ViT (arXiv 2106.04560, section 3.4; google-research/big_vision, optax.py).

    Unlike PyTorch's: the second moment is factored only if both largest dimensions are at least 32, its decay
    1 - t^-0.8 is capped at 0.999, momentum 0.9 is kept in bfloat16, updates are neither clipped nor relative to the
    parameter, and decoupled weight decay is multiplied by the learning rate. The original factors attention kernels as
    (hidden, heads, head size); here they are matrices.
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
        """Update the running second moment in `state`, and return its inverse root, broadcastable to the gradient."""
        weight = 1 - min(self.DECAY_CAP, 1 - state["step"] ** -self.DECAY_EXPONENT)
        square = gradient.square() + self.EPSILON
        smaller, larger = _two_largest(gradient.shape) or (0, 0)
        if smaller == larger or gradient.shape[smaller] < self.MINIMUM_TO_FACTOR:
            return _running(state, "square", square, weight).rsqrt()
        rows = _running(state, "rows", square.mean(dim=larger, keepdim=True), weight)
        columns = _running(state, "columns", square.mean(dim=smaller, keepdim=True), weight)
        return (rows / rows.mean(dim=smaller, keepdim=True)).rsqrt() * columns.rsqrt()


class Lars(Optimizer):
    """LARS: SGD with the step of each matrix scaled to the matrix's norm (You et al., arXiv 1708.03888).

    As in facebookresearch/mae (util/lars.py) and facebookresearch/dino (utils.py), for linear probes and ResNets:
    vectors are neither scaled nor decayed, and momentum accumulates scaled steps before the learning rate.
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
    """Return the indices of the second largest and the largest dimension, None if there are not two."""
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
    """Return the recipe's optimizer over `parameter_groups`.

    Raises:
        ValueError: `optimizer.options` that the optimizer does not have or allow.
    """
    groups = parameter_groups(model, recipe)
    try:
        return OPTIMIZERS[recipe.name](groups, lr=recipe.learning_rate, **recipe.options)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:  # each checks its own way
        raise ValueError(
            f"optimizer.options {recipe.options} do not suit optimizer.name: {recipe.name}: {error}"
        ) from error


def parameter_groups(model: nn.Module, recipe: OptimizerRecipe) -> list[dict]:
    """Group trainable parameters by learning rate and weight decay, in the order of the model."""
    scale = layer_scales(model, recipe.layer_decay)
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        learning_rate = recipe.learning_rate * scale(name) * rate_factor(name, recipe)
        decay = weight_decay_of(name, parameter, model, recipe)
        group = groups.setdefault(
            (learning_rate, decay), {"params": [], "names": [], "lr": learning_rate, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def rate_factor(name: str, recipe: OptimizerRecipe) -> float:
    """Return the factor of a parameter's learning rate, see `OptimizerRecipe.rate_factors`."""
    return next((factor for pattern, factor in recipe.rate_factors.items() if re.search(pattern, name)), 1.0)


def weight_decay_of(name: str, parameter: nn.Parameter, model: nn.Module, recipe: OptimizerRecipe) -> float:
    """Return the weight decay of a parameter; vectors, scalars and names that match `no_decay` have none."""
    if parameter.ndim <= 1 or any(re.search(pattern, name) for pattern in recipe.no_decay):
        return 0.0
    is_head = not name.startswith(f"{model.base_model_prefix}.")
    return recipe.head_weight_decay if is_head and recipe.head_weight_decay is not None else recipe.weight_decay


def layer_scales(model: nn.Module, decay: float) -> Callable[[str], float]:
    """Return the function from a parameter's name to its factor of the learning rate (layer-wise decay).

    The factor is 1 for the head and everything after the last layer; each layer has `decay` times the factor of the
    layer above, and the embeddings count as one more layer. Modules of a stage beside its layers count as part of its
    first layer.

    Raises:
        ValueError: the model has no layers, or more than one stack of them.
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
    """Return (layer, 0), or (stage, layer) of a model in stages, from a match of `_LAYER`."""
    return int(match["outer"]), int(match["inner"] or 0)
