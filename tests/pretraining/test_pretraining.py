"""Models of self-supervised learning: saved, loaded, exported, trained; what the golden cases do not show."""

import math
import subprocess
import sys
from functools import partial

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, TrainerState
from transformers import ViTMAEConfig as TransformersViTMAEConfig
from transformers import ViTMAEForPreTraining as TransformersViTMAEForPreTraining
from transformers import ViTModel as TransformersViTModel

from hf_vits.conversion import from_transformers, to_transformers
from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.models.vit.modeling_vit import ViTModel
from hf_vits.objectives.leopart import overlap_boxes
from hf_vits.pretraining.dino.configuration_dino import DINOConfig
from hf_vits.pretraining.dino.modeling_dino import DINOForPreTraining
from hf_vits.pretraining.esvit.configuration_esvit import EsViTConfig
from hf_vits.pretraining.esvit.modeling_esvit import EsViTForPreTraining
from hf_vits.pretraining.ibot.configuration_ibot import IBOTConfig
from hf_vits.pretraining.ibot.modeling_ibot import IBOTForPreTraining
from hf_vits.pretraining.leopart.configuration_leopart import LeopartConfig
from hf_vits.pretraining.leopart.modeling_leopart import LeopartForPreTraining
from hf_vits.pretraining.mae.configuration_mae import MAEConfig
from hf_vits.pretraining.mae.modeling_mae import MAEForPreTraining
from hf_vits.pretraining.milan.configuration_milan import MILANConfig
from hf_vits.pretraining.milan.modeling_milan import MILANForPreTraining
from hf_vits.pretraining.sfc.configuration_sfc import SFCConfig
from hf_vits.pretraining.sfc.modeling_sfc import SFCForPreTraining
from hf_vits.pretraining.sit.configuration_sit import GENERATIONS
from hf_vits.training.loop.callbacks import ClipEachGradient, FrozenLastLayer, TeacherUpdate

from ..support.hub import TINY, model_type
from ..support.weights import perturb
from .test_sit import inputs as sit_inputs
from .test_sit import sit

SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}
HEAD = {"num_prototypes": 12, "head_hidden_size": 20, "head_bottleneck_size": 8}
BACKBONE = {"model_type": "hf_vits_deit", **SIZES, "position_interpolation": "bicubic_offset"}
PATCHES = 16


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


GLOBAL, LOCAL = images(3, 2, 3, 32, 32), images(3, 4, 3, 16, 16, seed=1)
MASK = torch.rand(3, 2, PATCHES, generator=torch.Generator().manual_seed(2)) < 0.3


def mae(**fields) -> MAEForPreTraining:
    torch.manual_seed(0)
    return MAEForPreTraining(MAEConfig(**SIZES, **DECODER, **fields)).eval()


def milan(**fields) -> MILANForPreTraining:
    torch.manual_seed(0)
    backbone = {"model_type": "hf_vits_vit", **SIZES, "hidden_act": "gelu"}
    return MILANForPreTraining(MILANConfig(backbone_config=backbone, target_size=20, **DECODER, **fields)).eval()


def dino(**fields) -> DINOForPreTraining:
    torch.manual_seed(0)
    return DINOForPreTraining(DINOConfig(**{"backbone_config": BACKBONE} | HEAD | fields)).eval()


def ibot(**fields) -> IBOTForPreTraining:
    torch.manual_seed(0)
    backbone = {"backbone_config": BACKBONE | {"use_mask_token": True}, "num_patch_prototypes": 12}
    return IBOTForPreTraining(IBOTConfig(**backbone | HEAD | fields)).eval()


def esvit(**fields) -> EsViTForPreTraining:
    torch.manual_seed(0)
    return EsViTForPreTraining(EsViTConfig(**{"backbone_config": BACKBONE} | HEAD | fields)).eval()


def leopart(**fields) -> LeopartForPreTraining:
    torch.manual_seed(0)
    chosen = {"backbone_config": BACKBONE, "region": "all", "queue_length": 0}
    return LeopartForPreTraining(LeopartConfig(**chosen | HEAD | fields)).eval()


# Of two global and four local crops, the places of a grid of eight columns.
CROP_BOXES = torch.tensor([[0, 0, 20, 20], [8, 4, 28, 24], *([4 * i, 4, 4 * i + 12, 16] for i in range(4))]).float()
OVERLAPS = overlap_boxes(CROP_BOXES.expand(3, 6, 4), [(32, 32)] * 2 + [(16, 16)] * 4, 2)


def sfc(**fields) -> SFCForPreTraining:
    torch.manual_seed(0)
    heads = {"projection_hidden_size": 20, "projection_size": 8, "prediction_hidden_size": 12}
    return SFCForPreTraining(SFCConfig(**{"backbone_config": BACKBONE} | heads | fields)).eval()


