"""Golden cases of srvCodes/continual_learning_with_vit and francesco-p/off-the-shelf-cl."""

import numpy as np
import torch
import torch.nn.functional as F

from hf_vits.conversion import convert
from hf_vits.data.class_splits import class_split
from hf_vits.evaluation.continual import averages, final_forgetting, forgetting, hits
from hf_vits.evaluation.prototypes import class_means, classify, distances
from hf_vits.layers.recorded_attention import Attended, recording_attention
from hf_vits.objectives import (
    ElasticWeightConsolidation,
    IncrementalCriterion,
    JensenShannonLoss,
    PathIntegral,
    PooledDistillationLoss,
)
from hf_vits.objectives.continual import add_fisher, distill_logits, fisher_labels, pod_weight
from hf_vits.training.continual.parameters import head_rows_kept

from .golden import Case, Config, fill
from .self_supervision import tensors

# The original's keys of a backbone, in a state dict without the network's own prefix, and ours.
EARLY_CONV = (
    ("cls_token", "embeddings.prefix_tokens"),
    ("pos_embedding", "embeddings.position_embedding.table"),
    ("conv_layers.conv_1x1.", "embeddings.stem.projection."),
    ("transformer.layers.", "layers."),
    (".0.norm.", ".attention_norm."),
    (".0.fn.to_qkv.", ".attention.qkv."),
    (".0.fn.to_out.0.", ".attention.projection."),
    (".1.norm.", ".mlp_norm."),
    (".1.fn.net.0.", ".mlp.up."),
    (".1.fn.net.3.", ".mlp.down."),
)


def compute(case: Case) -> dict[str, torch.Tensor]:
    """Compute a case by what it measures: some file names tell it, networks are told by their fields."""
    name = case.path.stem
    function = next((function for part, function in COMPUTE.items() if part in name), compute_network)
    return function(case)


def our_key(key: str) -> str:
    """Return our parameter of a backbone's, such as "model.cls_token" (without the wrapper's "model.")."""
    key = key.removeprefix("model.")
    for theirs, ours in EARLY_CONV:
        key = key.replace(theirs, ours)
    if key.startswith("conv_layers."):
        number, _, leaf = key.removeprefix("conv_layers.").split(".")
        key = f"embeddings.stem.layers.{number}.{leaf}"
    return f"model.{key}"


def network(case: Case, checkpoint: dict | None = None):
    """Convert a case's network, with the options that a file does not record."""
    config, checkpoint = case.config, case.checkpoint() if checkpoint is None else checkpoint
    if any(".qkv." in key for key in checkpoint):
        names = {
            "heads": "num_attention_heads",
            "num_heads": "num_attention_heads",
            "layer_norm_eps": "layer_norm_eps",
        }
        model = convert("early_conv_vit", "OVit_tiny_16_augreg_224", checkpoint, **config.renamed(names))
        config.check(
            image_size=model.config.image_size,
            patch=model.config.patch_size,
            embed_dim=model.config.hidden_size,
            depth=model.config.num_hidden_layers,
            mlp_ratio=model.config.intermediate_size / model.config.hidden_size,
            qkv_bias=model.config.qkv_bias,
        )
        return model
    names = {"dim_head": "head_dim", "heads": "num_attention_heads", "pool": "pooling", "image_size": "image_size"}
    fields = config.renamed(names)
    if "pooling" in fields:
        fields["pooling"] = {"cls": "token", "mean": "mean"}[fields["pooling"]]
    model = convert("early_conv_vit", "Early_conv_vit", checkpoint, **fields)
    ours = model.config
    config.check(
        dim=ours.hidden_size,
        depth=ours.num_hidden_layers,
        mlp_dim=ours.intermediate_size,
        channels=ours.num_channels,
        stem_channels=[ours.num_channels, *ours.stem_hidden_sizes],
        position_slots=ours.max_position_embeddings,
    )
    return model


def head_sizes(case: Case, model) -> list[int]:
    sizes = list(case.config["head_sizes"])
    assert sum(sizes) == model.config.num_labels
    return sizes


def compute_network(case: Case) -> dict[str, torch.Tensor]:
    model = network(case)
    head_sizes(case, model)
    pixel_values = tensors(case)["pixel_values"]
    with recording_attention(model, Attended.scores) as scores:
        logits = model(pixel_values).logits
    with recording_attention(model, lambda attended: attended.output) as context:
        features = model.base_model(pixel_values).pooler_output
    scores = torch.stack(scores)
    return {
        "logits": logits,
        "features": features,
        "scores": scores,
        "scores_query_mean": scores.mean(dim=3),
        "scores_key_mean": scores.mean(dim=4),
        "context": torch.stack(context),
    }


