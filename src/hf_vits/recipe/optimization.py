"""Sections of a recipe: loss, optimizer, learning rate and the run itself."""

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .fields import duration, fraction, not_negative, positive, seed, steps_of


@strict
@dataclass(kw_only=True)
class ObjectiveRecipe:
    """The loss.

    loss: `cross_entropy`, softmax cross-entropy; `binary`, binary cross-entropy, mean over classes, with targets made
        0 or 1 (DeiT III); `sigmoid`, binary cross-entropy, sum over classes, with soft targets (big_vision);
        `focal`, cross-entropy in which what is classified well counts less (arXiv 1708.02002);
        `asymmetric`, for inputs with several labels (arXiv 2009.14119); `masked`, for models that take known labels:
        binary cross-entropy, sum over the labels that are not known (C-Tran). With several labels of each input
        (data.columns.labels) all but cross_entropy are possible, and unknown labels count in none. `mse`, the mean
        squared error, is for numbers (data.columns.targets).
    standardize: with loss mse, train on targets of mean 0 and standard deviation 1, as they are in the training split.
        Predictions, measurements and the saved model have the units of the data.
    known_fraction: with loss masked, the largest fraction of an input's labels that are known in training; their
        number is drawn uniformly from 0 to it.
    evaluated_fraction: with loss masked, the fraction of an input's labels that are known in evaluations.
    label_smoothing: label smoothing of cross_entropy and focal, 0 to 1; 0: off.
    focal_gamma: exponent of the focal loss; 0: cross-entropy.
    class_weights: weights of the classes in cross_entropy and focal: `balanced`, inversely proportional to their
        numbers of training inputs, or {class: weight}, in which other classes have 1. None: all alike. For imbalanced
        data, see also data.sampler.
    cosub: co-train two submodels on every batch (arXiv 2212.04884), with loss binary or sigmoid.
    distillation: form of distillation from `teacher` (arXiv 2012.12877): its class probabilities (`soft`), its most
        probable class (`hard`), or `none`.
    alpha: weight of the distillation term, 0 to 1; the other term has 1 - alpha.
    temperature: softmax temperature of soft distillation.
    """

    loss: Literal["cross_entropy", "focal", "binary", "sigmoid", "asymmetric", "masked", "mse"] = "cross_entropy"
    standardize: bool = True
    known_fraction: float = fraction(default=0.75)
    evaluated_fraction: float = fraction(default=0.0)
    label_smoothing: float = fraction(default=0.0)
    focal_gamma: float = not_negative(default=2.0)
    class_weights: str | dict[str, float] | None = None
    cosub: bool = False
    distillation: Literal["none", "soft", "hard"] = "none"
    alpha: float = fraction(default=0.5)
    temperature: float = positive(default=1.0)

    def validate_smoothing(self):
        if self.label_smoothing and self.loss not in ("cross_entropy", "focal"):
            raise ValueError(f"label smoothing goes with loss: cross_entropy or focal, not {self.loss}")

    def validate_class_weights(self):
        if self.class_weights is None:
            return
        if self.loss not in ("cross_entropy", "focal") or self.distillation != "none":
            raise ValueError(
                "objective.class_weights goes with loss: cross_entropy or focal and without distillation, "
                f"got loss: {self.loss}, distillation: {self.distillation}"
            )
        if isinstance(self.class_weights, str):
            if self.class_weights != "balanced":
                raise ValueError(
                    f"objective.class_weights is balanced or {{class: weight}}, got {self.class_weights!r}"
                )
        elif not all(0 <= weight < math.inf for weight in self.class_weights.values()):
            raise ValueError(f"objective.class_weights must be finite and not negative, got {self.class_weights}")

    def validate_known(self):
        if self.evaluated_fraction and self.loss != "masked":
            raise ValueError(f"objective.evaluated_fraction goes with loss: masked, not {self.loss}")

    def validate_standardize(self):
        if not self.standardize and self.loss != "mse":
            raise ValueError(f"objective.standardize goes with loss: mse, not {self.loss}")

    def validate_cosub(self):
        if self.cosub and (self.distillation != "none" or self.loss not in ("binary", "sigmoid")):
            raise ValueError("objective.cosub goes with loss: binary or sigmoid and without distillation")


@strict
@dataclass(kw_only=True)
class OptimizerRecipe:
    """The optimizer, and the parameters that it treats differently.

    Biases, norm weights, layer scale gammas and all other parameters of at most one dimension have no weight decay.

    name: optimizer; `adamw` and `sgd` are PyTorch's, `lamb`, `adafactor` and `lars` those of
        `hf_vits.optim.optimizers`.
    learning_rate: peak learning rate, for the global batch size as given; nothing scales it.
    weight_decay: weight decay, multiplied by the learning rate at each step, as in AdamW.
    head_weight_decay: weight decay of the classifier (Scaling ViT, arXiv 2106.04560). None: weight_decay.
    final_weight_decay: weight decay at the run's end, reached along half a cosine (DINO, arXiv 2104.14294). None: it
        stays constant.
    no_decay: regular expressions; parameters whose names match one have no weight decay.
    rate_factors: {regular expression: factor}; parameters whose names match have the learning rate times this factor,
        of the first expression that matches.
    layer_decay: factor from each layer's learning rate to the rate of the layer below (arXiv 2003.10555); 1: off.
    options: further keyword arguments of the optimizer by name, such as betas.
    """

    name: Literal["adamw", "sgd", "lamb", "adafactor", "lars"] = "adamw"
    learning_rate: float = positive()
    weight_decay: float = not_negative(default=0.0)
    head_weight_decay: float | None = not_negative(default=None)
    final_weight_decay: float | None = not_negative(default=None)
    no_decay: list[str] = field(default_factory=lambda: ["position_embedding", "prefix_tokens", "cls_token", "probe"])
    rate_factors: dict[str, float] = field(default_factory=dict)
    layer_decay: float = positive(default=1.0)
    options: dict[str, Any] = field(default_factory=dict)

    def validate_patterns(self):
        for name in ("no_decay", "rate_factors"):
            for pattern in getattr(self, name):
                try:
                    re.compile(pattern)
                except (re.error, OverflowError, RecursionError) as error:
                    raise ValueError(f"optimizer.{name}: {pattern!r} is no regular expression: {error}") from error
        if not all(0 <= factor < math.inf for factor in self.rate_factors.values()):
            raise ValueError(f"optimizer.rate_factors must not be negative, got {self.rate_factors}")