VIEW_BOXES = torch.tensor([[0.0, 0.0, 0.8, 0.8], [0.3, 0.2, 1.0, 1.0]]).repeat(3, 1, 1)
FEATURES, IMPORTANCE, ORDER = images(3, 1 + PATCHES, 20, seed=5), None, images(3, PATCHES, seed=4).argsort(dim=1)
MODELS = {
    "milan": (milan, (GLOBAL[:, 0], FEATURES, IMPORTANCE, ORDER)),
    "mae": (mae, (GLOBAL[:, 0], images(3, PATCHES, seed=4))),
    "dino": (dino, (GLOBAL, LOCAL)),
    "ibot": (ibot, (GLOBAL, MASK, LOCAL)),
    "ibot_unshared": (lambda: ibot(share_head=False, share_teacher_head=False), (GLOBAL, MASK, LOCAL)),
    "esvit": (esvit, (GLOBAL, LOCAL)),
    "leopart": (leopart, (GLOBAL, LOCAL, *OVERLAPS)),
    "esvit_views": (lambda: esvit(use_regions=False), (GLOBAL, LOCAL)),
}
SIT = {f"sit {number}": (partial(sit, number), sit_inputs(number)) for number in GENERATIONS}
METHODS = MODELS | SIT | {"sfc": (sfc, (GLOBAL, VIEW_BOXES))}


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_a_saved_model_computes_the_same_and_trains_the_same_parameters(name, tmp_path):
    make, inputs = METHODS[name]
    model = perturb(make())
    model.train()(*inputs)  # moves the centres away from zero
    model.eval().save_pretrained(tmp_path)
    loaded, info = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert type(loaded) is type(model)
    assert torch.equal(loaded(*inputs).loss, model(*inputs).loss)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in loaded.named_parameters() if parameter.requires_grad} == trained


@pytest.mark.parametrize("name", METHODS)
def test_every_trained_parameter_gets_a_gradient_and_no_other(name):
    make, inputs = METHODS[name]
    model = make().train()
    model(*inputs).loss.backward()
    for key, parameter in model.named_parameters():
        has_gradient = parameter.grad is not None and bool(parameter.grad.any())
        assert has_gradient == parameter.requires_grad, key


@pytest.mark.parametrize("name", METHODS)
def test_trains_in_half_precision(name):
    make, inputs = METHODS[name]
    model = make().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(*inputs).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", [*MODELS, "sit 2", "sit 3"])
@torch.no_grad()
def test_compiles_without_a_graph_break(name):
    make, inputs = METHODS[name]
    model = make().eval()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*inputs).loss, model(*inputs).loss)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_exports_as_a_graph(name):
    make, inputs = MODELS[name]
    model = make()
    exported = torch.export.export(model, inputs).module()
    torch.testing.assert_close(exported(*inputs).loss, model(*inputs).loss)


@pytest.mark.parametrize("name", METHODS)
def test_checkpointing_gradients_changes_none(name):
    make, inputs = METHODS[name]
    gradients = []
    for checkpointing in (False, True):
        model = make().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(*inputs).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        assert torch.equal(plain, again)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_an_exported_backbone_is_a_plain_one_and_transformers_own(name, tmp_path):
    make, _ = MODELS[name]
    model = perturb(make())
    plain = model.export()
    is_masked = name in ("mae", "milan")
    assert type(plain) is (ViTModel if is_masked else DeiTModel)
    plain.save_pretrained(tmp_path)
    pixel_values = GLOBAL[:, 0]
    branch = {"mae": "model", "milan": "encoder", "leopart": "student.backbone"}.get(
        name.split("_")[0], "teacher.backbone"
    )
    backbone = model.get_submodule(branch)
    expected = backbone(pixel_values).last_hidden_state
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(pixel_values).last_hidden_state, expected)
    theirs = to_transformers(plain)
    assert type(theirs) is TransformersViTModel
    assert torch.equal(theirs(pixel_values).last_hidden_state, expected)
    assert all(parameter.requires_grad for parameter in plain.parameters())


# MAE


