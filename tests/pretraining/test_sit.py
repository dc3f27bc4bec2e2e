"""SiT in its three generations: what the golden cases do not show."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification
from transformers import DeiTModel as TransformersDeiTModel
from transformers import ViTModel as TransformersViTModel

from hf_vits import conversion
from hf_vits.conversion import convert, to_transformers
from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.models.sit.configuration_sit_classifier import SiTClassifierConfig
from hf_vits.models.sit.modeling_sit_classifier import SiTForImageClassification, SiTModel
from hf_vits.pretraining.sit.batches_sit import SiTBatches
from hf_vits.pretraining.sit.configuration_sit import GENERATIONS, SiTConfig
from hf_vits.pretraining.sit.modeling_sit import SiTForPreTraining
from tests.parity.golden import Case
from tests.support.paths import PARITY_CASES
from tests.support.weights import perturb

CASES = PARITY_CASES / "sit"
SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
CLEAN = torch.randn(4, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SEEDS = range(4)


def sit_config(generation: int, **fields) -> SiTConfig:
    backbone = {"model_type": "hf_vits_deit", **SIZES, "distilled": generation < 3}
    heads = {"embedding_size": 8} | ({} if generation == 1 else {"head_hidden_size": 20})
    return SiTConfig(**{"backbone_config": backbone} | GENERATIONS[generation] | heads | fields)


def sit(generation: int, **fields) -> SiTForPreTraining:
    torch.manual_seed(0)
    return SiTForPreTraining(sit_config(generation, **fields))


def batch(model: SiTForPreTraining) -> dict[str, torch.Tensor]:
    return SiTBatches(model.config)(list(CLEAN), SEEDS)


def inputs(generation: int) -> tuple[torch.Tensor | None, ...]:
    """Return a batch in the order of the arguments of `forward`."""
    names = ("pixel_values", "corrupted_pixel_values", "corruption_mask", "rotation_labels")
    return tuple(map(batch(sit(generation)).get, names))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_teacher_alone_is_not_trained(generation):
    for key, parameter in sit(generation).named_parameters():
        assert parameter.requires_grad != key.startswith("teacher."), key


@pytest.mark.parametrize("generation", GENERATIONS)
def test_learns(generation):
    model = sit(generation).train()
    inputs = batch(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for _ in range(12):
        outputs = model(**inputs)
        losses.append({name: value.item() for name, value in outputs.items() if name.endswith("loss")})
        optimizer.zero_grad()
        outputs.loss.backward()
        optimizer.step()
        model.update_teacher(0.9)
    assert losses[0].keys() == {"loss", *(f"{task}_loss" for task in model.config.tasks)}
    for name, value in losses[-1].items():
        assert value < losses[0][name], name


@pytest.mark.parametrize("generation", GENERATIONS)
@torch.no_grad()
def test_an_exported_backbone_is_a_plain_one_and_transformers_own(generation, tmp_path):
    model = perturb(sit(generation)).eval()
    plain = model.export()
    assert type(plain) is DeiTModel
    plain.save_pretrained(tmp_path)
    backbone = (model.student if model.teacher is None else model.teacher).backbone
    pixel_values = CLEAN[:, 0]
    expected = backbone(pixel_values).last_hidden_state
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(pixel_values).last_hidden_state, expected)
    theirs = to_transformers(plain)
    assert type(theirs) is (TransformersViTModel if generation == 3 else TransformersDeiTModel)
    assert torch.equal(theirs(pixel_values).last_hidden_state, expected)
    student = model.export("student")(pixel_values).last_hidden_state
    assert torch.equal(student, model.student.backbone(pixel_values).last_hidden_state)


@torch.no_grad()
def test_both_views_go_through_a_backbone_together():
    model, batches = sit(3).eval(), []
    for branch in (model.student, model.teacher):
        branch.backbone.embeddings.register_forward_hook(lambda *call: batches.append(call[2].shape[0]))
    outputs = model(**batch(model))
    assert batches == [8, 8]
    assert outputs.embeddings.shape == outputs.teacher_embeddings.shape == (2, 4, 8)
    assert outputs.reconstruction.shape == (2, 4, 3, 32, 32)
    assert outputs.rotation_logits is None


@torch.no_grad()
def test_the_student_sees_corrupted_and_the_teacher_clean_views():
    model = sit(3).eval()
    inputs = batch(model)
    outputs = model(**inputs)
    changed = model(**inputs | {"corrupted_pixel_values": inputs["corrupted_pixel_values"] + 1})
    assert torch.equal(changed.teacher_embeddings, outputs.teacher_embeddings)
    assert not torch.equal(changed.embeddings, outputs.embeddings)
    painted = model.reconstruct(inputs["corrupted_pixel_values"][:, 1])
    torch.testing.assert_close(painted, outputs.reconstruction[1], atol=1e-6, rtol=1e-6)


def test_the_teacher_has_its_own_statistics():
    """Only parameters follow the student; batch norms see what the teacher sees."""
    model = sit(3).train()
    norms = [branch.contrastive_head[1] for branch in (model.student, model.teacher)]
    model(**batch(model))
    assert not torch.equal(norms[0].running_mean, norms[1].running_mean)
    kept = norms[1].running_mean.clone()
    model.update_teacher(0.0)
    assert torch.equal(norms[1].running_mean, kept)
    assert torch.equal(norms[1].weight, norms[0].weight)


def test_tasks_can_be_left_out():
    model = sit(2, tasks=["reconstruction"], backbone_config={"model_type": "hf_vits_vit", **SIZES}).train()
    outputs = model(**batch(model))
    assert outputs.embeddings is None is outputs.rotation_logits
    assert set(model.objective.weighting.weights) == {"reconstruction"}
    outputs.loss.backward()


def test_initialisation_is_the_originals():
    model = sit(2, backbone_config={"model_type": "hf_vits_deit", **SIZES, "hidden_size": 64, "distilled": True})
    head = model.student.reconstruction_head
    assert head.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    # A transposed convolution as PyTorch makes it, which counts 3 * 8 * 8 inputs.
    assert head.paint.weight.abs().max() <= (3 * 8 * 8) ** -0.5 < 1.05 * head.paint.weight.abs().max()
    assert model.student.contrastive_head[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.student.backbone.embeddings.prefix_tokens.any()
    assert all(weight.item() == 1 for weight in model.objective.weighting.weights.values())


# Batches


@pytest.mark.parametrize("generation", GENERATIONS)
def test_batches_are_a_function_of_the_seeds(generation):
    make = SiTBatches(sit_config(generation))
    before = CLEAN.clone()
    first, again, other = make(list(CLEAN), SEEDS), make(list(CLEAN), SEEDS), make(list(CLEAN), range(1, 5))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["corrupted_pixel_values"], other["corrupted_pixel_values"])
    assert torch.equal(CLEAN, before)


def test_masks_tell_where_pixels_were_corrupted():
    made = SiTBatches(sit_config(3, replaced_fraction=0))(list(CLEAN), SEEDS)
    mask = made["corruption_mask"]
    assert mask.shape == (4, 2, 32, 32)
    changed = (made["corrupted_pixel_values"] != made["pixel_values"]).any(dim=2)
    assert torch.equal(changed, mask)
    assert not made["corrupted_pixel_values"][mask[:, :, None].expand_as(CLEAN)].any()
    assert (mask.float().mean(dim=(2, 3)) >= 0.5).all()
    assert torch.equal(made["pixel_values"], CLEAN)


def test_an_image_is_dropped_alike_in_any_batch():
    make = SiTBatches(sit_config(2, replaced_fraction=0))
    whole, alone = make(list(CLEAN), SEEDS), make([CLEAN[2]], [2])
    assert all(torch.equal(whole[name][2:3], alone[name]) for name in whole)


def test_replaced_images_show_another_clean_one():
    constant = torch.arange(1.0, 5).view(4, 1, 1, 1, 1).expand(4, 2, 3, 32, 32)
    made = SiTBatches(sit_config(3, replacement_probability=1))(list(constant), SEEDS)
    corrupted, mask = made["corrupted_pixel_values"], made["corruption_mask"]
    shares = mask.float().mean(dim=(2, 3))
    assert ((shares >= 0.3) & (shares < 0.5)).all()
    for image in range(4):
        for view in range(2):
            inside = corrupted[image, view][:, mask[image, view]].unique()
            assert len(inside) == 1
            assert (corrupted[image, view][:, ~mask[image, view]] == image + 1).all()
    assert (corrupted != constant).any()


@pytest.mark.parametrize("generation", [1, 2])
def test_views_are_turned_as_the_labels_say(generation):
    config = sit_config(generation)
    made = SiTBatches(config)(list(CLEAN), SEEDS)
    labels = made["rotation_labels"]
    assert labels.shape == (4, 2)
    assert set(labels.flatten().tolist()) <= {0, 1, 2, 3}
    for image in range(4):
        for view in range(2):
            turns = int(labels[image, view]) * (-1 if generation == 1 else 1)
            assert torch.equal(made["pixel_values"][image, view], CLEAN[image, view].rot90(turns, (-2, -1)))


def test_distortions_give_no_mask():
    made = SiTBatches(sit_config(1))(list(CLEAN), SEEDS)
    assert made.keys() == {"pixel_values", "corrupted_pixel_values", "rotation_labels"}
    assert (made["corrupted_pixel_values"] != made["pixel_values"]).any(dim=(2, 3, 4)).all()


# Checkpoints


def checkpoint(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in Case.load(CASES / f"{name}.json").checkpoint().items()}


def tiny(size: int) -> dict:
    return {"hidden_size": size, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 4 * size,
            "patch_size": 8}  # fmt: skip


STATES = {
    1: ("gen1_vit_base_patch16", 48, lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3}),
    2: ("gen2_vit_tiny_patch16", 48, lambda state: {"SiT_model": {f"module.{key}": v for key, v in state.items()}}),
    3: (
        "gen3_vit_small_patch16",
        36,
        lambda state: {
            branch: {key.removeprefix(f"{branch}."): v for key, v in state.items() if key.startswith(branch)}
            for branch in ("student", "teacher")
        },
    ),
}


@pytest.mark.parametrize("generation", STATES)
@torch.no_grad()
def test_a_state_of_training_gives_the_model_and_its_backbone(generation):
    variant, size, wrap = STATES[generation]
    state = wrap(checkpoint(f"gen{generation}_step_tiny"))
    model = convert("sit", f"{variant}_full", state, backbone_config=tiny(size))
    backbone = convert("sit", variant, state, **tiny(size))
    assert type(model) is SiTForPreTraining
    assert type(backbone) is DeiTModel
    pixel_values = CLEAN[:, 0]
    assert torch.equal(backbone(pixel_values).last_hidden_state, model.export()(pixel_values).last_hidden_state)


def test_heads_and_weights_that_a_file_lacks_are_no_tasks():
    state = {
        key: v for key, v in checkpoint("gen2_step_tiny").items() if not key.startswith(("rot_", "contr_w", "rec_w"))
    }
    model = convert("sit", "gen2_vit_tiny_patch16_full", state, backbone_config=tiny(48))
    assert model.config.tasks == ["contrastive", "reconstruction"]
    assert model.config.weighting is None
    assert model.config.embedding_size == 20


def test_one_branch_serves_as_both():
    state = checkpoint("gen3_step_tiny")
    prefix = "student.module."
    student = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    model = convert("sit", "gen3_vit_small_patch16_full", student, backbone_config=tiny(36))
    for name, parameter in model.teacher.named_parameters():
        assert torch.equal(parameter, model.student.get_parameter(name))


@torch.no_grad()
def test_fine_tuned_checkpoints():
    state = {
        key: v for key, v in checkpoint("gen1_step_tiny").items() if not key.endswith("_w") and "convTrans" not in key
    }
    heads = {name: torch.randn(5, 7) for name in ("rot_head.weight", "contrastive_head.weight")}
    heads |= {name: torch.randn(5) for name in ("rot_head.bias", "contrastive_head.bias")}
    for name in ("pre_logits_rot.fc", "pre_logits_contrastive.fc"):
        heads |= {f"{name}.weight": torch.randn(7, 48), f"{name}.bias": torch.randn(7)}
    model = convert("sit", "gen1_vit_base_patch16_finetuned", state | heads, **tiny(48))
    tokens = model.model(CLEAN[:, 0]).last_hidden_state
    hidden = (
        tokens[:, 1] @ heads["pre_logits_contrastive.fc.weight"].T + heads["pre_logits_contrastive.fc.bias"]
    ).tanh()
    expected = hidden @ heads["contrastive_head.weight"].T + heads["contrastive_head.bias"]
    outputs = model(CLEAN[:, 0])
    torch.testing.assert_close(outputs.token_logits[:, 1], expected, atol=1e-5, rtol=1e-5)

    state = checkpoint("gen2_step_tiny")
    prefix = "backbone."
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    state |= {"head_class_rot.weight": torch.randn(5, 48), "head_class_rot.bias": torch.randn(5)}
    state |= {"head_class_contr.weight": torch.randn(5, 48), "head_class_contr.bias": torch.randn(5)}
    model = convert("sit", "gen2_vit_small_patch16_finetuned", state, **tiny(48))
    assert model.config.head == "tokens"
    state |= {"head_data.0.weight": torch.randn(192, 48), "head_data.0.bias": torch.randn(192)}
    state |= {"head_data.2.weight": torch.randn(5, 192), "head_data.2.bias": torch.randn(5)}
    model = convert("sit", "gen1_vit_base_patch16_finetuned", state, **tiny(48))
    tokens = model.model(CLEAN[:, 0]).last_hidden_state
    hidden = torch.nn.functional.gelu(
        tokens[:, 2:].mean(dim=1) @ state["head_data.0.weight"].T + state["head_data.0.bias"]
    )
    expected = torch.stack(
        [
            tokens[:, 0] @ state["head_class_rot.weight"].T + state["head_class_rot.bias"],
            tokens[:, 1] @ state["head_class_contr.weight"].T + state["head_class_contr.bias"],
            hidden @ state["head_data.2.weight"].T + state["head_data.2.bias"],
        ],
        dim=1,
    )
    outputs = model(CLEAN[:, 0])
    torch.testing.assert_close(outputs.token_logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs.logits, expected.mean(dim=1), atol=1e-5, rtol=1e-5)

    state = checkpoint("gen3_step_tiny")
    prefix = "student.module.backbone."
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    state |= {"head.0.weight": torch.randn(36, 72), "head.0.bias": torch.randn(36)}
    state |= {"head.2.weight": torch.randn(5, 36), "head.2.bias": torch.randn(5)}
    model = convert("sit", "gen3_vit_small_patch16_finetuned", state, **tiny(36))
    tokens = model.model(CLEAN[:, 0]).last_hidden_state
    features = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)
    hidden = torch.nn.functional.gelu(features @ state["head.0.weight"].T + state["head.0.bias"])
    expected = hidden @ state["head.2.weight"].T + state["head.2.bias"]
    torch.testing.assert_close(model(CLEAN[:, 0]).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("gen1_vit_base_patch16_full", 86_786_826),
        ("gen2_vit_small_patch16_full", 32_750_982),
        ("gen3_vit_small_patch16_full", 2 * 41_827_587),
        ("gen3_vit_base_patch16_full", 2 * 109_156_611),
    ],
)
def test_published_sizes(variant, parameters):
    """Of the originals, whose teachers have both heads as well."""
    fields = conversion.variants("sit")[variant]
    with torch.device("meta"):
        model = SiTForPreTraining(SiTConfig(**fields))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


# Fine-tuning


def classifier(**fields) -> SiTForImageClassification:
    torch.manual_seed(0)
    config = SiTClassifierConfig(**SIZES | {"num_labels": 5} | fields)
    return perturb(SiTForImageClassification(config)).eval()


def test_losses_of_both_tokens_are_summed_and_their_logits_averaged():
    model, labels = classifier(), torch.tensor([0, 1, 2, 3])
    outputs = model(CLEAN[:, 0], labels)
    losses = [torch.nn.functional.cross_entropy(logits, labels) for logits in outputs.token_logits.unbind(1)]
    torch.testing.assert_close(outputs.loss, sum(losses))
    torch.testing.assert_close(outputs.logits, outputs.token_logits.mean(dim=1))
    with_states = model(CLEAN[:, 0], labels, output_hidden_states=True)
    torch.testing.assert_close(with_states.logits, outputs.logits)
    assert len(with_states.hidden_states) == 3


@pytest.mark.parametrize("generation", [1, 3])
@torch.no_grad()
def test_a_pretrained_backbone_is_fine_tuned(generation, tmp_path):
    plain = perturb(sit(generation)).eval().export()
    plain.save_pretrained(tmp_path / "backbone")
    head = {1: "tokens", 3: "token_and_mean"}[generation]
    model = SiTForImageClassification.from_pretrained(tmp_path / "backbone", head=head, num_labels=5)
    pixel_values = CLEAN[:, 0]
    expected = plain(pixel_values).last_hidden_state
    assert torch.equal(model.model(pixel_values).last_hidden_state, expected)
    model.save_pretrained(tmp_path / "classifier")
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path / "classifier")
    assert type(loaded) is SiTForImageClassification
    assert torch.equal(loaded(pixel_values).logits, model(pixel_values).logits)
    encoder = AutoModel.from_pretrained(tmp_path / "classifier")
    assert type(encoder) is SiTModel
    pooled = encoder(pixel_values).pooler_output
    second = expected[:, 1] if generation == 1 else expected[:, 1:].mean(dim=1)
    assert torch.equal(pooled, torch.cat([expected[:, 0], second], dim=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sit(3)(CLEAN), r"corrupted_pixel_values \(4, 2, 3, 32, 32\) must come with every batch, got none"),
        (lambda: sit(3)(CLEAN, CLEAN), r"corruption_mask \(4, 2, 32, 32\) must come .* got none"),
        (lambda: sit(1)(CLEAN, CLEAN, rotation_labels=torch.zeros(8)), r"rotation_labels \(4, 2\) .* shape \(8,\)"),
        (lambda: sit(1)(CLEAN, CLEAN, rotation_labels=torch.zeros(4, 2).bool()), "rotation_labels must be int64"),
        (lambda: sit(3)(CLEAN, CLEAN, torch.zeros(4, 2, 32, 32)), "corruption_mask must be torch.bool"),
        (lambda: sit(3)(CLEAN[:, 0]), "must be views of images"),
        (lambda: sit(3)(CLEAN > 0, CLEAN, CLEAN[:, :, 0] > 0), "pixel_values must be floating point, got torch.bool"),
        (lambda: sit(3)(CLEAN[:, [0, 1, 0]]), "compares two views of each image, got 3"),
        (lambda: sit(1, backbone_config={"model_type": "hf_vits_deit", **SIZES}), "2 prefix token"),
        (lambda: sit(3, backbone_config={"model_type": "hf_vits_swin"}), "plain ViT.* got hf_vits_swin"),
        (lambda: sit(3, tasks=["contrastive"]), "the tasks are contrastive and reconstruction"),
        (lambda: sit(3, weighting="exponential"), "momentum_teacher=True needs weighting=None"),
        (lambda: sit(2, tasks=["rotation", "colour"]), "tasks must be some of 'rotation'"),
        (lambda: sit(2, head="batch_norm_mlp"), "no logits of rotations"),
        (lambda: sit(1, corrupted_only=True), "corrupted_only=False"),
        (lambda: sit(3, block_kinds=["snow"]), "block_kinds must be some of 'noise'"),
        (lambda: sit(3, replacement_probability=2), r"replacement_probability must lie in \[0, 1\]"),
        (lambda: sit(1).export("teacher"), "has no teacher"),
        (lambda: sit(2, tasks=["rotation"]).reconstruct(CLEAN[:, 0]), "reconstructs nothing"),
        (lambda: SiTBatches(sit_config(3))(list(CLEAN), [0]), "got 4 images and 1 seeds"),
        (lambda: SiTBatches(sit_config(1))(list(CLEAN[..., :24]), SEEDS), "only square views .* got 32x24"),
        (lambda: classifier(head="token_and_mean", representation_size=8), "representation_size must be None"),
        (lambda: classifier(use_class_token=False, pooling="mean", distilled=False), "use_class_token must be True"),
    ],
)
def test_wrong_settings_say_so(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_configurations_are_found_by_name():
    for model_type in ("hf_vits_sit", "hf_vits_sit_classifier"):
        assert AutoConfig.for_model(model_type).model_type == model_type
