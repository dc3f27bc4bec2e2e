"""Golden cases of microsoft/CvT."""

import torch

from hf_vits.conversion import convert

from .golden import Case, Config
from .record import eager_attentions, recording

# What no tensor records.
OUR_FIELDS = {"NUM_HEADS": "num_attention_heads", "PATCH_STRIDE": "patch_strides", "PATCH_PADDING": "patch_paddings"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    overrides = config.renamed(OUR_FIELDS)
    overrides["drop_path_rate"] = config["DROP_PATH_RATE"][-1]
    overrides["key_value_stride"] = config["STRIDE_KV"][0]
    model = convert("cvt", "cvt-13-224x224", case.checkpoint(), **overrides)
    check(config, model.config)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    encoder = model.model
    with recording({"embed0": encoder.embeddings, "last": encoder.stages[-1].layers[-1]}) as seen:
        outputs = model(pixel_values, output_hidden_states=True)
        pooled = encoder(pixel_values).pooler_output
    return {
        "embed0": seen["embed0"],
        **{f"stage{index}": hidden_state for index, hidden_state in enumerate(outputs.hidden_states[1:])},
        "cls_token": seen["last"][:, :1],
        "attention": eager_attentions(encoder, pixel_values=pixel_values)[-1],
        "pooled": pooled,
        "logits": outputs.logits,
    }


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model, and what every model here has, with the case's configuration."""
    stages = len(built.depths)
    config.check(
        num_classes=built.num_labels,
        INIT="trunc_norm",
        NUM_STAGES=stages,
        PATCH_SIZE=built.patch_sizes,
        DIM_EMBED=built.hidden_sizes,
        DEPTH=built.depths,
        MLP_RATIO=built.mlp_ratios,
        ATTN_DROP_RATE=[built.attention_probs_dropout_prob] * stages,
        DROP_RATE=[built.hidden_dropout_prob] * stages,
        DROP_PATH_RATE=[0.0] * (stages - 1) + [built.drop_path_rate],
        QKV_BIAS=[built.qkv_bias] * stages,
        CLS_TOKEN=[False] * (stages - 1) + [built.use_class_token],
        POS_EMBED=[False] * stages,
        QKV_PROJ_METHOD=[{"convolution": "dw_bn", "average": "avg"}[built.key_value_projection]] * stages,
        KERNEL_QKV=built.kernel_sizes,
        PADDING_KV=[size // 2 for size in built.kernel_sizes],
        STRIDE_KV=[built.key_value_stride] * stages,
        PADDING_Q=[size // 2 for size in built.kernel_sizes],
        STRIDE_Q=[1] * stages,
    )
