"""Golden cases of google-deepmind/hierarchical_perceiver."""

import torch

from hf_vits.conversion import convert

from .golden import Case, Config

NAMES = {
    "num_groups": "num_groups",
    "z_index_dim": "num_latents",
    "num_z_channels": "hidden_sizes",
    "num_self_attends_per_block": "depths",
    "num_self_attend_heads": "num_attention_heads",
    "num_cross_attend_heads": "num_cross_attention_heads",
    "self_attend_widening_factor": "mlp_ratios",
    "cross_attend_widening_factor": "cross_mlp_ratios",
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    base = "perceiver_io_mini" if config["base"] == "PerceiverIO" else "hip_mini"
    model = convert("hip", base, case.checkpoint(), **overrides(config))
    check(config, model.config)
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    outputs = model(inputs, output_hidden_states=True)
    block = "perceiver_block" if config["base"] == "HiPClassBottleneck" else "block"
    latents = outputs.hidden_states[1:]
    computed = {f"z/{block}_{index}": z for index, z in enumerate(latents)}
    computed |= {f"reconstruction/{name}": value for name, value in outputs.reconstruction.items()}
    return computed | {f"latents/{name}": value for name, value in outputs.latents.items()}


def overrides(config: Config) -> dict:
    """All sizes of the blocks, and the order of the modalities."""
    fields = config.renamed(NAMES)
    fields = {name: value if isinstance(value, list) else [value] for name, value in fields.items()}
    fields.setdefault("num_groups", [1])
    fields |= config.renamed({"regroup_type": "regroup_type", "dropout_prob": "hidden_dropout_prob"})
    fields |= config.renamed({"drop_path_rate": "drop_path_rate"})
    fields["modalities"] = [[name, *config["modalities"][name]] for name in config["modalities"]]
    middle = len(fields["num_latents"]) // 2
    prefix = "z" if config["base"] == "PerceiverIO" else "processor"
    fewer, more = (config.get(f"{prefix}_index_dim_{time}") for time in ("train", "eval"))
    if fewer is not None:
        fields["num_training_latents"] = fewer
    if more is not None:  # the variant's number is of training
        fields["num_training_latents"] = fields["num_latents"][middle]
        fields["num_latents"] = [*fields["num_latents"][:middle], more, *fields["num_latents"][middle + 1 :]]
    return fields


def check(config: Config, built) -> None:
    """Compare what the tree recorded of the model with the case's configuration."""
    config.check(num_embedding_channels=built.embedding_size)
    width = config["num_position_encoding_channels"]
    assert built.use_position_projection == (width not in (None, built.embedding_size))
    labels = config.get("label_modalities", [])
    assert list(built.label_modalities) == [name for name in built.sizes if name in labels]
    config.unused("activation_name")  # never reaches the MLPs, whose activation is squared ReLU
