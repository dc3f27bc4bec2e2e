"""Golden cases of srvCodes/continual_learning_with_vit and francesco-p/off-the-shelf-cl: losses, networks, metrics."""

import numpy as np
import torch
from torch.nn import functional as F

from hf_vits.conversion import convert
from hf_vits.evaluation import continual as measures
from hf_vits.layers.attention import attention_scores, attention_values
from hf_vits.objectives.continual import (
    POOLINGS,
    ContinualCrossEntropy,
    ElasticWeightConsolidation,
    JensenShannonRegularization,
    LwfDistillation,
    MapRegularization,
    PathIntegral,
    fisher_information,
    pod_factor,
    sampled_classes,
)

from .golden import Case, fill
from .self_supervision import tensors

ATTENTION = {
    "sym": {"symmetric": True},
    "asym_default": {"after_norm": False},
    "asym_after_norm": {},
}
FUNCTIONAL = {"sym": {"symmetric": True}, "asym": {}}


def compute(case: Case) -> dict[str, torch.Tensor]:
    name = case.path.stem
    return next(run for start, run in COMPUTE.items() if name.startswith(start))(case)


def with_gradient(loss: MapRegularization, new: torch.Tensor, old: torch.Tensor, name: str) -> dict[str, torch.Tensor]:
    new = new.clone().requires_grad_()
    with torch.enable_grad():
        value, _ = loss(new.unbind(0), old.unbind(0))
        (gradient,) = torch.autograd.grad(value, new)
    return {name: value, f"{name}_grad": gradient}


