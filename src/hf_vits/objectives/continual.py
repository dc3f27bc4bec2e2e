"""Losses of continual learning: what was learned in earlier tasks shall not be lost in the current one.

Pelosin et al., "Towards Exemplar-Free Continual Learning in Vision Transformers", arXiv 2203.13167;
srvCodes/continual_learning_with_vit (src/approach: olwf_asym.py, olwf_asympost.py, lwf.py, ewc.py, path_integral.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pooling = Literal["spatial", "gap", "width", "height", "pixel"]
POOLINGS = ("spatial", "gap", "width", "height", "pixel")


def pool_maps(maps: Tensor, pooling: Pooling) -> Tensor:
    """Pool maps (batch, heads, rows, columns) for their comparison.

    Returns:
        (batch, heads * columns) with "height", the sum over rows; (batch, heads * rows) with "width", the sum over
        columns; both joined with "spatial"; the means (batch, heads) with "gap"; the maps themselves with "pixel".
    """
    if pooling == "height":
        return maps.sum(dim=2).flatten(1)
    if pooling == "width":
        return maps.sum(dim=3).flatten(1)
    if pooling == "spatial":
        return torch.cat([pool_maps(maps, "height"), pool_maps(maps, "width")], dim=1)
    return maps.mean(dim=(2, 3)) if pooling == "gap" else maps


class MapRegularization(nn.Module):
    """Distance of a model's maps to those of the model before the current task, averaged over layers.

    The maps are attention scores before the softmax, scaled (attentional form), or the heads' results before they are
    joined (functional form). Pooled maps are normalised over axis 1, which for pooling "pixel" is the axis of heads,
    and the norm of their difference over the last axis is averaged.

    Args:
        pooling: see `pool_maps`.
        symmetric: whether every change counts, of the squared maps. Otherwise only what became smaller counts: the
            positive part of old - new.
        after_norm: for the asymmetric form, whether the difference is taken after normalising. False is the original's
            default for attention: the positive part itself is normalised, and its norm over all elements, divided by
            100, is the loss. That is a constant without gradient for every pooling but "pixel".
        reverse: for the asymmetric form, whether what became larger counts instead.
        normalize: whether maps are normalised at all, where the difference is taken after normalising.
        weight: factor on the distance.
        sparsity: factor on a tenth of the norm of the new maps, pooled and normalised as for the distance; with it,
            the sum over layers is divided by twice their number.
        num_layers: number by which the sum over layers is divided; None for the number of layers.
    """

    def __init__(
        self,
        pooling: Pooling = "spatial",
        symmetric: bool = False,
        after_norm: bool = True,
        reverse: bool = False,
        normalize: bool = True,
        weight: float = 1.0,
        sparsity: float = 0.0,
        num_layers: int | None = None,
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        self.pooling: Pooling = pooling
        self.symmetric, self.after_norm, self.reverse, self.normalize = symmetric, after_norm, reverse, normalize
        self.weight, self.sparsity, self.num_layers = weight, sparsity, num_layers

    def forward(self, new: Sequence[Tensor], old: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            new, old: maps (batch, heads, rows, columns) of each layer, of the model in training and of the model
                before the task.
        """
        if len(new) != len(old) or not len(new):
            raise ValueError(f"new and old need the maps of the same layers, got {len(new)} and {len(old)} of them")
        total = torch.stack([self.of_layer(*maps) for maps in zip(new, old, strict=True)]).sum()
        count = (self.num_layers or len(new)) * (2 if self.sparsity else 1)
        return total / count, {}

    def of_layer(self, new: Tensor, old: Tensor) -> Tensor:
        """Return the distance in one layer, with the sparsity term."""
        if new.shape != old.shape:
            raise ValueError(f"maps of both models must have one shape, got {tuple(new.shape)} and {tuple(old.shape)}")
        if self.symmetric:
            new, old = new.square(), old.square()
        new, old = pool_maps(new, self.pooling), pool_maps(old, self.pooling)
        if self.normalize and (self.symmetric or self.after_norm):
            new, old = F.normalize(new, dim=1), F.normalize(old, dim=1)
        change = new - old if self.reverse else old - new
        if not self.symmetric:
            change = change.relu()
        if self.symmetric or self.after_norm:
            distance = change.norm(dim=-1).mean()
        else:
            distance = F.normalize(change, dim=1).norm() / 100
        distance = distance * self.weight
        return distance + new.norm() * (self.sparsity / 10) if self.sparsity else distance


