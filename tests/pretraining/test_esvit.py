"""What neither golden cases nor conformance show of EsViT: the model, its backbones, its checkpoints."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForPreTraining

import hf_vits
from hf_vits import (
    CvtConfig,
    CvtModel,
    DINOConfig,
    DINOForPreTraining,
    EsViTConfig,
    EsViTForPreTraining,
    IBOTConfig,
    IBOTForPreTraining,
    SwinModel,
)
from hf_vits.conversion import convert

from ..support.hub import TINY

HEAD = {"num_prototypes": 12, "head_hidden_size": 20, "head_bottleneck_size": 8}
SWIN = {"model_type": "hf_vits_swin", **TINY["swin"], "layer_norm_eps": 1e-6, "shift_like": "image_size"}
CVT = {"model_type": "hf_vits_cvt", **TINY["cvt"], "window_size": 3, "use_class_token": False}


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


GLOBAL, LOCAL = images(3, 2, 3, 32, 32), images(3, 2, 3, 20, 20, seed=1)


@torch.no_grad()
def esvit(**fields) -> EsViTForPreTraining:
    """A model whose student and teacher differ."""
    torch.manual_seed(0)
    model = EsViTForPreTraining(EsViTConfig(**{"backbone_config": SWIN} | HEAD | fields)).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.mark.parametrize("backbone_config", [SWIN, CVT])
@torch.no_grad()
def test_the_regions_of_every_crop_are_learnt_from(backbone_config):
    """Crop by crop, without the batching."""
    model = esvit(backbone_config=backbone_config)
    crops = [*GLOBAL.unbind(1), *LOCAL.unbind(1)]
    student, teacher = ([branch([crop]) for crop in crops] for branch in (model.student, model.teacher))
    views, regions = zip(*student, strict=True)
    teacher_views, teacher_regions = zip(*teacher[:2], strict=True)
    expected, _ = model.objective(
        torch.stack(views),
        torch.stack(teacher_views),
        [region.logits for (region,) in regions],
        torch.stack([region.logits for (region,) in teacher_regions]),
        [region.features for (region,) in regions],
        torch.stack([region.features for (region,) in teacher_regions]),
    )
    outputs = model(GLOBAL, LOCAL)
    torch.testing.assert_close(outputs.loss, expected)
    torch.testing.assert_close(outputs.loss, (outputs.view_loss + outputs.region_loss) / 2)
    assert outputs.logits.shape == (4, 3, 12)


@pytest.mark.parametrize("name", ["vit", "cvt", "swin", "coat", "mvit", "levit", "regionvit", "cmt", "qna", "pvt"])
def test_over_other_backbones(name):
    model = esvit(backbone_config={"model_type": f"hf_vits_{name}", **TINY[name]}).train()
    model(GLOBAL).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.student.region_head.parameters())
    assert type(model.export()) is type(model.teacher.backbone)


@pytest.mark.parametrize("backbone_config", [SWIN, CVT])
def test_dino_over_its_backbones(backbone_config):
    model = DINOForPreTraining(DINOConfig(backbone_config=backbone_config, **HEAD)).train()
    model(GLOBAL, LOCAL).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.student.parameters())


def test_ibot_over_its_swin_masks_on_the_grid_of_the_last_stage():
    backbone_config = SWIN | {"use_mask_token": True}
    model = IBOTForPreTraining(IBOTConfig(backbone_config=backbone_config, num_patch_prototypes=12, **HEAD)).train()
    mask = torch.zeros(3, 2, 2 * 2, dtype=torch.bool)
    mask[:, 0, 1] = True
    outputs = model(GLOBAL, mask, LOCAL)
    outputs.loss.backward()
    assert outputs.patch_loss > 0
    assert model.student.backbone.embeddings.mask_token.grad.any()


def test_regions_can_join_where_views_alone_were_learnt(tmp_path):
    views = esvit(use_regions=False)
    views.train()(GLOBAL, LOCAL)
    views.save_pretrained(tmp_path)
    model, info = AutoModelForPreTraining.from_pretrained(tmp_path, use_regions=True, output_loading_info=True)
    made = {".".join(key.split(".")[:2]) for key in info["missing_keys"]}
    assert made == {"student.region_head", "teacher.region_head", "objective.region_center"}
    for name, parameter in model.teacher.region_head.named_parameters():
        assert torch.equal(parameter, model.student.region_head.get_parameter(name))
        assert not parameter.requires_grad
    assert torch.equal(model.objective.center.value, views.objective.center.value)
    assert not model.objective.region_center.value.any()
    model.train()(GLOBAL, LOCAL).loss.backward()


@torch.no_grad()
def test_mixed_images_have_mixed_targets():
    model = esvit(use_regions=False)
    mixing = torch.eye(3).expand(4, 3, 3)
    plain = model(GLOBAL, LOCAL).loss
    torch.testing.assert_close(model(GLOBAL, LOCAL, mixing).loss, plain)
    assert not torch.isclose(model(GLOBAL, LOCAL, mixing.flip(1)).loss, plain)
    with pytest.raises(ValueError, match="use_regions=False"):
        esvit()(GLOBAL, LOCAL, mixing)


# CvT


def windowed(**fields) -> CvtModel:
    torch.manual_seed(0)
    return CvtModel(CvtConfig(**{key: value for key, value in (CVT | fields).items() if key != "model_type"})).eval()


@torch.no_grad()
def test_windows_see_no_further_than_their_side_and_the_convolution():
    model = windowed(depths=[1, 1, 1], window_size=4)
    pixel_values = images(1, 3, 64, 64)
    changed = pixel_values.clone()
    changed[..., 40:, 40:] += 1
    first = [model(values, output_hidden_states=True).hidden_states[1] for values in (pixel_values, changed)]
    same = (first[0] == first[1]).all(dim=1)[0]
    assert same[:8].all()
    assert not same[8:, 8:].any()


@torch.no_grad()
def test_maps_smaller_than_a_window_and_padded_ones():
    model = windowed(attn_implementation="eager")
    outputs = model(images(2, 3, 20, 28), output_attentions=True)
    # Maps of 5x7, 3x4 and 2x2, the last smaller than a window.
    shapes = [tuple(attention.shape) for attention in outputs.attentions]
    assert shapes == [(2 * 6, 1, 9, 9), (2 * 2, 2, 9, 9), (2, 2, 4, 4), (2, 2, 4, 4)]
    assert outputs.last_hidden_state.shape == (2, 4, 16)


@torch.no_grad()
def test_windows_compile_and_export():
    model, pixel_values = windowed(), images(2, 3, 20, 28)
    expected = model(pixel_values).pooler_output
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pixel_values).pooler_output, expected)
    exported = torch.export.export(model, (pixel_values,)).module()
    torch.testing.assert_close(exported(pixel_values).pooler_output, expected)


def test_initialisation_and_stochastic_depth_are_the_originals():
    model = windowed(hidden_sizes=[64, 64, 64], drop_path_rate=0.3)
    convolution = model.embeddings.projection
    assert convolution.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not convolution.bias.any()
    rates = [layer.drop_path.p for stage in model.stages for layer in stage.layers]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


@torch.no_grad()
def test_fuse_folds_every_batch_norm():
    model = windowed()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    before = model(GLOBAL[:, 0]).pooler_output
    hf_vits.fuse(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(GLOBAL[:, 0]).pooler_output, before, atol=1e-4, rtol=1e-4)


def test_windows_have_no_class_token():
    with pytest.raises(ValueError, match="needs use_class_token=False"):
        windowed(use_class_token=True)


# Checkpoints


def training_state(branch: dict[str, torch.Tensor], wrapped_teacher: bool) -> dict:
    """What the original's main script saves of two branches."""
    teacher = {f"module.{key}" if wrapped_teacher else key: value + 1 for key, value in branch.items()}
    return {
        "student": {f"module.{key}": value for key, value in branch.items()},
        "teacher": teacher,
        "dino_loss": {"center": torch.full((1, 5), 2.0), "center_grid": torch.full((1, 5), 3.0)},
        "optimizer": {"state": {}},
        "epoch": 3,
    }


