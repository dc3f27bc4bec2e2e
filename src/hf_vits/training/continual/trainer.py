"""Trainer of a classifier that learns a stream of tasks."""

import contextlib
import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, default_collate
from transformers import TrainerCallback

from hf_vits.data.class_splits import ClassSplit
from hf_vits.data.domains import DomainSplit
from hf_vits.evaluation.continual import hits
from hf_vits.evaluation.features import evaluating
from hf_vits.files import reading
from hf_vits.layers.recorded_attention import Attended, recording_attention
from hf_vits.objectives import (
    ElasticWeightConsolidation,
    IncrementalCriterion,
    PathIntegral,
    PooledDistillationLoss,
)
from hf_vits.objectives.continual import add_fisher, fisher_labels, pod_weight
from hf_vits.optim.schedules import learning_rate
from hf_vits.recipe import ContinualRecipe

from ..examples.batches import SampleKey
from ..examples.randomness import RandomStream, seed_at
from ..loop.trainer import ClassificationTrainer, features_of
from .parameters import backbone_parameters, head_parameters, head_rows_kept
from .stream import TaskBatches, herding, reservoir, ring

STATE = "continual.pt"
_DISTILLING = ("lwf", "attention", "functional")
_REGULARIZED = ("attention", "functional")


class ContinualTrainer(ClassificationTrainer):
    """Trainer on a stream of tasks.

    At the end of a task, the model is measured on all tasks, and the method keeps what it needs: a frozen copy of the
    model, importances of parameters, a memory of images. All of it is in the checkpoints.

    Attributes:
        accuracy: {"aware" or "agnostic": rows of accuracies on every task, one for each task that was learned}.
        untrained: accuracies on every task before training, task-aware.
    """

    shards = False
    batches: Any
    split: ClassSplit | DomainSplit
    measured: Dataset

    def prepare(
        self, split: ClassSplit | DomainSplit, measured: Dataset, measured_tasks: np.ndarray, labels: np.ndarray
    ) -> None:
        """Set up the stream.

        Args:
            split: division of the classes among tasks, or the domains.
            measured: data set on which accuracies are measured after every task.
            measured_tasks: task of each of its images (images,).
            labels: classes of the training images (images,).
        """
        recipe = self.stream
        self.split, self.measured, self.labels = split, measured, labels
        self.measured_tasks = torch.from_numpy(measured_tasks)
        self.positions = torch.from_numpy(split.positions(np.arange(len(split.order))))
        self.order = torch.tensor(split.order)
        self.accuracy: dict[str, list[list[float]]] = {"aware": [], "agnostic": []}
        self.untrained: list[float] = []
        self.old: Any = None
        self.rows = contextlib.ExitStack()
        head_parameters(self.model)
        distillation = recipe.distillation if recipe.method in _DISTILLING else 0.0
        self.criterion = IncrementalCriterion(split.sizes, distillation, recipe.temperature, self.one_head)
        self.penalty: Any = None
        if recipe.method == "ewc":
            self.penalty = ElasticWeightConsolidation(5000.0 if recipe.weight is None else recipe.weight, recipe.alpha)
        elif recipe.method == "path_integral":
            self.penalty = PathIntegral(0.1 if recipe.weight is None else recipe.weight, recipe.damping)
            self.penalty.keep(backbone_parameters(self.model))
        self.gradients: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}
        self.regularizer: Any = None
        if recipe.method in _REGULARIZED:
            self.regularizer = PooledDistillationLoss(
                recipe.pooling,
                recipe.symmetric,
                recipe.after_norm or recipe.method == "functional",
                reverse=recipe.reverse,
                weight=1.0 if recipe.weight is None else recipe.weight,
            )
        self.add_callback(TaskEnds(self))

    @property
    def stream(self) -> ContinualRecipe:
        stream: Any = self.recipe.continual
        return stream

    @property
    def task(self) -> int:
        """Number of the task that the next step trains on."""
        return self.batches.task_at(self.state.global_step)

    @property
    def one_head(self) -> bool:
        """Whether all tasks have the same classes, as domains have."""
        return isinstance(self.split, DomainSplit)

    def end(self, task: int) -> int:
        """Return the number of classes up to the end of a task."""
        return self.split.offsets[task] + self.split.sizes[task]

    @property
    def all_heads(self) -> bool:
        return bool(self.stream.memory) or self.stream.method == "joint"

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        """Return a schedule that begins anew with each task."""
        if self.lr_scheduler is None:
            peak, batches = self.recipe.optimizer.learning_rate, self.batches
            starts = [batches.start(task) for task in range(len(batches.ends))]
            rates = [
                learning_rate(self.recipe.schedule, peak, end - start, batches.batches_per_epoch)
                for start, end in zip(starts, batches.ends, strict=True)
            ]

            def factor(step: int) -> float:
                task = batches.task_at(step)
                return rates[task](step - starts[task]) / peak

            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def pool(self, attended: Attended) -> Tensor:
        """Return what the regulariser compares of an attention layer."""
        if self.stream.method == "functional":
            return self.regularizer.pool(attended.output)
        if attended.bias is not None:
            return self.regularizer.pool(attended.scores())
        return self.regularizer.pool_scores(attended.query, attended.key, attended.scaling)

    def forward_recorded(self, model: Any, features: dict[str, Tensor], active: bool) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (batch, classes) in the order of the stream and the layers' pooled attention."""
        if not active:
            return model(**features).logits[:, self.order], []
        with recording_attention(self.accelerator.unwrap_model(model), self.pool) as pooled:
            logits = model(**features).logits
        if not pooled:
            raise ValueError(
                f"continual.method: {self.stream.method} needs a model with softmax attention, which "
                f"{type(model).__name__} has not"
            )
        return logits[:, self.order], pooled

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        features, task = features_of(inputs), self.task
        labels = self.positions.to(inputs["labels"].device)[inputs["labels"]]
        regularized = task > 0 and self.regularizer is not None
        logits, new = self.forward_recorded(model, features, regularized)
        old_logits, old = None, []
        if task and self.old is not None:
            with torch.no_grad(), self.accelerator.autocast():
                old_logits, old = self.forward_recorded(self.old, features, regularized)
        loss, logged = self.criterion(logits.float(), labels, task, old_logits, self.all_heads)
        self.keep_for_log(logged)
        if regularized:
            if self.stream.pod:
                self.regularizer.weight = pod_weight(self.end(task), self.split.sizes[task])
            added, logged = self.regularizer.compare(old, new)
            self.keep_for_log(logged)
            loss = loss + added
        if isinstance(self.penalty, PathIntegral):
            self.add_gradients(loss)
        if task and self.penalty is not None:
            added, logged = self.penalty(backbone_parameters(self.model))
            self.keep_for_log(logged)
            loss = loss + added
        return (loss, {"logits": logits}) if return_outputs else loss

    def add_gradients(self, loss: Tensor) -> None:
        """Add the gradients of the loss without penalty to those of the step's other parts."""
        parameters = backbone_parameters(self.model)
        found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                part = gradient / self.args.gradient_accumulation_steps
                self.gradients[name] = self.gradients[name] + part if name in self.gradients else part

    def frozen_rows(self) -> list[int]:
        """Return the rows of the head that a step leaves as they are: without rehearsal those of other tasks."""
        task, order = self.task, list(self.split.order)
        start = 0 if self.all_heads else self.split.offsets[task]
        return order[:start] + order[self.end(task) :]

    def before_step(self) -> None:
        self.rows.enter_context(head_rows_kept(self.model, self.frozen_rows()))
        if isinstance(self.penalty, PathIntegral):
            self.before = {name: value.detach().clone() for name, value in backbone_parameters(self.model).items()}

    def after_step(self) -> None:
        self.rows.close()
        if isinstance(self.penalty, PathIntegral):
            self.penalty.accumulate(self.gradients, self.before, backbone_parameters(self.model))
            self.gradients, self.before = {}, {}

    @torch.no_grad()
    def measure(self, task: int) -> tuple[list[float], list[float]]:
        """Return the task-aware and task-agnostic accuracy on every task; the latter among the classes so far."""
        sizes, found = list(self.split.sizes), []
        with evaluating(self.model):
            for batch in self.get_eval_dataloader(self.measured):
                batch = self._prepare_inputs(batch)
                logits = self.model(**features_of(batch)).logits[:, self.order].float().cpu()
                labels = self.positions[batch["labels"].cpu()]
                aware, _ = hits(logits, labels, sizes[:1] if self.one_head else sizes)
                if self.stream.per_head:
                    logits = torch.cat([head.log_softmax(dim=1) for head in logits.split(sizes, dim=1)], dim=1)
                agnostic = logits[:, : self.end(task)].argmax(dim=1) == labels
                found.append(torch.stack([aware, agnostic]))
        right = torch.cat(found, dim=1).float()
        counts = torch.bincount(self.measured_tasks, minlength=len(sizes)).clamp(min=1)
        aware, agnostic = (
            (torch.bincount(self.measured_tasks, row, minlength=len(sizes)) / counts).tolist() for row in right
        )
        return aware, agnostic

    def begin(self) -> None:
        """Measure the untrained model, before the first step of the stream."""
        if not self.untrained:
            self.untrained = self.measure(0)[0]

    def finish(self, task: int) -> None:
        """End a task: measure the model, and keep what the next task needs."""
        for rows, row in zip(self.accuracy.values(), self.measure(task), strict=True):
            rows.append(row)
        if task == len(self.split.sizes) - 1:
            return
        self.optimizer.state.clear()
        if self.stream.method in _DISTILLING:
            self.keep_model()
        if isinstance(self.penalty, PathIntegral):
            self.penalty.consolidate(backbone_parameters(self.model))
        elif self.penalty is not None:
            seen = np.cumsum(self.split.sizes)
            fraction = float(1 - self.split.sizes[task] / seen[task])
            self.penalty.consolidate(backbone_parameters(self.model), self.fisher(task), fraction)
        if self.stream.memory:
            self.batches.memories[task + 1] = self.remember(task)

    def keep_model(self) -> None:
        """Keep a frozen copy of the model, in evaluation mode."""
        self.old = copy.deepcopy(self.accelerator.unwrap_model(self.model)).eval().requires_grad_(False)

    def fisher(self, task: int) -> dict[str, Tensor]:
        """Return the Fisher information of the backbone's parameters on a task's images, in batches."""
        members, size = self.batches.members[task], self.recipe.train.batch_size
        groups = np.split(members, range(size, len(members), size))
        generator = torch.Generator().manual_seed(seed_at(self.recipe.train.seed, RandomStream.AUGMENTATION, task))
        fisher: dict[str, Tensor] = {}
        self.model.train()
        for indices in groups:
            batch = self.training_batch(indices)
            logits = self.model(**features_of(batch)).logits
            logits = logits[:, self.order][:, : self.end(task)]
            labels = self.positions.to(logits.device)[batch["labels"]]
            chosen = fisher_labels(logits.cpu(), labels.cpu(), self.stream.sampling, generator).to(logits.device)
            parameters = backbone_parameters(self.model)
            loss = F.cross_entropy(logits, chosen)
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            gradients = {name: value for name, value in zip(parameters, found, strict=True) if value is not None}
            add_fisher(fisher, gradients, len(indices), len(members))
        return fisher

    def remember(self, task: int) -> np.ndarray:
        """Return the images of the tasks so far that the next task rehearses."""
        come = np.concatenate(self.batches.members[: task + 1])
        members = [come[self.labels[come] == label] for label in self.split.order[: self.end(task)]]
        seed = seed_at(self.recipe.train.seed, RandomStream.ORDER, len(self.split.sizes), task)
        if self.stream.memory_kind == "reservoir":
            return reservoir(members, self.stream.memory, seed)
        if self.stream.memory_kind == "ring":
            return ring(members, self.stream.memory)
        # Of earlier tasks only the images that the memory still holds can be chosen.
        held = self.batches.pool(task)
        members = [images[np.isin(images, held)] for images in members]
        return herding([self.features(images) for images in members], members, self.stream.memory)

    def training_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Return a batch of training images, each always augmented in the same way."""
        samples: Any = self.train_dataset
        keys = [SampleKey(int(index), int(index), None, int(index), 0) for index in indices]
        return self._prepare_inputs((self.data_collator or default_collate)([samples[key] for key in keys]))

    @torch.no_grad()
    def features(self, indices: np.ndarray) -> np.ndarray:
        """Return the pooled features (images, channels) of training images."""
        found = [np.zeros((0, 1))] if not len(indices) else []
        encoder: Any = self.model.base_model
        with evaluating(self.model):
            for part in np.split(indices, range(128, len(indices), 128)):
                batch = self.training_batch(part)
                outputs = encoder(**features_of(batch))
                pooled = outputs.pooler_output.flatten(1)
                found.append(pooled.float().cpu().numpy())
        return np.concatenate(found)

    def continual_state(self) -> dict[str, Any]:
        return {
            "order": list(self.split.order),
            "sizes": list(self.split.sizes),
            "domains": list(self.split.names) if isinstance(self.split, DomainSplit) else [],
            "accuracy": self.accuracy,
            "untrained": self.untrained,
            "memories": {task: torch.from_numpy(images) for task, images in self.batches.memories.items()},
            "old": None if self.old is None else self.old.state_dict(),
            "penalty": None if self.penalty is None else self.penalty.get_extra_state(),
        }

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        torch.save(self.continual_state(), Path(output_dir) / STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        path = Path(resume_from_checkpoint) / STATE
        if not path.is_file():
            raise FileNotFoundError(
                f"{resume_from_checkpoint} lacks {STATE}, so the stream cannot go on: remove this checkpoint to go on "
                "from the one before it, or else from the start"
            )
        with reading(resume_from_checkpoint, STATE):
            state = torch.load(path, map_location=self.args.device, weights_only=True)
        here = self.continual_state()
        if any(state[name] != here[name] for name in ("order", "sizes", "domains")):
            theirs, ours = (
                f"classes {one['order']} in tasks of {one['sizes']}"
                + (f", domains {', '.join(one['domains'])}" if one["domains"] else "")
                for one in (state, here)
            )
            raise ValueError(
                f"{resume_from_checkpoint} is of a stream with {theirs}, this one has {ours}: resume with the same "
                "continual.tasks, first, order and order_seed and the same data and domains"
            )
        self.accuracy, self.untrained = state["accuracy"], state["untrained"]
        self.batches.memories = {task: images.cpu().numpy() for task, images in state["memories"].items()}
        if state["old"] is not None:
            self.keep_model()
            self.old.load_state_dict(state["old"])
        if self.penalty is not None:
            self.penalty.set_extra_state(state["penalty"])


class TaskEnds(TrainerCallback):
    """Calls the trainer around optimizer steps and at the end of each task."""

    def __init__(self, trainer: ContinualTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.begin()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.before_step()

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.after_step()

    def on_step_end(self, args, state, control, **kwargs):
        batches: TaskBatches = self.trainer.batches
        if state.global_step in batches.ends:
            self.trainer.finish(batches.ends.index(state.global_step))
