"""Losses of continual learning: pooled distillation of attention, LwF, and penalties on changes of parameters.

Pelosin et al., "Towards Exemplar-Free Continual Learning in Vision Transformers", arXiv 2203.13167;
srvCodes/continual_learning_with_vit (src/approach). The names of the original's options are in parentheses.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Pooling = Literal["spatial", "width", "height", "gap", "pixel"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
_EPS = 1e-5  # in the logarithms of the original's losses


def pool_maps(maps: Tensor, pooling: Pooling, squared: bool = False) -> Tensor:
    """Pool maps of heads.

    Args:
        maps: (batch, heads, rows, columns), such as attention scores, or outputs of heads with their channels as
            columns.
        pooling: "width" sums the columns, "height" the rows, "spatial" joins both, height first, "gap" is the mean of
            both axes, "pixel" leaves the maps as they are.
        squared: whether the values are squared first.

    Returns:
        (batch, values); for "pixel" (batch, heads, rows, columns).
    """
    if squared:
        maps = maps.square()
    if pooling == "pixel":
        return maps
    if pooling == "gap":
        return maps.mean(dim=(2, 3))
    sums = {"height": (2,), "width": (3,), "spatial": (2, 3)}[pooling]
    return torch.cat([maps.sum(dim=axis).flatten(1) for axis in sums], dim=1)


def pool_scores(query: Tensor, key: Tensor, scaling: float, pooling: Pooling, squared: bool = False) -> Tensor:
    """Return `pool_maps` of the attention scores, scaling * query @ key.T, mostly without computing them.

    A row's sum of q.k over all keys is q.(sum of k), its sum of squares q.(K.T K)q. This takes memory in proportion to
    the tokens, not to their square.

    Args:
        query, key: (batch, heads, tokens, head_dim).
    """
    if pooling == "pixel" or (squared and query.shape[2] <= query.shape[3]):
        return pool_maps(query @ key.transpose(2, 3) * scaling, pooling, squared)
    if not squared:
        rows = (query @ key.sum(2)[..., None])[..., 0] * scaling
        columns = (key @ query.sum(2)[..., None])[..., 0] * scaling
    else:
        rows, columns = _SquaredScoreSums.apply(query, key, scaling)
    if pooling == "gap":
        return rows.mean(2) / key.shape[2]
    chosen = {"height": [columns], "width": [rows], "spatial": [columns, rows]}[pooling]
    return torch.cat([sums.flatten(1) for sums in chosen], dim=1)


class _SquaredScoreSums(torch.autograd.Function):
    """Sums of the squared attention scores along each row and each column, (batch, heads, queries) and (..., keys).

    With the gradient written out, only queries, keys and two matrices of each head are kept for the backward pass. The
    former the attention keeps anyway.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
        of_keys, of_queries = key.transpose(2, 3) @ key, query.transpose(2, 3) @ query
        ctx.save_for_backward(query, key, of_keys, of_queries)
        ctx.factor = scaling**2
        return (
            ((query @ of_keys) * query).sum(-1).mul_(ctx.factor),
            ((key @ of_queries) * key).sum(-1).mul_(ctx.factor),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        query, key, of_keys, of_queries = ctx.saved_tensors
        by_row, by_column = (2 * ctx.factor * gradient[..., None] for gradient in gradients)
        weighted_query, weighted_key = by_row * query, by_column * key
        # Each score is in one row and one column.
        to_query = weighted_query @ of_keys + query @ (weighted_key.transpose(2, 3) @ key)
        to_key = weighted_key @ of_queries + key @ (weighted_query.transpose(2, 3) @ query)
        return to_query, to_key, None


class PooledDistillationLoss(nn.Module):
    """Distance of a model's pooled attention, or outputs of heads, to the frozen previous model's.

    The symmetric form squares the maps, pools them, normalises both and takes the norm of their difference. The
    asymmetric form only counts what the new model lost, relu(old - new), of maps that are not squared.

    The published commands of the asymmetric form on attention scores (`olwf_asym.py` without `--after-norm`) are
    `after_norm=False`: the difference itself is normalised before its norm is taken, so that the loss is the constant
    sqrt(rows) / 100 and has no gradient, except for pooling "pixel". `after_norm=True` is the form that works.

    Args:
        pooling: see `pool_maps` (`--pool-along`).
        symmetric: the symmetric form (`--sym`).
        after_norm: whether the asymmetric form compares normalised maps (`--after-norm`; always on in
            `olwf_asympost.py`).
        normalize: whether the symmetric form normalises (`normalize` of `olwf_asympost.py`).
        reverse: whether the asymmetric form counts relu(new - old) instead (`--reverse-relu`).
        weight: factor mu on the loss (`--plast_mu`).
        sparsity: factor on the norm of the new model's pooled maps / 10, which is added for every layer (`--sparse`
            with `--sparse-factor`); then the loss is halved. None for none.
        divisor: number by which the sum over layers is divided; None for the number of layers (`--int-layer` changes
            nothing but this).
    """

    def __init__(
        self,
        pooling: Pooling = "spatial",
        symmetric: bool = False,
        after_norm: bool = True,
        normalize: bool = True,
        reverse: bool = False,
        weight: float = 1.0,
        sparsity: float | None = None,
        divisor: int | None = None,
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        if divisor is not None and divisor < 1:
            raise ValueError(f"divisor must be a positive number of layers, got {divisor}")
        self.pooling, self.symmetric, self.after_norm, self.normalize = pooling, symmetric, after_norm, normalize
        self.reverse, self.weight, self.sparsity, self.divisor = reverse, weight, sparsity, divisor

    def forward(self, old: Iterable[Tensor], new: Iterable[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of maps (batch, heads, rows, columns), one per layer, of the old and the new model."""
        return self.compare([self.pool(maps) for maps in old], [self.pool(maps) for maps in new])

    def pool(self, maps: Tensor) -> Tensor:
        """Pool maps (batch, heads, rows, columns) of a layer as `compare` expects them."""
        return pool_maps(maps, self.pooling, self.symmetric)

    def pool_scores(self, query: Tensor, key: Tensor, scaling: float) -> Tensor:
        """Pool the attention scores of queries and keys (batch, heads, tokens, head_dim) of a layer."""
        return pool_scores(query, key, scaling, self.pooling, self.symmetric)

    def compare(self, old: Sequence[Tensor], new: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of pooled maps, one per layer, as `pool` returns them.

        Raises:
            ValueError: there are none, or the two models differ in the number of layers or in their shapes.
        """
        if not old or [one.shape for one in old] != [one.shape for one in new]:
            raise ValueError(
                "the old and the new model must give maps of the same shapes, one per layer, got pooled shapes "
                f"{[tuple(one.shape) for one in old]} and {[tuple(one.shape) for one in new]}"
            )
        loss = torch.stack([self.layer_loss(*pair) for pair in zip(old, new, strict=True)]).sum()
        loss = loss / ((1 if self.sparsity is None else 2) * (self.divisor or len(old)))
        return loss, {"regularization": loss.detach()}

    def layer_loss(self, old: Tensor, new: Tensor) -> Tensor:
        if self.normalize if self.symmetric else self.after_norm:
            old, new = F.normalize(old, dim=1), F.normalize(new, dim=1)
        difference = old - new
        if not self.symmetric:
            difference = F.relu(-difference if self.reverse else difference)
        if self.symmetric or self.after_norm:
            loss = torch.linalg.vector_norm(difference, dim=-1).mean()
        else:
            loss = torch.linalg.vector_norm(F.normalize(difference, dim=1)) / 100
        loss = loss * self.weight
        if self.sparsity is not None:
            loss = loss + torch.linalg.vector_norm(new) / 10 * self.sparsity
        return loss


def pod_weight(num_seen_classes: int, num_new_classes: int, factor: float = 3.0) -> float:
    """Return PODNet's weight, factor * sqrt(classes so far / classes of this task) (`--use-pod-factor`)."""
    if min(num_seen_classes, num_new_classes) < 1:
        raise ValueError(f"numbers of classes must be positive, got {num_seen_classes} and {num_new_classes}")
    return factor * math.sqrt(num_seen_classes / num_new_classes)


class JensenShannonLoss(nn.Module):
    """Jensen-Shannon divergence between attention scores of the old and the new model, summed over the layers.

    Scores are taken by absolute value and normalised over the queries (`plasticity_loss` of `olwf_asym.py`, which is
    fixed to 197 tokens; any number works here).

    Args:
        weight: factor on the loss (`--jsd-factor`).
    """

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, old: Iterable[Tensor], new: Iterable[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of scores (batch, heads, queries, keys), one per layer."""
        loss = torch.stack([self.layer_loss(*pair) for pair in zip(old, new, strict=True)]).sum() * self.weight
        return loss, {"jensen_shannon": loss.detach()}

    @staticmethod
    def layer_loss(old: Tensor, new: Tensor) -> Tensor:
        old, new = (scores.abs() / scores.abs().sum(dim=2, keepdim=True) for scores in (old, new))
        middle = (old + new) / 2
        parts = [(part * (part / middle + _EPS).log()).sum(dim=2) / 2 for part in (old, new)]
        return (parts[0] + parts[1]).mean()


def distill_logits(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Return the cross-entropy of the student's to the teacher's distribution (batch, classes), averaged.

    The loss of Learning without Forgetting (arXiv 1606.09282). The student's probabilities are smoothed by
    1e-5 / classes.
    """
    predicted = F.softmax(student / temperature, dim=1) + _EPS / student.shape[1]
    predicted = predicted / predicted.sum(dim=1, keepdim=True)
    return -(F.softmax(teacher / temperature, dim=1) * predicted.log()).sum(dim=1).mean()


class IncrementalCriterion(nn.Module):
    """Cross-entropy of a task in a stream of tasks, plus LwF's distillation of the earlier tasks' logits.

    Args:
        task_sizes: number of classes of each task; logits are in this order.
        distillation: weight of the distillation (`--lamb`); 0 for none.
        temperature: of the distillation (`--T`).
        shared: whether all tasks have the same classes, as domains have; the distillation is then of all logits.
    """

    def __init__(
        self,
        task_sizes: Sequence[int],
        distillation: float = 0.0,
        temperature: float = 2.0,
        shared: bool = False,
    ):
        super().__init__()
        if not task_sizes or min(task_sizes) < 1:
            raise ValueError(f"every task needs a positive number of classes, got {list(task_sizes)}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.task_sizes, self.distillation, self.temperature = list(task_sizes), distillation, temperature
        self.shared = shared

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        task: int,
        old_logits: Tensor | None = None,
        all_heads: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            logits: (batch, classes); those of later tasks are ignored.
            labels: (batch,), numbered over all tasks.
            task: number of the current task, from 0.
            old_logits: the previous model's (batch, classes); needed for a distillation.
            all_heads: whether the cross-entropy is over the classes of all tasks so far, as with rehearsal, instead of
                the current task's.
        """
        start = 0 if self.shared else sum(self.task_sizes[:task])
        end = start + self.task_sizes[task]
        if all_heads:
            loss = F.cross_entropy(logits[:, :end], labels)
        else:
            loss = F.cross_entropy(logits[:, start:end], labels - start)
        if not (task and self.distillation):
            return loss, {}
        if old_logits is None:
            raise ValueError("distillation needs the logits of the previous model: pass old_logits")
        learned = end if self.shared else start
        distilled = distill_logits(logits[:, :learned], old_logits[:, :learned], self.temperature)
        return loss + self.distillation * distilled, {"distillation_loss": distilled.detach()}


class ParameterPenalty(nn.Module):
    """Base of quadratic penalties on the change of parameters since the last task, each with an importance.

    Parameters are dicts {name: tensor}; those of heads are left out by the caller. The state is in `state_dict`.

    Args:
        weight: factor lambda on the penalty.
    """

    def __init__(self, weight: float):
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must not be negative, got {weight}")
        self.weight = weight
        self.importance: dict[str, Tensor] = {}
        self.anchors: dict[str, Tensor] = {}

    def forward(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the penalty; ValueError before the end of the first task or for other parameters."""
        if not self.anchors or parameters.keys() < self.anchors.keys():
            raise ValueError(
                f"expected the {len(self.anchors)} parameters of the last task's end, got {len(parameters)}"
                + ("" if self.anchors else "; before the end of the first task there are none")
            )
        terms = [
            (self.importance[name] * (parameters[name] - old).square()).sum() for name, old in self.anchors.items()
        ]
        penalty = self.weight * torch.stack(terms).sum()
        return penalty, {"penalty": penalty.detach()}

    def keep(self, parameters: Mapping[str, Tensor]) -> None:
        """Keep copies of the parameters, from which changes are counted."""
        self.anchors = {name: value.detach().clone() for name, value in parameters.items()}

    def get_extra_state(self) -> dict[str, dict[str, Tensor]]:
        return {"importance": self.importance, "anchors": self.anchors}

    def set_extra_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        self.importance, self.anchors = state["importance"], state["anchors"]


class ElasticWeightConsolidation(ParameterPenalty):
    """Elastic weight consolidation (arXiv 1612.00796): weight / 2 * sum of Fisher information * change squared.

    As in the original's `ewc.py`, the Fisher information is the squared gradient of a batch's mean loss, times the
    batch's size.

    Args:
        weight: factor lambda (`--lamb`).
        alpha: fraction of the old information where a task's is merged into it (`--alpha`); None for the fraction of
            the classes that came before the task (`--alpha -1`).
    """

    def __init__(self, weight: float = 5000.0, alpha: float | None = 0.5):
        super().__init__(weight)
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], or None, got {alpha}")
        self.alpha = alpha

    def forward(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        penalty, _ = super().forward(parameters)
        return penalty / 2, {"penalty": penalty.detach() / 2}

    def consolidate(
        self, parameters: Mapping[str, Tensor], fisher: Mapping[str, Tensor], old_fraction: float = 0.0
    ) -> None:
        """End a task: merge its Fisher information, and keep the parameters.

        Args:
            fisher: {name: tensor}, see `fisher_information`.
            old_fraction: fraction of the classes that came before this task; read if alpha is None.
        """
        alpha = old_fraction if self.alpha is None else self.alpha
        self.importance = {
            name: alpha * self.importance.get(name, torch.zeros_like(value)) + (1 - alpha) * value
            for name, value in fisher.items()
        }
        self.keep(parameters)


def fisher_labels(
    logits: Tensor, labels: Tensor, sampling: str = "max_pred", generator: torch.Generator | None = None
) -> Tensor:
    """Return the classes (batch,) for which Fisher information is computed (`--fi-sampling-type`).

    Args:
        logits: (batch, classes).
        labels: true classes (batch,).
        sampling: "true" labels, the most probable class, "max_pred", or a class drawn from the model's distribution,
            "multinomial".
    """
    if sampling == "true":
        return labels
    if sampling == "max_pred":
        return logits.argmax(dim=1)
    if sampling == "multinomial":
        return torch.multinomial(F.softmax(logits, dim=1), 1, generator=generator).flatten()
    raise ValueError(f"sampling must be true, max_pred or multinomial, got {sampling!r}")


def add_fisher(fisher: dict[str, Tensor], gradients: Mapping[str, Tensor], batch_size: int, num_samples: int) -> None:
    """Add a batch's squared gradients, times its size and divided by the number of all samples, in place."""
    for name, gradient in gradients.items():
        value = gradient.detach().square() * (batch_size / num_samples)
        fisher[name] = fisher[name] + value if name in fisher else value


class PathIntegral(ParameterPenalty):
    """Synaptic intelligence (arXiv 1703.04200): penalty by each parameter's contribution to the fall of the loss.

    Importances may be negative and are not clipped, as in the original's `path_integral.py`.

    Args:
        weight: factor c (`--lamb`).
        damping: added to the squared change of a parameter (`--damping`).
    """

    def __init__(self, weight: float = 0.1, damping: float = 0.1):
        super().__init__(weight)
        if damping <= 0:
            raise ValueError(f"damping must be positive, got {damping}")
        self.damping = damping
        self.path: dict[str, Tensor] = {}

    @torch.no_grad()
    def accumulate(
        self, gradients: Mapping[str, Tensor], before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> None:
        """Add a step: minus the gradient of the loss without penalty, times the change of the parameters."""
        for name, gradient in gradients.items():
            change = gradient * (after[name] - before[name])
            self.path[name] = self.path[name] - change if name in self.path else -change

    @torch.no_grad()
    def consolidate(self, parameters: Mapping[str, Tensor]) -> None:
        """End a task: turn the accumulated path into importance, and keep the parameters."""
        if not self.anchors:
            raise ValueError("call `keep` with the parameters before the first task")
        for name, path in self.path.items():
            added = path / ((parameters[name] - self.anchors[name]).square() + self.damping)
            self.importance[name] = self.importance[name] + added if name in self.importance else added
        self.path = {}
        self.keep(parameters)

    def get_extra_state(self) -> dict[str, dict[str, Tensor]]:
        return super().get_extra_state() | {"path": self.path}

    def set_extra_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        super().set_extra_state(state)
        self.path = state["path"]
