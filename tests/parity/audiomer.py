"""Golden cases of Audiomer-PyTorch: its newest form and the released checkpoints' form, and its preprocessing."""

import re

import torch

from hf_vits.conversion import convert
from hf_vits.conversion.systems.audiomer import processor
from hf_vits.models.audiomer.configuration_audiomer import AudiomerConfig
from hf_vits.processing.resample import LOWPASS_FILTER_WIDTH, ROLLOFF

from .golden import Case, Config
from .record import recording


def compute(case: Case) -> dict[str, torch.Tensor]:
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    if "config" not in case.config:
        return preprocess(case, inputs)
    model = convert("audiomer", "audiomer_s_sc12", case.checkpoint(), **overrides(case.config))
    check(case.config, model.config)
    encoder, first = model.model, model.model.layers[0]
    modules = {"block0_query": first.query, "block0_context": first.context}
    if first.attention is not None:
        modules |= {"block0_attention": first.attention.attention, "block0_performer": first.attention}
    waveform = inputs["waveform"][:, 0]
    with recording(modules) as seen:
        encoded = encoder(waveform, output_hidden_states=True)
        if "block0_context" not in seen:  # nothing reads it
            first.context(encoded.hidden_states[0])
    computed = seen | {f"hidden_{index}": wave for index, wave in enumerate(encoded.hidden_states)}
    if "block0_performer" in seen:  # without the residual around it
        computed["block0_performer"] = seen["block0_performer"] - seen["block0_query"]
    logits = model(waveform, labels=inputs["labels"].long())
    computed |= {
        "last_hidden_state": encoded.last_hidden_state.transpose(1, 2),
        "logits": logits.logits,
        "loss": logits.loss[None],
    }
    return with_frames(case, computed)


def preprocess(case: Case, clips: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    extractor = processor("audiomer_s_sc12", AudiomerConfig())
    case.config.check(new_freq=extractor.sampling_rate, length=extractor.max_length)
    case.config.check(lowpass_filter_width=LOWPASS_FILTER_WIDTH, rolloff=ROLLOFF, resampling_method="sinc_interp_hann")
    rate = case.config["orig_freq"]
    return {name: extractor(clip[0], rate, return_tensors="pt")["input_values"] for name, clip in clips.items()}


def overrides(config: Config) -> dict:
    """What no tensor records, or none where there is no attention."""
    return {
        "num_attention_heads": config["num_heads"],
        "head_dim": config["dim_head"],
        "mlp_ratio": config["expansion_factor"],
        "context_stride": 2 if config["equal_strides"] else 4,
        "pooling": {"cls": "class_samples", "mean": "mean", "none": "first"}[config["pool"]],
        "classifier_dropout_prob": config["mlp_dropout"],
    }


def check(config: Config, built: AudiomerConfig) -> None:
    """Compare what the file recorded of the model, and what every model here has, with the case's configuration."""
    config.check(
        config=[1, *built.hidden_sizes],
        kernel_sizes=[built.kernel_size] * len(built.hidden_sizes),
        num_classes=built.num_labels,
        mlp_dim=built.hidden_sizes[-1],
        depth=1,
        use_residual=built.use_residual,
        use_attention=built.use_attention,
        use_se=built.use_squeeze_excitation,
    )


def with_frames(case: Case, computed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What was computed, and what a case names `X_every_N`: every N-th frame of X.

    Frames are the last axis of hidden states and axis 1 of what is inside a block.
    """
    for name in case.meta["outputs"]:
        if match := re.fullmatch(r"(.+)_every_(\d+)", name):
            whole, step = computed[match[1]], int(match[2])
            computed[name] = whole[:, ::step] if name.startswith("block") else whole[..., ::step]
    return computed