@strict
@dataclass(kw_only=True)
class ScheduleRecipe:
    """The learning rate over the run, changed at every step.

    kind: decay after the warm-up. `cosine` and `linear` fall to min_learning_rate; `closed_cosine` is DINO's cosine,
        whose linear warm-up contains both of its ends; `rsqrt` falls as 1 / sqrt(1 + steps / timescale); `constant`
        stays.
    warmup: duration of the linear warm-up from warmup_learning_rate to the peak, such as "5 epochs".
    warmup_learning_rate: learning rate of the first step of the warm-up.
    min_learning_rate: learning rate at the end of the decay and of the cooldown.
    cooldown: duration of the last part of the run: constant at min_learning_rate after a cosine or linear decay, a
        linear fall to it after the other kinds.
    timescale: duration in which the learning rate of `rsqrt` falls to 1 / sqrt(2) of its peak.
    """

    kind: Literal["cosine", "closed_cosine", "linear", "rsqrt", "constant"] = "cosine"
    warmup: str = duration(default="0 steps")
    warmup_learning_rate: float = not_negative(default=0.0)
    min_learning_rate: float = not_negative(default=0.0)
    cooldown: str = duration(default="0 steps")
    timescale: str = duration(default="10000 steps")


@strict
@dataclass(kw_only=True)
class TrainRecipe:
    """Length, batches, precision and checkpoints of the run.

    length: duration of the run, such as "300 epochs" or "10000 steps". It may be made longer when the run is started
        again, after its end too; the run goes on from its last checkpoint, by the schedule of the new length.
    early_stopping: number of evaluations in a row without a better value of output.best after which the run ends.
        None: never.
    batch_size: inputs per optimizer step, over all processes and accumulation steps.
    accumulation: number of forward and backward passes, on each process, for one optimizer step.
    seed: random seed of the initial weights, the order of inputs, augmentation and dropout.
    precision: `fp32`, `bf16` (autocast), or `auto`: bf16 on devices that support it, else fp32.
    max_grad_norm: largest norm of the gradient; larger gradients are clipped to it. None: no clipping.
    clip_each: clip the gradient of each parameter by its own norm, not all of them by their common one.
    ema_decay: decay of an exponential moving average (EMA) of the weights, kept in the checkpoints. None: no EMA.
    use_ema: evaluate and save the EMA weights.
    evaluate_every: duration between evaluations on the validation split. None: never during training.
    save_every: duration between checkpoints, from which an interrupted run resumes. None: no checkpoints.
    log_every: duration between log entries of the loss and learning rate.
    report_to: trackers that the log goes to, by transformers' names, such as [tensorboard], [wandb], [trackio] or
        [mlflow].
    evaluation_batch_size: inputs per evaluation step on each process.
    workers: number of worker processes that load inputs, for each process; 0: the process itself.
    activation_checkpointing: recompute activations in the backward pass, to save memory.
    sharding: `full` divides weights, gradients, optimizer state and EMA among the processes (FSDP2), each of which
        gathers the weights of a layer while it computes it; `none`: every process has all.
    compile: compile the model with torch.compile, which takes minutes at the start and makes steps faster after it.
    deterministic: use deterministic kernels on accelerators too, which is slower. Runs on the CPU are always
        deterministic.
    """

    length: str = duration()
    early_stopping: int | None = positive(default=None)
    batch_size: int = positive()
    accumulation: int = positive(default=1)
    seed: int = seed(default=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    max_grad_norm: float | None = positive(default=None)
    clip_each: bool = False
    ema_decay: float | None = fraction(default=None)
    use_ema: bool = False
    evaluate_every: str | None = duration(default="1 epoch")
    save_every: str | None = duration(default="1 epoch")
    log_every: str = duration(default="50 steps")
    report_to: list[str] = field(default_factory=list)
    evaluation_batch_size: int = positive(default=128)
    workers: int = not_negative(default=0)
    activation_checkpointing: bool = False
    sharding: Literal["none", "full"] = "none"
    compile: bool = False
    deterministic: bool = False

    def validate_length(self):
        if steps_of(self.length, 1_000_000) == 0:
            raise ValueError(f"train.length {self.length} trains for no step; make it longer")

    def validate_clipping(self):
        if self.clip_each and self.max_grad_norm is None:
            raise ValueError("train.clip_each needs train.max_grad_norm")

    def validate_ema(self):
        if self.use_ema and self.ema_decay is None:
            raise ValueError("train.use_ema needs train.ema_decay")
