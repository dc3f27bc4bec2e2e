"""Section of a recipe that trains on a stream of tasks."""

from dataclasses import dataclass
from typing import Literal

from huggingface_hub.dataclasses import strict

from .fields import fraction, not_negative, positive


@strict
@dataclass(kw_only=True)
class ContinualRecipe:
    """A stream of tasks, which a classifier learns one after the other.

    Each task has classes of its own or, where the data section has domains, is one domain with all classes.

    train.length is the length of the whole stream; each task has a part in proportion to its images, and a learning
    rate schedule and an optimizer of its own.

    tasks: number of tasks. None: for domains, each of which is a task.
    first: classes of the first task. None: as many as the others.
    order: names of all classes in the order of the stream. None: the data's order.
    order_seed: random seed that shuffles the order. None: not shuffled.
    method: against forgetting: `naive` fine-tuning, the lower bound; `joint` training on the data of all tasks so far,
        the upper bound; `lwf`, distillation of the earlier tasks' logits; `attention` or `functional` regularisation
        of attention scores or of the outputs of heads; `ewc`; `path_integral`.
    weight: factor on the regularisation of attention or functional (mu), or on the penalty of ewc (the paper's
        repository: 5000) or path_integral (0.1). None: 1, 5000 or 0.1.
    distillation: weight of the distillation of logits, for lwf, attention and functional.
    temperature: of this distillation.
    pooling: of attention scores or outputs of heads: `spatial`, `width`, `height`, `gap` or `pixel`.
    symmetric: symmetric or asymmetric regularisation.
    after_norm: compare normalised maps. The asymmetric form on attention scores without it, as the paper's commands
        run it, has no gradient except for `pixel`.
    reverse: asymmetric regularisation of what the new model adds, instead of what it loses.
    pod: weight the regularisation by 3 * sqrt(classes so far / classes of the task) instead of `weight`.
    alpha: fraction of the old Fisher information in the merged one, for ewc. None: the fraction of earlier classes.
    sampling: classes for the Fisher information: the `true` ones, the most probable, or drawn ones.
    damping: of path_integral.
    memory: number of images of earlier tasks that are kept for rehearsal; 0: none. With a memory, the loss is over the
        classes of all tasks so far, and all of the head is trained.
    memory_kind: `ring`, the last images of each class; `reservoir`, a uniform sample of all images; `herding`, images
        whose mean feature is closest to their class's.
    per_head: normalise the logits of each task before they are compared with those of other tasks.
    """

    tasks: int | None = positive(default=None)
    first: int | None = positive(default=None)
    order: list[str] | None = None
    order_seed: int | None = None
    method: Literal["naive", "joint", "lwf", "attention", "functional", "ewc", "path_integral"] = "naive"
    weight: float | None = not_negative(default=None)
    distillation: float = not_negative(default=1.0)
    temperature: float = positive(default=2.0)
    pooling: Literal["spatial", "width", "height", "gap", "pixel"] = "spatial"
    symmetric: bool = False
    after_norm: bool = True
    reverse: bool = False
    pod: bool = False
    alpha: float | None = fraction(default=0.5)
    sampling: Literal["true", "max_pred", "multinomial"] = "max_pred"
    damping: float = positive(default=0.1)
    memory: int = not_negative(default=0)
    memory_kind: Literal["ring", "reservoir", "herding"] = "reservoir"
    per_head: bool = False

    def validate_memory(self):
        if self.method == "joint" and self.memory:
            raise ValueError("continual.method: joint trains on all images, so continual.memory must be 0")
