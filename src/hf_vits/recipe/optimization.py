"""The sections of a recipe that say what is minimised, and how."""

from dataclasses import dataclass, field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .fields import duration, not_negative, positive, share, steps_of


@strict
@dataclass(kw_only=True)
class ObjectiveRecipe:
    """The loss.

    loss: softmax cross-entropy; `binary` per class, mean over elements, targets made 0 or 1 (DeiT III); `sigmoid`
        per class, summed over classes, soft targets (big_vision).
    label_smoothing: of the softmax cross-entropy.
    cosub: co-train two submodels on every batch (arXiv 2212.04884), by binary cross-entropies, mean over elements;
        the targets are soft with loss: sigmoid, 0 or 1 with loss: binary.
    distillation: how the `teacher` is followed (arXiv 2012.12877).
    alpha: weight of the distillation term.
    temperature: of soft distillation.
    """

    loss: Literal["cross_entropy", "binary", "sigmoid"] = "cross_entropy"
    label_smoothing: float = share(default=0.0)
    cosub: bool = False
    distillation: Literal["none", "soft", "hard"] = "none"
    alpha: float = share(default=0.5)
    temperature: float = positive(default=1.0)

    def validate_smoothing(self):
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError(f"label smoothing goes with loss: cross_entropy, not {self.loss}")

    def validate_cosub(self):
        if self.cosub and (self.distillation != "none" or self.loss == "cross_entropy"):
            raise ValueError("objective.cosub goes with loss: binary or sigmoid and without distillation")


@strict
@dataclass(kw_only=True)
class OptimizerRecipe:
    """The optimizer and which parameters it treats differently.

    Biases, norms, gains and all else of at most one dimension never decay.

    name: which optimizer.
    learning_rate: at its peak, for the global batch as it is: nothing scales it.
    weight_decay: relative to the learning rate, as in AdamW.
    head_weight_decay: of the classifier, if it differs (Scaling ViT, arXiv 2106.04560).
    final_weight_decay: where the weight decay gets to, along half a cosine (DINO, arXiv 2104.14294); none: it stays.
    no_decay: regular expressions of further parameter names that do not decay.
    layer_decay: factor of the learning rate from each layer to the one below it (arXiv 2003.10555).
    options: further keyword arguments of the optimizer, such as betas.
    """

    name: Literal["adamw", "sgd", "lamb", "adafactor", "lars"] = "adamw"
    learning_rate: float = positive()
    weight_decay: float = not_negative(default=0.0)
    head_weight_decay: float | None = not_negative(default=None)
    final_weight_decay: float | None = not_negative(default=None)
    no_decay: list[str] = field(default_factory=lambda: ["position_embedding", "prefix_tokens", "cls_token", "probe"])
    layer_decay: float = positive(default=1.0)
    options: dict[str, Any] = field(default_factory=dict)


@strict
@dataclass(kw_only=True)
class ScheduleRecipe:
    """The learning rate over time, step by step.

    kind: after the warm-up, `cosine` or `linear` down to min_learning_rate; `closed_cosine` is a cosine whose warm-up
        includes both of its ends (DINO); `rsqrt` falls as 1 / sqrt(1 + steps / timescale); `constant` stays.
    warmup: how long the learning rate rises, linearly, to the optimizer's learning rate.
    warmup_learning_rate: where that rise begins.
    min_learning_rate: the lowest learning rate that a decay or a cooldown reaches.
    cooldown: last part of the run: at min_learning_rate after a cosine or linear decay, linearly down to it otherwise.
    timescale: of `rsqrt`, see kind.
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
    """The run.

    length: for how long to train.
    batch_size: images per optimizer step, over all processes and accumulated parts.
    accumulation: in how many parts a process takes its share of a batch.
    seed: of initialisation, order, augmentation and dropout.
    precision: `auto` is bfloat16 autocast on devices that have it, else float32.
    max_grad_norm: gradients are clipped to this norm; none: not at all.
    clip_each: the gradient of each parameter is clipped by itself, not all of them as one.
    ema_decay: keep an exponential moving average of the weights, in the checkpoints.
    use_ema: evaluate and save that average as the result.
    evaluate_every, save_every, log_every: when to validate, to write a checkpoint to resume from, to log.
    evaluation_batch_size: images per evaluation step and process.
    workers: processes per process that load images.
    activation_checkpointing: recompute activations in the backward pass, to save memory.
    deterministic: use deterministic kernels on accelerators too, which is slower. On CPU every run is.
    """

    length: str = duration()
    batch_size: int = positive()
    accumulation: int = positive(default=1)
    seed: int = not_negative(default=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    max_grad_norm: float | None = positive(default=None)
    clip_each: bool = False
    ema_decay: float | None = share(default=None)
    use_ema: bool = False
    evaluate_every: str | None = duration(default="1 epoch")
    save_every: str | None = duration(default="1 epoch")
    log_every: str = duration(default="50 steps")
    evaluation_batch_size: int = positive(default=128)
    workers: int = not_negative(default=0)
    activation_checkpointing: bool = False
    deterministic: bool = False

    def validate_length(self):
        if steps_of(self.length, 1_000_000) == 0:
            raise ValueError(f"train.length {self.length} is no training at all")

    def validate_clipping(self):
        if self.clip_each and self.max_grad_norm is None:
            raise ValueError("train.clip_each needs train.max_grad_norm")

    def validate_ema(self):
        if self.use_ema and self.ema_decay is None:
            raise ValueError("train.use_ema needs train.ema_decay")