def original_swin() -> dict[str, torch.Tensor]:
    """Keys and shapes of a Swin of one stage with both heads, under the original's names."""
    shapes = {
        "patch_embed.proj.weight": (8, 3, 4, 4),
        "patch_embed.proj.bias": (8,),
        "patch_embed.norm.weight": (8,),
        "patch_embed.norm.bias": (8,),
        "layers.0.blocks.0.norm1.weight": (8,),
        "layers.0.blocks.0.norm1.bias": (8,),
        "layers.0.blocks.0.attn.relative_position_bias_table": (9, 2),
        "layers.0.blocks.0.attn.relative_position_index": (4, 4),
        "layers.0.blocks.0.attn.qkv.weight": (24, 8),
        "layers.0.blocks.0.attn.qkv.bias": (24,),
        "layers.0.blocks.0.attn.proj.weight": (8, 8),
        "layers.0.blocks.0.attn.proj.bias": (8,),
        "layers.0.blocks.0.norm2.weight": (8,),
        "layers.0.blocks.0.norm2.bias": (8,),
        "layers.0.blocks.0.mlp.fc1.weight": (32, 8),
        "layers.0.blocks.0.mlp.fc1.bias": (32,),
        "layers.0.blocks.0.mlp.fc2.weight": (8, 32),
        "layers.0.blocks.0.mlp.fc2.bias": (8,),
        "norm.weight": (8,),
        "norm.bias": (8,),
    }
    for head in ("head", "head_dense"):
        sizes = [8, 6, 6, 4]
        for index in range(3):
            shapes[f"{head}.mlp.{2 * index}.weight"] = (sizes[index + 1], sizes[index])
            shapes[f"{head}.mlp.{2 * index}.bias"] = (sizes[index + 1],)
        shapes |= {f"{head}.last_layer.weight_g": (5, 1), f"{head}.last_layer.weight_v": (5, 4)}
    return {key: images(*shape, seed=index) for index, (key, shape) in enumerate(shapes.items())}