def compute_losses(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    config.check(
        layers=len(given["new_scores"]),
        heads=given["new_scores"].shape[2],
        tokens=given["new_scores"].shape[3],
        head_dim=given["new_context"].shape[-1],
    )
    config.unused("asym_penalty")  # the original's permissive form changes nothing
    weight = config["plast_mu"]
    maps = {kind: (given[f"new_{kind}"], given[f"old_{kind}"]) for kind in ("scores", "context")}
    computed = {}
    for pooling in POOLINGS:
        for kind, (of, forms) in {"attention": ("scores", ATTENTION), "functional": ("context", FUNCTIONAL)}.items():
            for form, options in forms.items():
                loss = MapRegularization(pooling, weight=weight, **options)
                computed |= with_gradient(loss, *maps[of], f"{kind}_{form}_{pooling}")
    factor = pod_factor(config["n_classes"], config["task_size"], config["pod_spatial_factor"])
    sparse = config["sparse_factor"]
    special = {
        "permissive": {},
        "permissive_before": {"after_norm": False},
        "reverse": {"reverse": True},
        "reverse_before": {"reverse": True, "after_norm": False},
        "pod_factor": {"symmetric": True, "weight": factor},
        "sparse": {"sparsity": sparse},
        "sparse_sym": {"sparsity": sparse, "symmetric": True},
        "int_layer": {"num_layers": 1},
    }
    for form, options in special.items():
        loss = MapRegularization("spatial", **{"weight": weight, **options})
        computed |= with_gradient(loss, *maps["scores"], f"attention_{form}")
    for form, options in FUNCTIONAL.items():
        for suffix, more in (("unnormalised_{}", {"normalize": False}), ("pod_factor_{}", {"weight": factor})):
            loss = MapRegularization("spatial", **{"weight": weight, **options, **more})
            computed |= with_gradient(loss, *maps["context"], f"functional_{suffix.format(form)}")
    computed["functional_pod_factor"] = computed["functional_pod_factor_sym"]
    return computed


def compute_jensen_shannon(case: Case) -> dict[str, torch.Tensor]:
    given = tensors(case)
    old, new = given["old_scores"], given["new_scores"]
    case.config.check(layers=len(new), heads=new.shape[2], tokens=new.shape[3])
    return {"jensen_shannon": JensenShannonRegularization()(new.unbind(0), old.unbind(0))[0]}


def heads_of(case: Case) -> tuple[list[int], int, int]:
    """The classes of each task, and the first and the last class of the current task."""
    counts, task = case.config["head_sizes"], case.config["task"]
    start = sum(counts[:task])
    return counts, start, start + counts[task]


def compute_lwf(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    counts, start, stop = heads_of(case)
    logits, old, targets = given["logits"], given["old_logits"], given["targets"].long()
    distillation = LwfDistillation(config["T"])(logits[:, :start], old[:, :start])[0]
    weighted = config["lamb"] * distillation
    computed = {
        "distillation": distillation,
        "distillation_no_temperature": LwfDistillation(1)(logits[:, :start], old[:, :start])[0],
        "criterion": weighted + ContinualCrossEntropy(start, stop)(logits, targets)[0],
        "criterion_with_exemplars": weighted + ContinualCrossEntropy(0, sum(counts))(logits, targets)[0],
        "criterion_first_task": ContinualCrossEntropy(0, counts[0])(logits, torch.ones_like(targets))[0],
    }
    for name, per_head in (("joint", False), ("multi", True)):
        found = measures.hits(logits, given["any_targets"].long(), counts, per_head)
        for kind, right in zip(("aware", "agnostic"), found, strict=True):
            computed[f"hits_task_{kind}_{name}"] = right.float()
    return computed


def network(case: Case, checkpoint: dict | None = None):
    """The network of a case's checkpoint, or of another one, checked against the case's configuration."""
    config = case.config
    is_early = "dim" in config
    variant = "Early_conv_vit" if is_early else "OVit_tiny_16_augreg_224"
    options = {"num_attention_heads": config["heads"]}
    if "image_size" in config:
        options["image_size"] = config["image_size"]
    if not is_early:
        options["layer_norm_eps"] = config["layer_norm_eps"]
    model = convert("continual", variant, case.checkpoint() if checkpoint is None else checkpoint, **options)
    built = model.config
    if is_early:
        config.check(
            dim=built.hidden_size,
            depth=built.num_hidden_layers,
            mlp_dim=built.intermediate_size,
            dim_head=built.head_dim,
            stem_channels=[built.num_channels, *built.stem_hidden_sizes],
            position_slots=built.num_positions,
        )
    else:
        config.check(
            patch=built.patch_size,
            embed_dim=built.hidden_size,
            depth=built.num_hidden_layers,
            qkv_bias=built.qkv_bias,
        )
    return model


def seen(model, pixel_values: torch.Tensor):
    """The model's outputs, its attention scores and the heads' results of every layer."""
    states = {f"output_{name}_states": True for name in ("query", "key", "value")}
    outputs = model(pixel_values, **states)
    queries, keys, values = (outputs[f"{name}_states"] for name in ("query", "key", "value"))
    scores = [attention_scores(*pair) for pair in zip(queries, keys, strict=True)]
    context = [attention_values(*three) for three in zip(queries, keys, values, strict=True)]
    return outputs, scores, context


def compute_network(case: Case) -> dict[str, torch.Tensor]:
    model = network(case)
    assert sum(case.config["head_sizes"]) == model.config.num_labels
    images = tensors(case)["pixel_values"]
    outputs, scores, context = seen(model, images)
    scores = torch.stack(scores)
    return {
        "logits": outputs.logits,
        "features": model.model(images).pooler_output,
        "scores": scores,
        "scores_query_mean": scores.mean(dim=3),
        "scores_key_mean": scores.mean(dim=4),
        "context": torch.stack(context),
    }


def original_names(model) -> dict[str, str]:
    """{the original's key below the network: our parameter} of the encoder."""
    names = {}
    for ours, _ in model.model.named_parameters():
        key = ours.replace("embeddings.class_token", "cls_token").replace(
            "embeddings.positions.table", "pos_embedding"
        )
        if key.startswith("embeddings.stem."):
            index, kind = key.removeprefix("embeddings.stem.").split(".")
            is_last = int(index) == len(model.config.stem_hidden_sizes)
            key = f"conv_layers.{'conv_1x1' if is_last else f'{index}.0'}.{kind}"
        if key.startswith("layers."):
            key = f"transformer.{key}"
        for end, theirs in {
            "attention_norm": "0.norm",
            "attention.qkv": "0.fn.to_qkv",
            "attention.projection": "0.fn.to_out.0",
            "mlp_norm": "1.norm",
            "mlp.up": "1.fn.net.0",
            "mlp.down": "1.fn.net.3",
        }.items():
            key = key.replace(f".{end}.", f".{theirs}.")
        names[f"model.{key}"] = ours
    return names


def named(values: dict, model, prefix: str) -> dict[str, torch.Tensor]:
    """Tensors by our parameters' names, under the original's."""
    return {
        f"{prefix}/{theirs}": values[ours].clone() for theirs, ours in original_names(model).items() if ours in values
    }


def compute_step(case: Case) -> dict[str, torch.Tensor]:
    """One step of training with LwF and the regularisation of maps."""
    config, given = case.config, tensors(case)
    counts, start, stop = heads_of(case)
    model = network(case).train()
    last = f"heads.{len(counts) - 1}."
    older = {
        key: 0.75 * value + 0.25 * fill(f"old.{key}", list(value.shape))
        for key, value in case.checkpoint().items()
        if not key.startswith(last)
    }
    old_model = network(case, older)
    is_attention = "attention" in case.path.stem
    regularization = MapRegularization(
        config["pool_along"],
        symmetric=config.get("sym", False),
        after_norm=config.get("after_norm", not is_attention),
        reverse=config.get("reverse_relu", False),
        weight=config["plast_mu"],
        sparsity=config.get("sparse_factor", 0.0) if config.get("sparse", False) else 0.0,
    )
    images, targets = given["pixel_values"], given["targets"].long()
    old_outputs, *old_maps = seen(old_model, images)
    with torch.enable_grad():
        outputs, *maps = seen(model, images)
        which = 0 if is_attention else 1
        plasticity, _ = regularization(maps[which], old_maps[which])
        distillation, _ = LwfDistillation(config["T"])(outputs.logits[:, :start], old_outputs.logits[:, :start])
        criterion = ContinualCrossEntropy(start, stop)(outputs.logits, targets)[0] + config["lamb"] * distillation
        (criterion + plasticity).backward()
    after = {}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        if name.startswith("classifier."):
            gradient[:start] = 0  # without a memory of samples only the newest head is trained
        after[name] = parameter - config["lr"] * gradient
    computed = {"plasticity": plasticity, "criterion": criterion}
    encoder = {name.removeprefix("model."): value for name, value in after.items() if name.startswith("model.")}
    computed |= {key.replace("/", "/model.", 1): value for key, value in named(encoder, model, "after").items()}
    for kind in ("weight", "bias"):
        for task, part in enumerate(after[f"classifier.{kind}"].split(counts)):
            computed[f"after/heads.{task}.{kind}"] = part
    return computed


def encoder_parameters(model) -> dict[str, torch.Tensor]:
    return dict(model.model.named_parameters())


def gradients_of(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.model.named_parameters() if p.grad is not None}


def compute_ewc(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    counts, start, stop = heads_of(case)
    model = network(case).train()
    batches, targets = given["pixel_values"], given["targets"].long()
    found = []
    with torch.enable_grad():
        for images, labels in zip(batches, targets, strict=True):
            logits = model(images).logits
            chosen = sampled_classes(logits.detach(), labels, config["sampling"])
            found.append((gradients_of(model, F.cross_entropy(logits, chosen)), len(images)))
    fisher = fisher_information(found, batches.shape[0] * batches.shape[1])
    alpha = None if config["alpha"] == -1 else config["alpha"]
    ewc = ElasticWeightConsolidation(encoder_parameters(model), config["lamb"], alpha)
    for importance in ewc.held("importance").values():
        importance.fill_(0.01)
    ewc.merge(fisher, start / stop)
    computed = named(fisher, model, "fisher") | named(ewc.held("importance"), model, "merged")
    parameters = encoder_parameters(model)
    for theirs, ours in original_names(model).items():
        step = fill(f"step.{theirs}", list(parameters[ours].shape))
        parameters[ours].data.add_(torch.from_numpy(step), alpha=0.1)
    logits, last = model(batches[0]).logits, given["last_targets"].long()
    cross_entropy, _ = ContinualCrossEntropy(start, stop)(logits, last)
    first, _ = ContinualCrossEntropy(0, counts[0])(logits, torch.zeros_like(last))
    loss = cross_entropy + ewc(parameters)[0]
    return computed | {"loss": loss, "cross_entropy": cross_entropy, "loss_first_task": first}


def compute_path_integral(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, tensors(case)
    _, start, stop = heads_of(case)
    model = network(case).train()
    criterion = ContinualCrossEntropy(start, stop)
    penalty = PathIntegral(encoder_parameters(model), config["lamb"], config["damping"])
    for theirs, ours in original_names(model).items():
        anchor = penalty.held("anchor")[ours]
        anchor.add_(torch.from_numpy(fill(f"older.{theirs}", list(anchor.shape))), alpha=0.1)
        penalty.held("importance")[ours].fill_(0.05)
    batches, targets = given["pixel_values"], given["targets"].long()
    for images, labels in zip(batches, targets, strict=True):
        parameters = encoder_parameters(model)
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        with torch.enable_grad():
            loss, _ = criterion(model(images).logits, labels)
            plain = gradients_of(model, loss)
            loss = criterion(model(images).logits, labels)[0] + penalty(parameters)[0]
            model.zero_grad()
            loss.backward()
        for name, parameter in model.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            if name.startswith("classifier."):
                gradient[:start] = 0
            parameter.data.sub_(gradient, alpha=config["lr"])
        penalty.accumulate(plain, before, parameters)
    computed = named(penalty.held("path"), model, "w") | named(encoder_parameters(model), model, "after")
    loss = criterion(model(batches[0]).logits, targets[0])[0] + penalty(encoder_parameters(model))[0]
    penalty.finish_task(encoder_parameters(model))
    return computed | named(penalty.held("importance"), model, "importance") | {"loss": loss}


def compute_metrics(case: Case) -> dict[str, torch.Tensor]:
    given = case.inputs()
    counts = given["classes_per_task"]
    case.config.check(tasks=len(counts))
    computed = {}
    for kind in ("task_aware", "task_agnostic"):
        accuracy = given[f"acc_{kind}"].astype(np.float64)
        found = {
            "forgetting": measures.forgetting(accuracy),
            "average": measures.seen_average(accuracy),
            "weighted_average": measures.seen_average(accuracy, counts),
            "final_forgetting": np.array(measures.summary(accuracy, counts)["forgetting"]),
        }
        computed |= {f"{kind}_{name}": torch.from_numpy(np.asarray(value)) for name, value in found.items()}
    return computed


def compute_split(case: Case) -> dict[str, torch.Tensor]:
    config, given = case.config, case.inputs()
    order = given["class_order"].astype(int).tolist()
    config.check(classes=len(order))
    counts = measures.classes_per_task(len(order), config["tasks"], config.get("nc_first_task"))
    tasks, positions = measures.split_classes(given["labels"].astype(int), order, counts)
    kept = np.flatnonzero(tasks >= 0)
    kept = kept[np.argsort(tasks[kept], kind="stable")]
    rows = np.stack([kept, tasks[kept], positions[kept]], axis=1)
    starts = np.cumsum([0, *counts])[:-1]
    found = {"classes_per_task": np.array(counts), "first_label_of_task": starts, "task_of_sample": rows}
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in found.items()}


def compute_prototypes(case: Case) -> dict[str, torch.Tensor]:
    given = tensors(case)
    labels, classes = given["labels"].long(), case.config["classes"]
    centres = measures.prototypes(given["centers"][labels] + given["features"], labels, classes)
    far = measures.distances(given["centers"][given["query_labels"].long()] + given["queries"], centres)
    predictions = far.argmin(dim=1)
    accuracy = (predictions == given["query_labels"]).float().mean()
    return {"prototypes": centres, "distances": far, "predictions": predictions.float(), "accuracy": accuracy}


COMPUTE = {
    "attention_functional_losses": compute_losses,
    "jensen_shannon": compute_jensen_shannon,
    "lwf": compute_lwf,
    "early_conv_vit": compute_network,
    "ovit": compute_network,
    "step": compute_step,
    "ewc": compute_ewc,
    "path_integral": compute_path_integral,
    "incremental_metrics": compute_metrics,
    "class_split": compute_split,
    "off_the_shelf": compute_prototypes,
}