def options(config: Config, **fixed) -> dict:
    """Return the arguments of `PooledDistillationLoss` for the original's options, those that are given."""
    names = {"pool_along": "pooling", "sym": "symmetric", "after_norm": "after_norm", "reverse_relu": "reverse"}
    chosen = {"after_norm": False, **config.renamed(names), **fixed}
    chosen["weight"] = config.get("plast_mu", 1.0)
    if config.get("use_pod_factor"):
        factor = config.get("pod_spatial_factor", 3.0)
        chosen["weight"] = pod_weight(config["n_classes"], config["task_size"], factor)
    if config.get("sparse"):
        chosen["sparsity"] = config.get("sparse_factor", 1.0)
    if config.get("int_layer"):
        chosen["divisor"] = len(config["pool_layers"])
    config.unused("pool_layers", "sparse_factor", "perm_relu", "asym_penalty", "n_classes", "task_size")
    config.unused("pod_spatial_factor")
    return chosen


def compute_losses(case: Case) -> dict[str, torch.Tensor]:
    """Every loss that is stored; its name is the kind of maps, the form or an option, the pooling."""
    config, inputs = case.config, tensors(case)
    for maps in inputs.values():
        config.check(layers=len(maps), heads=maps.shape[2], tokens=maps.shape[3])
    if "old_context" in inputs:
        config.check(head_dim=inputs["old_context"].shape[4])
    config.unused("head_dim")
    outputs = {}
    for name in case.meta["outputs"]:
        if not name.endswith("_grad"):
            outputs |= loss_and_gradient(name, config, inputs)
    # Whatever the options of the losses that are stored, these are all that there are.
    config.unused("plast_mu", "asym_penalty", "pod_spatial_factor", "n_classes", "task_size", "sparse_factor")
    config.unused("pool_layers")
    return outputs


@torch.enable_grad()
def loss_and_gradient(name: str, config: Config, inputs: dict) -> dict[str, torch.Tensor]:
    kind, _, form = name.partition("_")
    pooling = next((pooling for pooling in ("spatial", "gap", "width", "height", "pixel") if pooling in form), None)
    chosen = {
        "pooling": pooling or config.get("pool_along", "spatial"),
        "symmetric": any(part in form for part in ("sym_", "pod", "unnormalised_sym")) and "asym" not in form,
        "after_norm": "before" not in form and "default" not in form,
        "weight": config["plast_mu"],
    }
    if "unnormalised" in form:
        chosen |= {"normalize": False, "after_norm": False}
    if form.startswith("reverse"):
        chosen["reverse"] = True
    if "pod" in form:
        chosen["weight"] = pod_weight(config["n_classes"], config["task_size"], config["pod_spatial_factor"])
    for option, values in SPECIAL.items():
        if option in form:
            chosen |= values(config)
    maps = "scores" if kind == "attention" else "context"
    new = inputs[f"new_{maps}"].detach().clone().requires_grad_()
    loss, _ = PooledDistillationLoss(**chosen)(inputs[f"old_{maps}"].unbind(), new.unbind())
    (gradient,) = torch.autograd.grad(loss, new)
    return {name: loss.detach(), f"{name}_grad": gradient}


SPECIAL = {
    "sparse": lambda config: {"sparsity": config["sparse_factor"]},
    "int_layer": lambda config: {"divisor": len(config.get("pool_layers", [1]))},
}


@torch.enable_grad()
def compute_jensen_shannon(case: Case) -> dict[str, torch.Tensor]:
    inputs = tensors(case)
    layers, _, heads, count = inputs["new_scores"].shape[:4]
    case.config.check(layers=layers, heads=heads, tokens=count)
    new = inputs["new_scores"].requires_grad_()
    loss, _ = JensenShannonLoss(case.config.get("jsd_factor", 1.0))(inputs["old_scores"].unbind(), new.unbind())
    (gradient,) = torch.autograd.grad(loss, new)
    return {"jensen_shannon": loss.detach(), "jensen_shannon_grad": gradient}