FIELDS = {"depths": [1], "hidden_sizes": [8], "num_attention_heads": [2], "squeeze_sizes": [1], "window_size": 2}


def full(state: dict, **fields) -> EsViTForPreTraining:
    return convert("esvit", "swin_tiny_window7_full", state, backbone_config=FIELDS, **fields)


@pytest.mark.parametrize("wrapped_teacher", [False, True])
@torch.no_grad()
def test_a_training_state_whole_and_its_teachers_backbone(wrapped_teacher):
    state = training_state(original_swin(), wrapped_teacher)
    model = full(state)
    assert model.config.use_regions
    assert model.config.num_prototypes == 5
    assert model.objective.center.value.tolist() == [2.0] * 5
    assert model.objective.region_center.value.tolist() == [3.0] * 5
    student_layer, teacher_layer = model.student.region_head.last_layer, model.teacher.region_head.last_layer
    assert torch.equal(teacher_layer.magnitude, student_layer.magnitude + 1)
    backbone = convert("esvit", "swin_tiny_window7", state, **FIELDS)
    assert type(backbone) is SwinModel
    pixel_values = GLOBAL[:, 0]
    expected = model.teacher.backbone(pixel_values).pooler_output
    assert torch.equal(backbone(pixel_values).pooler_output, expected)
    assert torch.equal(model.export()(pixel_values).pooler_output, expected)


def test_a_checkpoint_of_views_alone_has_no_regions():
    branch = {key: value for key, value in original_swin().items() if not key.startswith("head_dense")}
    state = training_state(branch, wrapped_teacher=False)
    del state["dino_loss"]["center_grid"]
    assert not full(state).config.use_regions


def test_one_entry_alone_serves_as_both_which_then_go_their_own_ways():
    model = full({"teacher": original_swin()})
    student = dict(model.student.named_parameters())
    for name, parameter in model.teacher.named_parameters():
        assert torch.equal(parameter, student[name])
        assert parameter.data_ptr() != student[name].data_ptr()
        assert not parameter.requires_grad


def test_what_is_no_head_of_the_method_is_not_dropped():
    state = original_swin() | {"head.weight": torch.zeros(3, 8)}
    with pytest.raises(ValueError, match=r"1 missing: classifier\.bias"):
        convert("esvit", "swin_tiny_window7", state, **FIELDS)
