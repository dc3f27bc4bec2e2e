"""transformers' Trainer for runs that repeat exactly, and its subclass for classifiers."""

import contextlib
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput, rotate_checkpoints
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from hf_vits.data.label_columns import is_multi_label
from hf_vits.data.label_groups import heads_of
from hf_vits.evaluation.accuracy import accuracy_metrics, rank
from hf_vits.evaluation.multi_label import multi_label_metrics, score
from hf_vits.evaluation.regression import regression_metrics
from hf_vits.files import read_json, reading, writing
from hf_vits.optim.averaging import AVERAGE_FILE, WeightAverage
from hf_vits.optim.optimizers import build_optimizer
from hf_vits.optim.schedules import build_schedule
from hf_vits.optim.sharding import assembled, gather_state, shard, share_buffers, skeleton, whole_weights
from hf_vits.recipe import Recipe

from ..examples.batches import GlobalBatches
from ..examples.randomness import PartOfBatch, RandomStream, seed_at, seed_everything
from ..report.output import INCOMPLETE
from .best import has_stopped
from .teacher import Teacher


class TrainingLoader(DataLoader):
    """Data loader that passes the epoch, which Trainer sets, on to its batch sampler."""

    def set_epoch(self, epoch: int) -> None:
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


class RecipeTrainer(Trainer):
    """Trainer whose batches, augmentation and dropout depend only on the recipe's seed and the step.

    So a run that was killed and resumed ends with the weights of an uninterrupted run, and a run on several processes
    or with accumulation follows the loss curve of a single process. Checkpoints are written whole or not at all.

    A task's subclass defines `compute_loss`, `prediction_step` and `metrics`.

    Args:
        train_dataset: samples indexed by `SampleKey`.
        eval_dataset: samples indexed by number.
        collator, evaluation_collator: functions from a list of samples to a batch; None: PyTorch's `default_collate`.
        batches: sampler of this process's batches.
        processor: of the model's inputs.
        objective: module that returns the loss and a dict of values to log.
        teacher: of a distillation.
        average: EMA of the weights; evaluation uses it if recipe.train.use_ema is set.
    """

    # Function from transformers' EvalPrediction to {name: value}.
    metrics: ClassVar[Callable | None] = None
    # Whether train.sharding may be full.
    shards: ClassVar[bool] = False
    # Number of copies of a batch that go through the model as one; None: it varies.
    copies: int | None = 1

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        recipe: Recipe,
        *,
        train_dataset: Dataset,
        eval_dataset: Dataset,
        batches: GlobalBatches,
        processor: Any,
        objective: nn.Module,
        collator: Callable | None = None,
        evaluation_collator: Callable | None = None,
        teacher: Teacher | None = None,
        average: WeightAverage | None = None,
    ):
        self.recipe, self.batches, self.objective, self.average = recipe, batches, objective, average
        self.processor, self.evaluation_collator = processor, evaluation_collator
        self._logged: dict[str, list[torch.Tensor]] = defaultdict(list)
        self._step, self._accumulated = -1, 0
        self._skeleton: PreTrainedModel | None = None  # of a model that is sharded
        super().__init__(
            model,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=collator or default_collate,
            compute_metrics=self.metrics,
            callbacks=[average] if average else None,
        )
        self.teacher = teacher.to(self.args.device) if teacher else None
        if average:
            average.to(self.args.device)
        # The objective is a mean over a part of the global batch, so Trainer has to divide it by the number of parts.
        self.model_accepts_loss_kwargs = False

    def train(self, resume_from_checkpoint: str | None = None, **kwargs) -> TrainOutput:
        """Train; from a checkpoint of the last step only load it, since Trainer would take one step more.

        So is the checkpoint of a run that train.early_stopping ended.
        """
        if resume_from_checkpoint is not None:
            state = self._checked_state(Path(resume_from_checkpoint))
            stopped = has_stopped(state.log_history, self.recipe.output.best, self.recipe.train.early_stopping)
            if self.is_world_process_zero() and not stopped and state.global_step < self.args.max_steps:
                tqdm.write(f"resuming from step {state.global_step:,} of {self.args.max_steps:,}", file=sys.stderr)
            if stopped or state.global_step >= self.args.max_steps:
                self._load_from_checkpoint(resume_from_checkpoint)
                if self.average:
                    self.average.load(resume_from_checkpoint)
                self.state = state
                return TrainOutput(state.global_step, 0.0, {})
            done = state.global_step % self.batches.batches_per_epoch
            self.batches.skip(done * self.args.gradient_accumulation_steps)
        finished = super().train(resume_from_checkpoint, **kwargs)
        self._assemble()
        return finished

    def _prepare_for_training(self, *args, **kwargs):
        """Shard the model, which has its weights by now, before its optimizer is made."""
        if self.recipe.train.sharding == "full" and self._skeleton is None:
            self._skeleton = skeleton(self.model)
            mesh = init_device_mesh(self.args.device.type, (self.args.world_size,))
            for model in (self.model, *([self.average.model] if self.average else [])):
                shard(model, mesh)
            # So Trainer does not wrap the model for data parallelism.
            self.is_distributed_loading_by_transformers = True
        return super()._prepare_for_training(*args, **kwargs)

    def _defer_fsdp_gradient_reduction(self) -> contextlib.AbstractContextManager:
        """Divide the gradients of every part of a batch at once: whole ones would take the memory of all weights."""
        return contextlib.nullcontext()

    def whole_model(self) -> nn.Module:
        """Return the model, or of a sharded one a whole copy; all processes must call this."""
        return self.model if self._skeleton is None else assembled(self._skeleton, self.model)

    def _assemble(self) -> None:
        """Put a whole model in the place of a sharded one."""
        if self._skeleton is None:
            return
        self.model = self.model_wrapped = self.callback_handler.model = self.whole_model()
        if self.average:
            self.average.model = assembled(self._skeleton, self.average.model)
        self._skeleton, self.is_distributed_loading_by_transformers = None, False
        self.optimizer = self.lr_scheduler = self.callback_handler.optimizer = None
        self.accelerator.free_memory()

    def _checked_state(self, checkpoint: Path) -> TrainerState:
        """Return the state of a checkpoint that has all its files.

        transformers starts with a new optimizer and learning rate where one of their files is missing.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the state is damaged.
        """
        files = [TRAINER_STATE_NAME, SAFE_WEIGHTS_NAME, OPTIMIZER_NAME, SCHEDULER_NAME]
        files += [AVERAGE_FILE] if self.average else []
        advice = f"remove {checkpoint} to go on from the checkpoint before it, or else from the start"
        if missing := [name for name in files if not (checkpoint / name).is_file()]:
            raise FileNotFoundError(f"{checkpoint} lacks {', '.join(missing)}, so the run cannot go on: {advice}")
        path = checkpoint / TRAINER_STATE_NAME
        stored = read_json(path)
        kinds = {"global_step": int, "max_steps": int, "epoch": int | float, "log_history": list}
        kinds |= {"stateful_callbacks": dict, "total_flos": int | float}
        if wrong := [name for name, kind in kinds.items() if not isinstance(stored.get(name), kind)]:
            raise ValueError(f"{path} is damaged: {', '.join(wrong)} of another type than expected; {advice}")
        with reading(checkpoint, TRAINER_STATE_NAME):
            return TrainerState.load_from_json(str(path))

    def get_train_dataloader(self) -> DataLoader:
        return TrainingLoader(
            self.train_dataset,
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_num_workers > 0,
        )

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader:
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        loader = DataLoader(
            dataset,
            batch_size=self.args.eval_batch_size,
            collate_fn=self.evaluation_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        return self.accelerator.prepare(loader)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        return self.get_eval_dataloader(test_dataset)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.model if model is None else model, self.recipe.optimizer)
            if self._skeleton is not None:
                gather_state(self.optimizer)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.lr_scheduler is None:
            self.lr_scheduler = build_schedule(
                optimizer or self.optimizer,
                self.recipe.schedule,
                self.recipe.optimizer.learning_rate,
                num_training_steps,
                self.batches.batches_per_epoch,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """Compute loss and gradients of a part, with dropout and stochastic depth drawn for the global batch.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self._accumulated = self._accumulated + 1 if self._step == self.state.global_step else 0
        self._step = self.state.global_step
        seed_everything(seed_at(self.recipe.train.seed, RandomStream.DROPOUT, self._step))
        if self._skeleton is not None:
            share_buffers(self.model)
        with self._part_of_batch():
            loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {self._step}: a lower optimizer.learning_rate, a longer "
                "schedule.warmup or train.max_grad_norm may help"
            )
        return loss

    def _part_of_batch(self) -> contextlib.AbstractContextManager:
        if self.batches.parts == 1:
            return contextlib.nullcontext()
        part = self.batches.part(self._accumulated)
        return PartOfBatch(self.batches.part_size, part, self.batches.parts, self.copies)

    def keep_for_log(self, logged: dict[str, Tensor]) -> None:
        """Collect values that an objective returned for the next log entry."""
        for name, value in logged.items():
            self._logged[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, adding the collected values of the objective, averaged over steps and processes."""
        if "loss" in logs:
            for name, values in self._logged.items():
                mean: Any = self.accelerator.reduce(torch.stack(values).float().mean(), reduction="mean")
                logs[name] = mean.item()
            self._logged.clear()
        super().log(logs, start_time)

    def evaluation_loop(self, *args, **kwargs):
        """Evaluate as Trainer does, with the EMA weights if the recipe asks for them."""
        if self.average and self.recipe.train.use_ema:
            with self.average.applied_to(self.model):
                return super().evaluation_loop(*args, **kwargs)
        return super().evaluation_loop(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self._skeleton is None:
            super().save_model(output_dir, _internal_call)
            return
        weights = whole_weights(self.model)
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._skeleton is not None and not self.args.should_save:
            self.optimizer.state_dict()  # sends this process's part
        super()._save_optimizer_and_scheduler(output_dir)
        if self.average:
            self.average.save(output_dir, write=self.args.should_save)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with reading(checkpoint or "", OPTIMIZER_NAME, SCHEDULER_NAME):
            super()._load_optimizer_and_scheduler(checkpoint)
        if self.average and checkpoint is not None:
            self.average.load(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with reading(resume_from_checkpoint, SAFE_WEIGHTS_NAME, CONFIG_NAME):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with reading(checkpoint or "", "rng_state.pth"):
            super()._load_rng_state(checkpoint)

    def _get_output_dir(self, trial) -> str:
        """Return the temporary directory in which Trainer writes a checkpoint until it is complete."""
        return str(Path(self.args.output_dir) / INCOMPLETE)

    def _save_checkpoint(self, model, trial) -> None:
        staging = Path(self._get_output_dir(trial))
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            with writing(staging):
                super()._save_checkpoint(model, trial)
        except OSError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            (checkpoint,) = staging.iterdir()
            checkpoint.rename(Path(self.args.output_dir) / checkpoint.name)
            staging.rmdir()
            rotate_checkpoints(self.args.output_dir, save_total_limit=self.recipe.output.keep_checkpoints)
        self.accelerator.wait_for_everyone()


class ClassificationTrainer(RecipeTrainer):
    """Trainer of a classifier of any kind of input.

    A batch is the model's keyword arguments and `labels`: (batch,) classes or (batch, classes) distributions. The
    objective takes (logits, labels), with a teacher (logits, distillation logits, labels, teacher logits), with known
    labels (logits, labels, known labels). The loss of a model with early exits is the sum of the losses of its exits;
    the objective of what `further_logits` of a model returns is added with its weight.
    """

    shards = True

    def metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the scores of the kind of problem: accuracies, scores of several labels, or errors of numbers."""
        if self.is_regression:
            return regression_scores(prediction, self.model.config)
        several = is_multi_label(prediction.label_ids)
        if several:
            return multi_label_metrics(prediction)
        return accuracy_metrics(prediction, heads_of(self.model.config))

    @property
    def is_regression(self) -> bool:
        """Return whether the model predicts numbers."""
        return self.recipe.objective.loss == "mse"

    @property
    def copies(self) -> int:
        return 2 if self.recipe.objective.cosub else 1

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        features, labels = features_of(inputs), inputs["labels"]
        if self.recipe.objective.cosub:
            outputs = model(**{name: torch.cat([feature, feature]) for name, feature in features.items()})
        else:
            outputs = model(**features)
        exit_logits = outputs.get("exit_logits")
        every = [outputs.logits] if exit_logits is None else exit_logits.unbind(1)
        if "known_labels" in features:
            parts = [self.objective(logits, labels, features["known_labels"]) for logits in every]
        elif self.teacher is None:
            parts = [self.objective(logits, labels) for logits in every]
        else:
            with self.accelerator.autocast():
                teacher_logits = self.teacher(**features).float()
            parts = []
            for logits in every:
                class_logits = outputs.get("cls_logits", logits)
                distillation_logits = outputs.get("distillation_logits", logits)
                parts.append(self.objective(class_logits, distillation_logits, labels, teacher_logits))
        loss = sum(part for part, _ in parts)
        for number, (part, logged) in enumerate(parts, start=1):
            self.keep_for_log(logged)
            if len(parts) > 1:
                self.keep_for_log({f"exit{number}_loss": part.detach()})
        if hasattr(whole := self.accelerator.unwrap_model(model), "further_logits"):
            known = [features["known_labels"]] if "known_labels" in features else []
            for logits, weight in whole.further_logits(outputs):
                loss = loss + weight * self.objective(*with_labels(logits, labels), *known)[0]
        if outputs.get("auxiliary_loss") is not None:
            loss = loss + outputs.auxiliary_loss.mean()
        return (loss, outputs) if return_outputs else loss

    def logits(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return the logits (batch, classes) of an evaluation batch."""
        return model(**features_of(inputs)).logits

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Return no loss, the `rank`, `score` or numbers and errors of the logits as predictions, and the labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            logits = self.logits(model, inputs)
        labels = inputs["labels"]
        if self.is_regression:
            objective: Any = self.objective
            return None, (objective.in_units(logits), objective.errors(logits, labels)), labels
        several = labels.ndim == 2 and labels.is_floating_point()
        if several:
            return None, score(logits, labels, inputs.get("known_labels")), labels
        return None, rank(logits, labels, heads_of(self.model.config)), labels


def regression_scores(prediction: EvalPrediction, config: Any) -> dict[str, float]:
    """Return the loss and `regression_metrics` of predicted numbers and the errors of inputs."""
    predictions: Any = prediction.predictions
    predicted, errors = predictions
    scores = regression_metrics(predicted, np.asarray(prediction.label_ids), list(config.id2label.values()))
    return {"loss": float(errors.mean()), **scores}


def with_labels(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (batch, classes), or of parts (batch, parts, classes), in rows, and the label of each row."""
    if logits.ndim == 2:
        return logits, labels
    return logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1], dim=0)


def features_of(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch without its labels."""
    return {name: value for name, value in inputs.items() if name != "labels"}