def compute_lwf(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    sizes, task, temperature = list(config["head_sizes"]), config["task"], config["T"]
    logits, old = inputs["logits"], inputs["old_logits"]
    criterion = IncrementalCriterion(sizes, config["lamb"], temperature)
    labels, start = inputs["targets"].long(), sum(sizes[:task])
    first = torch.ones_like(labels)
    outputs = {
        "distillation": distill_logits(logits[:, :start], old[:, :start], temperature),
        "distillation_no_temperature": distill_logits(logits[:, :start], old[:, :start], 1),
        "criterion": criterion(logits, labels, task, old)[0],
        "criterion_with_exemplars": criterion(logits, labels, task, old, all_heads=True)[0],
        "criterion_first_task": criterion(logits, first, 0)[0],
    }
    for per_head, name in ((False, "joint"), (True, "multi")):
        found = hits(logits, inputs["any_targets"].long(), sizes, per_head)
        for kind, values in zip(("aware", "agnostic"), found, strict=True):
            outputs[f"hits_task_{kind}_{name}"] = values.float()
    return outputs


@torch.enable_grad()
def compute_step(case: Case) -> dict[str, torch.Tensor]:
    """One step of SGD on the backbone and the newest head, with the regulariser."""
    config, inputs = case.config, tensors(case)
    checkpoint = case.checkpoint()
    model = network(case).train()
    sizes, task = head_sizes(case, model), config["task"]
    last = f"heads.{len(sizes) - 1}."
    old = network(
        case,
        {
            k: 0.75 * v + 0.25 * fill(f"old.{k}", list(v.shape))
            for k, v in checkpoint.items()
            if not k.startswith(last)
        },
    ).requires_grad_(False)
    functional = "functional" in case.path.stem or "asympost" in case.meta["file"]
    fixed = {"after_norm": True} if functional else {}
    objective = PooledDistillationLoss(**options(config, **fixed))

    def pool(attended: Attended) -> torch.Tensor:
        if functional:
            return objective.pool(attended.output)
        return objective.pool_scores(attended.query, attended.key, attended.scaling)

    pixel_values = inputs["pixel_values"]
    with torch.no_grad(), recording_attention(old, pool) as before:
        old_logits = old(pixel_values).logits
    with recording_attention(model, pool) as now:
        logits = model(pixel_values).logits
    plasticity, _ = objective.compare(before, now)
    if config.get("jsd"):
        with torch.no_grad(), recording_attention(old, Attended.scores) as old_scores:
            old(pixel_values)
        with recording_attention(model, Attended.scores) as new_scores:
            model(pixel_values)
        plasticity = plasticity + JensenShannonLoss(config.get("jsd_factor", 1.0))(old_scores, new_scores)[0]
    config.unused("jsd_factor")
    criterion, _ = IncrementalCriterion(sizes, config.get("lamb", 1.0), config.get("T", 2))(
        logits, inputs["targets"].long(), task, old_logits
    )
    (criterion + plasticity).backward()
    step(model, config, sizes, task)
    return {"plasticity": plasticity.detach(), "criterion": criterion.detach(), **parameters_after(case, model, sizes)}


def step(model, config: Config, sizes: list[int], task: int) -> None:
    """Take a step of SGD that leaves the heads of earlier tasks as they are."""
    settings = {"momentum": config.get("momentum", 0.0), "weight_decay": config.get("wd", 0.0)}
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.get("clipgrad", 10000))
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], **settings)
    with head_rows_kept(model, range(sum(sizes[:task]))):
        optimizer.step()
    optimizer.zero_grad()


def parameters_after(case: Case, model, sizes: list[int]) -> dict[str, torch.Tensor]:
    state, outputs = dict(model.named_parameters()), {}
    for name in case.meta["outputs"]:
        kind, _, key = name.partition("/")
        if kind != "after":
            continue
        if key.startswith("heads."):
            _, number, leaf = key.split(".")
            start = sum(sizes[: int(number)])
            outputs[name] = state[f"classifier.{leaf}"][start : start + sizes[int(number)]].detach()
        else:
            outputs[name] = state[
                our_key(key.removeprefix("model.") if key.startswith("model.model.") else key)
            ].detach()
    return outputs


def backbone(model) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if name.startswith("model.")}


