"""Golden cases of MkuuWaUjinga/leopart: whole checkpoints, the loss and its parts, steps, schedules, evaluation."""

import numpy as np
import torch
from transformers import TrainerState

from hf_vits.conversion import convert
from hf_vits.conversion.systems.leopart import original_key
from hf_vits.evaluation import foreground
from hf_vits.evaluation.clustering import kmeans, principal_components
from hf_vits.evaluation.communities import co_occurrence, communities, edges
from hf_vits.evaluation.mean_iou import mean_iou
from hf_vits.evaluation.segmentation_head import load_head
from hf_vits.layers.foreground import foreground_mask
from hf_vits.layers.patch import square_grid
from hf_vits.layers.segmentation_head import FCNHead
from hf_vits.objectives.leopart import EmbeddingQueue, LeopartLoss, align, overlap_boxes, sinkhorn
from hf_vits.optim.schedules import cosine
from hf_vits.training.loop.callbacks import TeacherUpdate, WeightDecaySchedule

from .golden import Case, Config
from .record import eager_attentions
from .self_distillation import HEADS, as_in_case
from .self_supervision import compute_schedules, tensors

REGIONS = {"all": "all", "fg": "foreground", "bg": "background"}
MATCHINGS = {
    "hungarian": "hungarian",
    "many_to_one_iou": "iou",
    "many_to_one_precision": "precision",
    "linear_probe": None,
}
LOSS_FIELDS = {
    "temperature": "temperature",
    "epsilon": "sinkhorn_temperature",
    "sinkhorn_iterations": "sinkhorn_iterations",
    "roi_align_kernel_size": "roi_size",
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    name = case.path.stem
    return next((run for start, run in COMPUTE.items() if name.startswith(start)), compute_model)(case)


def size_of(patch_size: int, config: Config) -> str:
    arch = config.get("arch", "vit_small").replace("-", "_")
    return f"{arch.replace('tiny', 'small')}_patch{16 if arch != 'vit_base' else patch_size}_full"


def full_model(case: Case, heads: int, **fields):
    """The model of a case's checkpoint, checked against the case's configuration."""
    config = case.config
    backbone = {
        "num_attention_heads": heads,
        **({"drop_path_rate": config["drop_path"]} if "drop_path" in config else {}),
    }
    model = convert(
        "leopart", size_of(config["patch_size"], config), case.checkpoint(), backbone_config=backbone, **fields
    )
    built, vit = model.config, model.config.backbone_config
    config.check(
        patch_size=vit.patch_size,
        img_size=vit.image_size,
        embed_dim=vit.hidden_size,
        depth=vit.num_hidden_layers,
        mlp_ratio=vit.intermediate_size / vit.hidden_size,
        output_dim=built.head_bottleneck_size,
        projection_feat_dim=built.head_bottleneck_size,
        nmb_prototypes=built.num_prototypes,
        n_layers_projection_head=built.num_head_layers,
    )
    for name in ("hidden_dim", "projection_hidden_dim"):
        if built.num_head_layers > 1:
            config.check(**{name: built.head_hidden_size})
        elif name in config:
            config.unused(name)  # the head has no hidden layer
    return model


def compute_model(case: Case) -> dict[str, torch.Tensor]:
    """The student on crops of one or two sizes."""
    config = case.config
    heads = config["num_heads"] if "num_heads" in config else HEADS[config["arch"].replace("-", "_")]
    model = full_model(case, heads, queue_length=0)
    student, crops = model.student, [crop for name, crop in tensors(case).items() if name.startswith("crop")]
    by_size: dict[int, list[torch.Tensor]] = {}
    for crop in crops:
        by_size.setdefault(crop.shape[-1], []).append(crop)
    sizes = [torch.cat(same) for same in by_size.values()]
    outputs = student(sizes)
    embeddings, scores = (
        torch.cat([maps.flatten(2).mT.flatten(0, 1) for maps in both]) for both in zip(*outputs, strict=True)
    )
    attention = eager_attentions(student.backbone, pixel_values=sizes[0])[-1]
    computed = {
        "embeddings": embeddings,
        "prototype_scores": scores,
        "global_cls_attention": attention[:, :, 0, 1:],
    }
    for number, crop in enumerate(crops):
        computed[f"backbone_tokens_global{number + 1}"] = student.backbone(crop).last_hidden_state
    return computed


def compute_boxes(case: Case) -> dict[str, torch.Tensor]:
    counts, sizes = case.config["nmb_crops"], case.config["size_crops"]
    sizes = [(size, size) for count, size in zip(counts, sizes, strict=True) for _ in range(count)]
    in_globals, in_others = overlap_boxes(tensors(case)["crop_boxes"], sizes, counts[0])
    return {"gc": in_globals, "all": in_others}


def compute_sinkhorn(case: Case) -> dict[str, torch.Tensor]:
    return {"assignments": sinkhorn(tensors(case)["scores"], case.config["epsilon"], case.config["iterations"])}


def compute_mask(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    config.check(blur_kernel=7)
    attention = tensors(case)["attention"]
    if attention.ndim == 4:
        attention = attention.mean(dim=1)
    mask = foreground_mask(attention, config["threshold"], config["blur_sigma"], config["min_component"])
    return {"mask": mask[:, None].float()}


@torch.enable_grad()
def compute_loss(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    batch, rows, local_rows = config["batch"], config["gc_spatial_res"], config.get("lc_spatial_res")
    num_global, num_crops = config["nmb_crops"][0], sum(config["nmb_crops"])
    queue = None
    if config["queue_length"]:
        queue = EmbeddingQueue(num_global, config["queue_length"], inputs["gc_teacher_emb"].shape[1])
        queue.embeddings.copy_(inputs["queue"])
    config.check(nmb_prototypes=inputs["gc_teacher_output"].shape[1])
    objective = LeopartLoss(**config.renamed(LOSS_FIELDS), queue=queue)

    def maps(flat: torch.Tensor, side: int) -> torch.Tensor:
        """(crops * batch * patches, channels) to (crops, batch, channels, rows, columns)."""
        return flat.unflatten(0, (-1, batch, side, side)).movedim(-1, 2)

    student = inputs["gc_student_output"].requires_grad_()
    local = inputs.get("lc_student_output", student[:0].detach()).requires_grad_()
    crops = [*maps(student, rows), *(maps(local, local_rows) if len(local) else [])]
    region = inputs["attn_hard"].view(num_global, batch, rows, rows) > 0.5 if "attn_hard" in inputs else None
    boxes = [inputs[name] / config["patch_size"] for name in ("gc_boxes", "all_boxes")]
    torch.manual_seed(config["torch_manual_seed"])
    teacher = [maps(inputs[name], rows) for name in ("gc_teacher_output", "gc_teacher_emb")]
    loss, _ = objective(crops, teacher[0], *boxes, teacher[1], inputs.get("prototypes"), region)
    loss.backward()
    computed = {
        "loss": loss[None],
        "grad_gc_student_output": student.grad,
        "grad_lc_student_output": torch.zeros_like(local) if local.grad is None else local.grad,
        "queue_after": None if queue is None else queue.embeddings,
    }
    if region is not None:
        for crop in range(num_global):
            aligned = align(region[crop][:, None].float(), boxes[0][:, crop], objective.roi_size).flatten(0, 1)
            computed[f"aligned_mask_{crop}"] = aligned
            computed[f"thresholded_mask_{crop}"] = (aligned >= 1.0).float()
    assert len(crops) == num_crops, f"{len(crops)} crops, the case has {num_crops}"
    return computed


@torch.enable_grad()
def compute_steps(case: Case) -> dict[str, torch.Tensor]:
    """Two optimizer steps of a tiny model, with the Trainer's callbacks around them."""
    config, state = case.config, TrainerState()
    length = config["queue_length"]
    fields = config.renamed(LOSS_FIELDS) | {"region": REGIONS[config["loss_mask"]], "queue_length": length}
    if "use_teacher" in config:
        fields["use_teacher"] = config["use_teacher"]
    model = full_model(case, config["num_heads"], **fields).train()
    assert config["optimizer"].lower().startswith("adamw"), f"no such optimizer here: {config['optimizer']}"
    if "torch_manual_seed" in config:
        torch.manual_seed(config["torch_manual_seed"])
    names = original_names(model)
    groups = []
    for is_head, rate in ((False, config["lr_backbone"]), (True, config["lr_heads"])):
        chosen = {
            theirs: tensor
            for theirs, tensor in names.items()
            if theirs.startswith("model.") and is_head == ("projection_head" in theirs or "prototypes" in theirs)
        }
        vectors = {name for name, tensor in chosen.items() if name.endswith("bias") or tensor.ndim == 1}
        decay = config["weight_decay"]
        groups.append(
            {"params": [t for name, t in chosen.items() if name not in vectors], "lr": rate, "weight_decay": decay}
        )
        groups.append({"params": [chosen[name] for name in sorted(vectors)], "lr": rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups)
    total = config["max_epochs"] * config["iterations_per_epoch"]
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total, eta_min=config["final_lr"])
    decay = WeightDecaySchedule(cosine(config["weight_decay"], config["weight_decay_end"], total))
    follow = TeacherUpdate(cosine(config["momentum_teacher"], config["momentum_teacher_end"], total))
    computed = {}
    for step in (1, 2):
        decay.on_step_begin(None, state, None, model=model, optimizer=optimizer)
        loss = model(*inputs_of_step(case, step)).loss
        optimizer.zero_grad()
        loss.backward()
        follow.on_pre_optimizer_step(None, state, None, model=model)
        optimizer.step()
        scheduler.step()
        state.global_step += 1
        follow.on_step_end(None, state, None, model=model)
        computed |= {
            f"step{step}/loss": loss[None],
            f"step{step}/lr_after": torch.tensor(
                [group["lr"] for group in optimizer.param_groups], dtype=torch.float64
            ),
            f"step{step}/weight_decay": torch.tensor(
                [g["weight_decay"] for g in optimizer.param_groups], dtype=torch.float64
            ),
        }
        for output in case.meta["outputs"]:
            when, kind, *rest = output.split("/")
            if when == f"step{step}" and rest:
                branch = "teacher" if kind == "teacher" else "model"
                tensor = names[f"{branch}.{'/'.join(rest)}"]
                computed[output] = (tensor.grad if kind == "grad" else tensor).detach().clone()
            elif when == f"step{step}" and kind == "queue":
                computed[output] = model.objective.queue.embeddings.clone()
    return {name: as_in_case(case, name, value) for name, value in computed.items()}


def original_names(model) -> dict[str, torch.nn.Parameter]:
    """{the original's name: our parameter}."""
    one_layer = model.config.num_head_layers == 1
    return {original_key(name, one_layer): parameter for name, parameter in model.named_parameters()}


def inputs_of_step(case: Case, step: int) -> tuple[torch.Tensor | None, ...]:
    """Global crops, local crops and the boxes of their overlaps."""
    inputs, config = tensors(case), case.config
    crops = [inputs[name] for name in sorted(inputs) if name.startswith(f"step{step}_crop")]
    globals_ = [crop for crop in crops if crop.shape[-1] == config["img_size"]]
    locals_ = [crop for crop in crops if crop.shape[-1] != config["img_size"]]
    config.check(local_size=locals_[0].shape[-1] if locals_ else config.get("local_size"))
    boxes = [inputs[f"step{step}_{name}_boxes"] for name in ("gc", "all")]
    return torch.stack(globals_, dim=1), torch.stack(locals_, dim=1) if locals_ else None, *boxes


def compute_foreground(case: Case) -> dict[str, torch.Tensor]:
    clusters, region, truth = (tensors(case)[name][:, 0].numpy() for name in ("clusters", "attention_mask", "gt"))
    clusters = clusters.astype(int)
    precision = foreground.cluster_precision(clusters, region == 1, case.config["k"])
    threshold = foreground.find_threshold(clusters, precision, truth)
    found = foreground.foreground_of(clusters, precision, threshold)
    return {
        "cluster_precision": torch.from_numpy(precision),
        "cut_candidates": torch.tensor(foreground.cuts(clusters, precision, truth), dtype=torch.float64),
        "threshold": torch.tensor([threshold]),
        "foreground_mask": torch.from_numpy(found)[:, None].float(),
        "foreground_jaccard": torch.tensor([foreground.jaccard(found, truth)]),
    }


def compute_communities(case: Case) -> dict[str, torch.Tensor]:
    config, number = case.config, case.config["num_clusters"]
    matrix = co_occurrence(tensors(case)["clusters"][:, 0].numpy(), number, config["distances"])
    links = edges(matrix, config["weight_threshold"])
    golden = case.outputs()["communities"]
    found = [
        communities(links, number, config["markov_time"], config["preferred_number_of_modules"], seed)
        for seed in config["seeds"]
    ]
    found = [np.where(parts == 0, -1, parts) for parts in found]
    return {
        "co_occurrence": torch.from_numpy(matrix),
        "edges": torch.tensor(links, dtype=torch.float64).view(-1, 3),
        "communities": torch.from_numpy(np.stack([renumbered(*both) for both in zip(found, golden, strict=True)])),
    }


def renumbered(parts: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """The same parts under the golden case's numbers, if they are the same; -1, which is in no part, stays."""
    names = {part: number for part, number in zip(parts.ravel(), golden.ravel(), strict=True) if part != -1}
    assert len(set(names.values())) == len(names), "two parts share a golden one"
    return np.array([names.get(part, -1) for part in parts.ravel()]).reshape(parts.shape)


def compute_matching(case: Case) -> dict[str, torch.Tensor]:
    inputs, config = tensors(case), case.config
    predictions, truth = (inputs[name].numpy().astype(int) for name in ("pred", "gt"))
    computed = {}
    for name, matching in MATCHINGS.items():
        if f"{name}_miou" not in case.meta["outputs"]:
            continue
        measured = mean_iou(predictions, truth, config["num_pred_classes"], config["num_gt_classes"], matching)
        counts = [measured.true_positives, measured.false_positives, measured.false_negatives]
        computed |= {
            f"{name}_miou": torch.tensor([measured.mean]),
            f"{name}_tp_fp_fn": torch.from_numpy(np.stack(counts)),
            f"{name}_reordered": torch.from_numpy(predictions if matching is None else measured.classes[predictions]),
        }
    return computed


def compute_clusters(case: Case) -> dict[str, torch.Tensor]:
    config, golden = case.config, case.outputs()
    features = principal_components(tensors(case)["feats"], config["pca_dim"])
    clusters = kmeans(features, config["k"], config["niter"], config["nredo"], config["spherical"])
    clusters = clusters.numpy().reshape(golden["clusters"].shape)
    return {
        "abs_pca_features": features.abs(),
        "clusters": torch.from_numpy(renumbered(clusters, golden["clusters"])),
    }


def compute_head(case: Case) -> dict[str, torch.Tensor]:
    config, tokens = case.config, tensors(case)["tokens"]
    head = load_head({key: torch.from_numpy(value) for key, value in case.checkpoint().items()})
    if isinstance(head, FCNHead):
        config.check(
            channels=head.classifier.in_channels,
            num_convs=len(head.convs),
            concat_input=head.concat is not None,
        )
        classifier = head.classifier
    else:
        classifier = head
    config.check(in_channels=tokens.shape[-1], num_classes=classifier.out_channels)
    side = config["interpolate_to"]
    maps = tokens.mT.unflatten(2, square_grid(tokens.shape[1], (1, 1)))
    return {"logits": head(torch.nn.functional.interpolate(maps, (side, side), mode="bilinear"))}


COMPUTE = {
    "cbfe": compute_foreground,
    "community_detection": compute_communities,
    "fcn_head": compute_head,
    "linear_head": compute_head,
    "miou_matching": compute_matching,
    "pca_kmeans": compute_clusters,
    "attention_mask": compute_mask,
    "bboxes": compute_boxes,
    "loss": compute_loss,
    "schedules": compute_schedules,
    "sinkhorn": compute_sinkhorn,
    "step": compute_steps,
}
