"""Golden cases of blackfeather-wang/Dynamic-Vision-Transformer: models, and thresholds of early exits."""

import torch

from hf_vits.conversion import convert
from hf_vits.models.dvt.exits_dvt import RATES, confidence, exit_fractions, find_thresholds, outcome
from hf_vits.models.dvt.reuse_dvt import enlarge_scores

from .golden import Case, Config

BASES = {"t2t": "DVT_T2t_vit_12", "deit": "DVT_Deit_small"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    return compute_thresholds(case) if "num_exits" in case.config else compute_model(case)


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    names = {"num_heads": "num_attention_heads", "layer_norm_eps": "layer_norm_eps", "qk_scale": "attention_scale"}
    model = convert("dvt", BASES[config["backbone"]], case.checkpoint(), **config.renamed(names))
    check(config, model.config)
    pixel_values = torch.from_numpy(case.inputs()["image"])
    computed, state, grids = {}, None, []
    for index, network in enumerate(model.model.networks):
        exit, previous = index + 1, state
        state = network(pixel_values, previous, keep_scores=True)
        grids.append(state.grid[0] * state.grid[1])
        embedded, positions = network.embeddings(pixel_values), network.embeddings.position_embedding(state.grid)
        computed[f"logits_exit{exit}"] = model.classifier(network.pool(state), index)
        computed[f"patches_exit{exit}"] = (embedded - positions)[:, 1:]
        computed[f"tokens_exit{exit}"] = state.tokens
        computed[f"relation_exit{exit}_first"] = state.scores[0]
        computed[f"relation_exit{exit}_last"] = state.scores[-1]
        computed |= {f"relation_exit{exit}_block{number}": scores for number, scores in enumerate(state.scores)}
        if network.relation_reuse is not None:
            for number, scores in enumerate(network.relation_reuse(previous.scores)):
                reused = enlarge_scores(scores, previous.grid, state.grid)
                computed[f"reused_relation_exit{exit}_block{number}"] = reused
        if index and model.config.feature_reuse:
            for number, layer in enumerate(network.layers):
                reused = layer.reused_features(previous.tokens, previous.grid, state.grid)
                computed[f"reused_feature_exit{exit}_block{number}"] = reused
    config.check(tokens=grids)
    outputs = model(pixel_values)
    for number, logits in enumerate(outputs.exit_logits.unbind(1), start=1):
        torch.testing.assert_close(logits, computed[f"logits_exit{number}"], rtol=1e-4, atol=1e-4)
    return computed


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    config.check(
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        qkv_bias=built.qkv_bias,
        token_dim=built.token_size,
        patch=built.kernel_sizes,
        feature_reuse=built.feature_reuse,
        relation_reuse=built.relation_reuse,
        num_classes=built.num_labels,
        image_size=built.image_size,
        img_size=built.image_size,
        in_chans=built.num_channels,
    )


def compute_thresholds(case: Case) -> dict[str, torch.Tensor]:
    """Compute the sweep of inference.py over 59 budgets."""
    tensors = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    num_exits, costs = case.config["num_exits"], tensors["flops"]
    case.config.check(num_classes=tensors["val_logits"].shape[-1])
    trained, validated = (confidence(tensors[f"{split}_logits"]) for split in ("train", "val"))
    right = tensors["val_logits"].argmax(-1) == tensors["val_labels"]
    fractions = [exit_fractions(rate, num_exits) for rate in RATES]
    outcomes = [outcome(validated, right, costs, find_thresholds(trained, row)) for row in fractions]
    return {
        "probs": torch.stack(fractions),
        "thresholds": torch.stack([result.thresholds for result in outcomes]),
        "exits": torch.stack([result.exits for result in outcomes]),
        "accuracy": torch.tensor([100 * result.accuracy for result in outcomes]),
        "expected_flops": torch.tensor([result.cost for result in outcomes]),
    }