def named(case: Case, kind: str, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the values that a case stores as kind/KEY."""
    names = (name for name in case.meta["outputs"] if name.startswith(f"{kind}/"))
    return {name: values[our_key(name.removeprefix(f"{kind}/"))] for name in names}


@torch.enable_grad()
def compute_ewc(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    model = network(case).train()
    sizes, task = head_sizes(case, model), config["task"]
    batches = inputs["pixel_values"]
    num_samples = batches.shape[0] * batches.shape[1]
    fisher: dict[str, torch.Tensor] = {}
    for pixel_values, labels in zip(batches, inputs["targets"].long(), strict=True):
        logits = model(pixel_values).logits
        loss = F.cross_entropy(logits, fisher_labels(logits, labels, config["sampling"]))
        parameters = backbone(model)
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        gradients = {name: value for name, value in zip(parameters, found, strict=True) if value is not None}
        add_fisher(fisher, gradients, len(labels), num_samples)
    alpha = config["alpha"]
    objective = ElasticWeightConsolidation(config["lamb"], None if alpha == -1 else alpha)
    objective.importance = {name: torch.full_like(value, 0.01) for name, value in fisher.items()}
    objective.consolidate(backbone(model), fisher, sum(sizes[:task]) / sum(sizes))
    criterion = IncrementalCriterion(sizes)
    labels = inputs["last_targets"].long()
    with torch.no_grad():
        for name, value in theirs(case).items():
            backbone(model)[our_key(name)] += 0.1 * torch.from_numpy(fill(f"step.{name}", list(value)))
    first = criterion(model(batches[0]).logits, torch.zeros_like(labels), 0)[0].detach()
    cross_entropy = criterion(model(batches[0]).logits, labels, task)[0].detach()
    moved = objective(backbone(model))[0].detach() + cross_entropy
    outputs = {"loss": moved, "cross_entropy": cross_entropy, "loss_first_task": first}
    return outputs | named(case, "fisher", fisher) | named(case, "merged", objective.importance)


def theirs(case: Case) -> dict[str, list[int]]:
    """Return {key within the backbone: shape}, such as "model.cls_token"."""
    keys = case.meta["keys"]
    return {key.removeprefix("model."): shape for key, shape in keys.items() if key.startswith("model.")}


@torch.enable_grad()
def compute_path_integral(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    model = network(case).train()
    sizes, task = head_sizes(case, model), config["task"]
    objective = PathIntegral(config["lamb"], config["damping"])
    values = backbone(model)
    objective.importance = {name: torch.full_like(value, 0.05) for name, value in values.items()}
    moved = {our_key(name): torch.from_numpy(fill(f"older.{name}", shape)) for name, shape in theirs(case).items()}
    objective.keep({name: value.detach() + 0.1 * moved[name] for name, value in values.items()})
    criterion = IncrementalCriterion(sizes)
    for pixel_values, labels in zip(inputs["pixel_values"], inputs["targets"].long(), strict=True):
        before = {name: value.detach().clone() for name, value in backbone(model).items()}
        loss, _ = criterion(model(pixel_values).logits, labels, task)
        found = torch.autograd.grad(loss, list(values.values()), retain_graph=True)
        (loss + objective(backbone(model))[0]).backward()
        step(model, config, sizes, task)
        objective.accumulate(dict(zip(values, found, strict=True)), before, backbone(model))
    loss = criterion(model(inputs["pixel_values"][0]).logits, inputs["targets"][0].long(), task)[0]
    loss = loss + objective(backbone(model))[0] if task else loss
    outputs = {"loss": loss.detach(), **named(case, "w", objective.path), **parameters_after(case, model, sizes)}
    objective.consolidate(backbone(model))
    return outputs | named(case, "importance", objective.importance)


def compute_metrics(case: Case) -> dict[str, torch.Tensor]:
    inputs, outputs = case.inputs(), {}
    counts = inputs["classes_per_task"].tolist()
    case.config.check(tasks=len(counts))
    for kind in ("aware", "agnostic"):
        if (accuracy := inputs.get(f"acc_task_{kind}")) is None:
            continue
        accuracy = np.asarray(accuracy, dtype=np.float64)
        name = f"task_{kind}"
        outputs |= {
            f"{name}_forgetting": forgetting(accuracy),
            f"{name}_average": averages(accuracy),
            f"{name}_weighted_average": averages(accuracy, counts),
            f"{name}_final_forgetting": np.asarray(final_forgetting(accuracy)),
        }
    return {name: torch.from_numpy(np.asarray(value)) for name, value in outputs.items()}


def compute_split(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, case.inputs()
    order = [int(label) for label in inputs["class_order"]]
    labels = inputs["labels"].astype(np.int64)
    config.unused("classes")
    split = class_split(max(order) + 1, config["tasks"], config.get("nc_first_task"), order)
    tasks, positions = split.tasks(labels), split.positions(labels)
    rows = [
        (index, task, positions[index]) for task in range(len(split.sizes)) for index in np.flatnonzero(tasks == task)
    ]
    return {
        "classes_per_task": torch.tensor(split.sizes),
        "first_label_of_task": torch.tensor(split.offsets),
        "task_of_sample": torch.tensor(np.array(rows)),
    }


def compute_prototypes(case: Case) -> dict[str, torch.Tensor]:
    inputs = tensors(case)
    labels = inputs["labels"].long()
    features = inputs["centers"][labels] + inputs["features"]
    prototypes = class_means(features, labels, case.config["classes"])
    queries = inputs["queries"]
    queries = queries + inputs["centers"][inputs["query_labels"].long()]
    predictions = classify(queries, prototypes)
    return {
        "prototypes": prototypes,
        "distances": distances(queries, prototypes),
        "predictions": predictions,
        "accuracy": (predictions == inputs["query_labels"].long()).double().mean(),
    }


COMPUTE = {
    "functional_losses": compute_losses,
    "attention_losses": compute_losses,
    "jensen_shannon": compute_jensen_shannon,
    "lwf": compute_lwf,
    "step": compute_step,
    "ewc": compute_ewc,
    "path_integral": compute_path_integral,
    "metrics": compute_metrics,
    "split": compute_split,
    "prototypes": compute_prototypes,
}