def pod_factor(seen_classes: int, classes_of_task: int, factor: float = 3.0) -> float:
    """Return the weight that grows with the classes seen so far: factor * sqrt(seen / classes of the task)."""
    return factor * (seen_classes / classes_of_task) ** 0.5


class JensenShannonRegularization(nn.Module):
    """Jensen-Shannon divergence between the columns of both models' attention scores, summed over layers.

    Absolute scores, each column normalised over the queries, are the distributions, as in the original, whose maps
    have 197 tokens; here any number.
    """

    EPSILON = 1e-5

    def forward(self, new: Sequence[Tensor], old: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of scores (batch, heads, queries, keys) before the softmax of each layer."""
        if len(new) != len(old) or not len(new):
            raise ValueError(f"new and old need the scores of the same layers, got {len(new)} and {len(old)} of them")
        total = new[0].new_zeros(())
        for pair in zip(new, old, strict=True):
            first, second = (scores.abs() / scores.abs().sum(dim=2, keepdim=True) for scores in pair)
            middle = (first + second) / 2
            parts = [part * (part / middle + self.EPSILON).log() for part in (first, second)]
            total = total + ((parts[0] + parts[1]) / 2).sum(dim=2).mean()
        return total, {}


class LwfDistillation(nn.Module):
    """Cross-entropy of a model's old heads with the predictions of the model before the task (arXiv 1606.09282).

    Probabilities are raised to 1 / temperature and normalised, which equals dividing logits by the temperature; the
    student's get `EPSILON` / classes added.
    """

    EPSILON = 1e-5

    def __init__(self, temperature: float = 2.0):
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def forward(self, logits: Tensor, old_logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of logits (batch, classes of the earlier tasks)."""
        if logits.shape != old_logits.shape:
            raise ValueError(
                f"logits and old_logits must be of the same classes, got {tuple(logits.shape)} and "
                f"{tuple(old_logits.shape)}"
            )
        student = (logits / self.temperature).softmax(dim=1) + self.EPSILON / logits.shape[1]
        student = student / student.sum(dim=1, keepdim=True)
        teacher = (old_logits / self.temperature).softmax(dim=1)
        return -(teacher * student.log()).sum(dim=1).mean(), {}


class ContinualCrossEntropy(nn.Module):
    """Cross-entropy of one task's head: its classes are `start` to `stop` of the logits, labels count from 0.

    Args:
        all_heads: whether the classes of all tasks so far compete, as with a memory of earlier tasks' samples.
    """

    def __init__(self, start: int, stop: int, all_heads: bool = False):
        super().__init__()
        self.start, self.stop = 0 if all_heads else start, stop

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of logits (batch, classes of all tasks) and labels (batch,) among all classes."""
        return F.cross_entropy(logits[:, self.start : self.stop], labels - self.start), {}


class ImportanceRegularization(nn.Module):
    """Base of penalties on the change of parameters, each weighted by its importance for earlier tasks.

    Holds importance and anchor (the value after the last task) of each parameter as buffers, so that both are saved
    with a state dict.

    Args:
        parameters: {name: parameter}, of the encoder, without heads.
        weight: factor on the penalty.
    """

    def __init__(self, parameters: Mapping[str, Tensor], weight: float):
        super().__init__()
        self.names = list(parameters)
        self.weight = weight
        for kind in self.kinds():
            for index, parameter in enumerate(parameters.values()):
                start = parameter.detach().clone() if kind == "anchor" else torch.zeros_like(parameter.detach())
                self.register_buffer(f"{kind}_{index}", start)

    def kinds(self) -> tuple[str, ...]:
        """Return what is held for each parameter."""
        return ("importance", "anchor")

    def held(self, kind: str) -> dict[str, Tensor]:
        """Return {name: tensor} of what is held of one kind: "importance" or "anchor"."""
        return {name: getattr(self, f"{kind}_{index}") for index, name in enumerate(self.names)}

    def forward(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return weight * sum(importance * (parameter - anchor)^2) of {name: parameter}."""
        importance, anchor = self.held("importance"), self.held("anchor")
        total = sum((importance[name] * (parameters[name] - anchor[name]).square()).sum() for name in self.names)
        return self.weight * torch.as_tensor(total), {}

    @torch.no_grad()
    def keep(self, parameters: Mapping[str, Tensor]) -> None:
        """Make the parameters the anchors, as after a task."""
        for name, anchor in self.held("anchor").items():
            anchor.copy_(parameters[name])


class ElasticWeightConsolidation(ImportanceRegularization):
    """Elastic weight consolidation: importance is the diagonal of the Fisher matrix (arXiv 1612.00796).

    Args:
        parameters: {name: parameter}, of the encoder, without heads.
        weight: twice the factor on the penalty, as in the paper's lambda / 2.
        alpha: of the earlier importance when that of a new task is merged: alpha * old + (1 - alpha) * new; None for
            the fraction of classes that are not the task's.
    """

    def __init__(self, parameters: Mapping[str, Tensor], weight: float = 5000.0, alpha: float | None = 0.5):
        super().__init__(parameters, weight / 2)
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
        self.alpha = alpha

    @torch.no_grad()
    def merge(self, fisher: Mapping[str, Tensor], seen_fraction: float | None = None) -> None:
        """Merge the Fisher information of a task into the importance.

        Args:
            fisher: {name: mean squared gradient}, see `fisher_information`.
            seen_fraction: classes of earlier tasks over all classes so far, which is alpha where `alpha` is None.
        """
        alpha = seen_fraction if self.alpha is None else self.alpha
        if alpha is None:
            raise ValueError("alpha=None needs seen_fraction: classes of earlier tasks over all classes so far")
        for name, importance in self.held("importance").items():
            importance.mul_(alpha).add_(fisher[name], alpha=1 - alpha)


@torch.no_grad()
def fisher_information(gradients: Iterable[tuple[Mapping[str, Tensor], int]], num_samples: int) -> dict[str, Tensor]:
    """Return {name: Fisher information} from {name: gradient of a batch's mean loss} and the size of each batch.

    As in the original, the gradient of a batch is squared, not that of each sample, and weighted by the batch's size.
    """
    total: dict[str, Tensor] = {}
    for of_batch, size in gradients:
        for name, gradient in of_batch.items():
            squared = gradient.square() * size
            total[name] = total[name] + squared if name in total else squared
    return {name: value / num_samples for name, value in total.items()}


def sampled_classes(
    logits: Tensor, labels: Tensor, sampling: Literal["true", "max_pred", "multinomial"] = "max_pred"
) -> Tensor:
    """Return the classes (batch,) whose loss gives the Fisher information: labels, predictions, or drawn ones."""
    if sampling == "true":
        return labels
    if sampling == "max_pred":
        return logits.argmax(dim=1)
    if sampling == "multinomial":
        return torch.multinomial(logits.softmax(dim=1), 1).flatten()
    raise ValueError(f"sampling must be 'true', 'max_pred' or 'multinomial', got {sampling!r}")


class PathIntegral(ImportanceRegularization):
    """Path integral, or synaptic intelligence: importance is what each parameter lowered the loss (arXiv 1703.04200).

    Args:
        parameters: {name: parameter}, of the encoder, without heads.
        weight: factor on the penalty.
        damping: added to the squared change of a parameter, by which its path integral is divided.
    """

    def __init__(self, parameters: Mapping[str, Tensor], weight: float = 0.1, damping: float = 0.1):
        super().__init__(parameters, weight)
        if damping <= 0:
            raise ValueError(f"damping must be positive, got {damping}")
        self.damping = damping

    def kinds(self) -> tuple[str, ...]:
        return (*super().kinds(), "path")

    @torch.no_grad()
    def accumulate(
        self, gradients: Mapping[str, Tensor], before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> None:
        """Add a step to the path integrals.

        Args:
            gradients: of the loss without this penalty; parameters without gradient may be missing.
            before, after: parameters around the optimizer's step.
        """
        for name, path in self.held("path").items():
            if name in gradients:
                path.sub_(gradients[name] * (after[name] - before[name]))

    @torch.no_grad()
    def finish_task(self, parameters: Mapping[str, Tensor]) -> None:
        """Turn the path integrals of a task into importance, which may be negative, and begin new ones."""
        anchor, path = self.held("anchor"), self.held("path")
        for name, importance in self.held("importance").items():
            importance.add_(path[name] / ((parameters[name] - anchor[name]).square() + self.damping))
            path[name].zero_()
        self.keep(parameters)