@torch.no_grad()
def test_the_encoder_computes_visible_patches_alone():
    model, seen = mae(), []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda module, arguments, output: seen.append(output.shape[1]))
    outputs = model(GLOBAL[:, 0])
    assert seen == [1 + PATCHES // 4] * 2
    assert outputs.mask.sum(dim=1).tolist() == [12] * 3
    assert outputs.logits.shape == (3, PATCHES, 8 * 8 * 3)


@torch.no_grad()
def test_a_kept_patch_is_seen_as_it_is_and_a_removed_one_is_not():
    model = mae()
    pixel_values, noise = GLOBAL[:1, 0], images(1, PATCHES, seed=5)
    outputs = model(pixel_values, noise)
    removed = outputs.mask[0].nonzero()[0].item()
    row, column = divmod(removed, 4)
    changed = pixel_values.clone()
    changed[..., row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 1
    assert torch.equal(model(changed, noise).logits, outputs.logits)
    assert not torch.equal(model(changed, noise).loss, outputs.loss)


@torch.no_grad()
def test_other_sizes_resize_both_tables():
    outputs = mae()(images(2, 3, 48, 64))
    assert outputs.logits.shape == (2, 6 * 8, 192)
    assert outputs.loss.isfinite()


@torch.no_grad()
def test_patches_put_together_are_the_image():
    from hf_vits.layers.patch import cut_patches

    model = mae()
    pixel_values = images(2, 3, 16, 32)
    assert torch.equal(model.paint(cut_patches(pixel_values, (8, 8)), (2, 4)), pixel_values)


@pytest.mark.parametrize("normalize", [False, True])
@torch.no_grad()
def test_transformers_masked_autoencoder_is_ours_and_back(normalize):
    theirs = TransformersViTMAEForPreTraining(
        TransformersViTMAEConfig(**SIZES, **DECODER, layer_norm_eps=1e-6, norm_pix_loss=normalize)
    ).eval()
    perturb(theirs)
    pixel_values, noise = GLOBAL[:, 0], images(3, PATCHES, seed=6)
    expected = theirs(pixel_values, noise=noise)
    ours = from_transformers(theirs)
    outputs = ours(pixel_values, noise)
    torch.testing.assert_close(outputs.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs.loss, expected.loss, atol=1e-5, rtol=1e-5)
    assert torch.equal(outputs.mask.float(), expected.mask)
    back = to_transformers(ours)
    assert torch.equal(back(pixel_values, noise=noise).logits, expected.logits)


# Students and teachers


def test_teacher_starts_as_the_student_and_follows_it():
    model = dino()
    for name, parameter in model.teacher.named_parameters():
        assert torch.equal(parameter, model.student.get_parameter(name))
        assert not parameter.requires_grad
    before = model.teacher.head.mlp[0].weight.clone()
    with torch.no_grad():
        model.student.head.mlp[0].weight.add_(1)
    TeacherUpdate(lambda step: 0.75).on_step_end(None, TrainerState(global_step=1), None, model=model)
    torch.testing.assert_close(model.teacher.head.mlp[0].weight, before + 0.25)


def test_a_teacher_with_one_head_starts_from_the_students_head_of_patches():
    model = ibot(share_head=False)
    assert torch.equal(model.teacher.head.last_layer.direction, model.student.head.patch_layer.direction)
    assert not torch.equal(model.teacher.head.last_layer.direction, model.student.head.last_layer.direction)


@torch.no_grad()
def test_views_of_one_size_go_through_the_backbone_together():
    model, batches = dino(), []
    for branch in (model.student, model.teacher):
        branch.backbone.embeddings.register_forward_hook(lambda *call: batches.append(call[2].shape[0]))
    smaller = images(3, 1, 3, 8, 8)
    outputs = model(GLOBAL, [LOCAL, smaller])
    assert sorted(batches) == [3, 6, 6, 12]
    assert outputs.logits.shape == (2 + 4 + 1, 3, 12)
    assert outputs.teacher_logits.shape == (2, 3, 12)


# Sides of global and of local views, where not any will do: positions reach no further than one image size.
SIDES = {"levit": (32, 16), "cmt": (32, 32), "locally_sag": (32, 32)}


@pytest.mark.parametrize("name", sorted(TINY.keys() - {"patch_topk"}))  # which is made of another backbone
def test_dino_trains_any_backbone(name):
    """One step, with local views of another size; nothing but the teacher's update moves the teacher."""
    side, local_side = SIDES.get(name, (64, 32))
    model = dino(backbone_config={"model_type": model_type(name), **TINY[name]}).train()
    outputs = model(images(3, 2, 3, side, side), images(3, 2, 3, local_side, local_side))
    outputs.loss.backward()
    assert outputs.logits.shape == (4, 3, 12)
    parameters = list(model.student.backbone.parameters())
    assert any(p.grad is not None and p.grad.any() for p in parameters)
    assert all(p.grad is None for p in model.teacher.parameters())
    torch.optim.SGD(parameters, lr=0.1).step()
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(0.5)
    assert any(not torch.equal(p, old) for p, old in zip(model.teacher.parameters(), before, strict=True))
    exported = model.export()
    assert type(exported) is type(model.teacher.backbone)
    exported.eval(), model.eval()
    with torch.no_grad():
        expected = model.teacher.backbone(GLOBAL[:, 0]).pooler_output
        assert torch.equal(exported(GLOBAL[:, 0]).pooler_output, expected)


def test_local_views_and_masks_change_the_loss_as_they_should():
    model = ibot()
    whole = model(GLOBAL, torch.zeros_like(MASK))
    assert whole.patch_loss == 0
    masked = model(GLOBAL, MASK)
    assert masked.patch_loss > 0
    assert not torch.equal(masked.class_loss, whole.class_loss)


def test_a_batch_norm_in_ibots_head_sees_every_token_and_is_saved_once(tmp_path):
    model = ibot(head_norm="batch_norm").train()
    seen = []
    norm = next(module for module in model.student.head.modules() if isinstance(module, torch.nn.BatchNorm1d))
    norm.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    model(GLOBAL, MASK, LOCAL)
    tokens, local_tokens = (6, 1 + PATCHES, HEAD["head_hidden_size"]), (12, 1 + PATCHES // 4, HEAD["head_hidden_size"])
    assert seen == [tokens, tokens, local_tokens, local_tokens]  # one norm serves two layers
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(GLOBAL, MASK).logits, model(GLOBAL, MASK).logits)


def test_masks_by_attention_hide_what_the_class_token_looks_at():
    model = perturb(ibot(masking="high", mask_probability=1.0))
    torch.manual_seed(0)
    outputs = model(GLOBAL, local_pixel_values=LOCAL, mask_ratios=(0.5, 0.5))
    teacher = model.teacher.backbone
    teacher.set_attn_implementation("eager")
    attention = teacher(GLOBAL[:, 0], output_attentions=True).attentions[-1][:, :, 0, 1:].mean(dim=1)
    hidden = outputs.bool_masked_pos[:, 0]
    assert hidden.sum(dim=1).tolist() == [8] * 3
    for image in range(3):
        assert attention[image][hidden[image]].min() >= attention[image][~hidden[image]].max()
    assert model(GLOBAL).bool_masked_pos.sum(dim=2).max() <= 0.5 * PATCHES


def test_around_a_step():
    model = dino().train()
    model(GLOBAL, LOCAL).loss.backward()
    state = TrainerState(epoch=0.0)
    ClipEachGradient(1e-3).on_pre_optimizer_step(None, state, None, model=model)
    norms = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
    assert max(norms) == pytest.approx(1e-3)
    FrozenLastLayer(1).on_pre_optimizer_step(None, state, None, model=model)
    assert model.student.head.last_layer.direction.grad is None
    assert model.student.head.mlp[0].weight.grad is not None


def test_initialisation_is_the_originals():
    model = mae()
    qkv = model.model.layers[0].attention.qkv.weight
    assert qkv.abs().max() <= math.sqrt(6 / (32 + 96)) < 1.05 * qkv.abs().max()
    patches = model.model.embeddings.patch_embedding.projection.weight
    assert patches.abs().max() <= math.sqrt(6 / (32 + 192)) < 1.05 * patches.abs().max()
    table = model.model.embeddings.position_embedding.table
    assert not table[:, 0].any()
    assert table[:, 1:].any()
    assert not table.requires_grad
    head = dino().student.head
    assert head.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert torch.equal(head.last_layer.magnitude, torch.ones(12, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mae()(GLOBAL[:, 0], torch.zeros(3, 9)),
            r"noise must be \(batch, patches\) = \(3, 16\), got \(3, 9\)",
        ),
        (lambda: mae(use_mask_token=True), "needs use_mask_token=False"),
        (lambda: mae(mask_ratio=1.0), r"mask_ratio must lie in \[0, 1\)"),
        (lambda: dino()(GLOBAL[:, 0]), "must be views of images"),
        (lambda: dino()(GLOBAL[:, :1]), "at least 2 global views"),
        (lambda: dino(backbone_config=SIZES), "must name its model_type"),
        (lambda: ibot(backbone_config=BACKBONE), "use_mask_token=True"),
        (lambda: ibot(num_patch_prototypes=5), "as many prototypes for patches"),
        (lambda: ibot()(GLOBAL), "bool_masked_pos must come with every batch"),
        (lambda: ibot(masking="low")(GLOBAL, MASK), "must not be given"),
        (lambda: dino().export("pupil"), "'teacher' or 'student', got 'pupil'"),
    ],
)
def test_wrong_settings_say_so(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_configurations_are_found_by_name():
    for name in ("hf_vits_mae", "hf_vits_milan", "hf_vits_dino", "hf_vits_ibot", "hf_vits_esvit"):
        assert AutoConfig.for_model(name).model_type == name


def test_a_configuration_can_be_what_a_process_imports_first():
    """Registration imports the configurations, which themselves import what registration waits for."""
    subprocess.run([sys.executable, "-c", "from hf_vits import DINOConfig; DINOConfig()"], check=True)
