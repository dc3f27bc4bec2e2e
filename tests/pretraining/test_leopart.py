"""Leopart: its loss, crops, queue, teacher and checkpoints; what the golden cases do not show."""

import sys
import types

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torchvision.transforms import v2
from transformers import TrainerState

from hf_vits.conversion import convert, load_checkpoint
from hf_vits.conversion.systems.leopart import to_original
from hf_vits.layers.foreground import foreground_mask
from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.objectives.leopart import EmbeddingQueue, LeopartLoss, overlap_boxes, sinkhorn
from hf_vits.optim.optimizers import parameter_groups
from hf_vits.pretraining.leopart.modeling_leopart import LeopartForPreTraining
from hf_vits.recipe import OptimizerRecipe
from hf_vits.recipe.pretraining import ViewsRecipe
from hf_vits.training.examples.views import CropBoxes, common_area
from hf_vits.training.loop.callbacks import TeacherUpdate

from ..support.forms import TINY_SWIN
from .test_pretraining import GLOBAL, LOCAL, OVERLAPS, images, leopart

BATCH = (GLOBAL, LOCAL, *OVERLAPS)


@torch.no_grad()
def test_prototypes_get_equal_mass_and_samples_one():
    assigned = sinkhorn(0.3 * images(400, 5), iterations=50)
    torch.testing.assert_close(assigned.sum(dim=1), torch.ones(400))
    torch.testing.assert_close(assigned.sum(dim=0), torch.full((5,), 80.0), rtol=1e-2, atol=0)
    assert sinkhorn(100 + images(400, 5), temperature=0.5).isfinite().all()  # exp(200) would overflow


def test_overlaps_are_the_same_place_in_both_crops():
    crops = torch.tensor([[0.0, 0.0, 40.0, 20.0], [20.0, 10.0, 60.0, 50.0]])
    in_first, in_second = overlap_boxes(crops, [(32, 32), (16, 16)], 1)
    assert in_first[0, 1].tolist() == [16, 16, 32, 32]  # its right half, and its lower half
    assert in_second[1, 0].tolist() == [0, 0, 8, 4]
    assert in_first[0, 0].tolist() == [0, 0, 32, 32]
    with pytest.raises(ValueError, match="must overlap"):
        overlap_boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0]]), [(32, 32)] * 2, 1)


def test_the_loss_is_least_where_crops_agree_about_places():
    """Two whole-image crops, four quarters of which each belong to another prototype."""
    quarters = torch.eye(4).view(4, 2, 2).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)[None]
    boxes = torch.tensor([0.0, 0.0, 8.0, 8.0]).expand(1, 2, 2, 4)
    loss = LeopartLoss()
    agree = loss([quarters, quarters], torch.stack([quarters, quarters]), boxes, boxes)[0]
    turned = loss([quarters, quarters.flip(-1)], torch.stack([quarters, quarters]), boxes, boxes)[0]
    assert agree < 0.5 < turned


def test_boxes_of_another_number_of_crops_are_refused():
    model = leopart()
    with pytest.raises(ValueError, match=r"crop_boxes of 3 images with 6 crops, 2 of them global"):
        model(GLOBAL, LOCAL, OVERLAPS[0][:, :, :5], OVERLAPS[1])
    with pytest.raises(ValueError, match="global_boxes and crop_boxes"):
        model(GLOBAL, LOCAL)
    with pytest.raises(ValueError, match=r"pixel_values must have 2 global crops .* got 3"):
        model(images(3, 3, 3, 32, 32), LOCAL, *OVERLAPS)


def test_the_queue_is_used_once_it_is_full_and_takes_what_there_is():
    queue = EmbeddingQueue(2, 8, 4, per_image=3)
    queue.push(0, images(5, 4), num_images=1)
    assert queue.stored(0) is None
    assert queue.embeddings[0].any(dim=1).sum() == 3
    first = queue.embeddings[0, :3].clone()
    queue.push(0, images(2, 4, seed=1), num_images=1)  # fewer than are to be stored
    assert torch.equal(queue.embeddings[0, 2:5], first)
    for seed in (2, 3):
        queue.push(0, images(5, 4, seed=seed), num_images=1)
    assert queue.stored(0).shape == (8, 4)
    assert queue.stored(1) is None


@pytest.mark.parametrize("region", ["foreground", "background"])
def test_a_step_clusters_one_region_and_fills_the_queue(region):
    model = leopart(region=region, queue_length=20, queue_per_image=2).train()
    outputs = model(*BATCH)
    outputs.loss.backward()
    fraction = outputs.region.float().mean()
    assert 0.2 < fraction < 0.8
    assert model.objective.queue.embeddings.any(dim=2).sum(dim=1).tolist() == [6, 6]
    lengths = model.student.head.prototypes.weight.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    assert model.student.backbone.layers[0].mlp.up.weight.grad.any()
    model.eval()(*BATCH)  # stores nothing
    assert model.objective.queue.embeddings.any(dim=2).sum() == 12


def test_without_a_teacher_the_student_assigns():
    model = leopart(use_teacher=False).train()
    assert model.teacher is None
    assert model.recipe_sections == {"views"}
    model(*BATCH).loss.backward()
    assert type(model.export()) is DeiTModel


def test_small_components_are_no_foreground():
    attention = torch.full((1, 8, 8), 1e-4)
    attention[0, 1:4, 1:4] = 1.0
    attention[0, 6, 6] = 1.0
    mask = foreground_mask(attention, fraction=0.9, sigma=0.1)[0]
    assert mask[1:4, 1:4].all()
    assert not mask[6, 6]
    with pytest.raises(ValueError, match="at least 4 x 4"):
        foreground_mask(attention[:, :3])


def test_a_backbone_without_class_token_has_no_foreground():
    with pytest.raises(ValueError, match='region must be "all"'):
        leopart(region="foreground", backbone_config=TINY_SWIN)


def test_the_teacher_follows_the_student_of_the_step_before():
    model = leopart().train()
    name = "backbone.layers.0.mlp.up.weight"
    assert torch.equal(model.teacher.get_parameter(name), model.student.get_parameter(name))
    assert not torch.equal(model.teacher.head.prototypes.weight, model.student.head.prototypes.weight)
    with torch.no_grad():
        model.student.get_parameter(name).add_(1)
    before = model.teacher.get_parameter(name).clone()
    follow = TeacherUpdate(lambda step: 0.75 if step == 0 else 0.0)
    follow.on_pre_optimizer_step(None, TrainerState(global_step=0), None, model=model)
    torch.testing.assert_close(model.teacher.get_parameter(name), before + 0.25)
    follow.on_step_end(None, TrainerState(global_step=1), None, model=model)
    torch.testing.assert_close(model.teacher.get_parameter(name), before + 0.25)


def test_a_new_model_starts_from_a_trained_backbone():
    torch.manual_seed(1)
    trained, model = DeiTModel(leopart().config.backbone_config), leopart()
    model.initialize_from(trained)
    pixel_values = GLOBAL[:, 0]
    expected = trained.eval()(pixel_values).last_hidden_state
    for branch in (model.student, model.teacher):
        assert torch.equal(branch.backbone(pixel_values).last_hidden_state, expected)
    other = DeiTModel(replace_config(trained.config, hidden_size=48, num_attention_heads=2))
    with pytest.raises(ValueError, match="set backbone_config"):
        model.initialize_from(other)


def replace_config(config, **fields):
    return type(config)(**config.to_dict() | fields)


def test_crops_overlap_the_global_ones():
    image = Image.fromarray(np.zeros((60, 80, 3), np.uint8))
    recipe = ViewsRecipe(num_local=2, overlap=0.05, flip=0.0, global_scale=[0.25, 1.0], local_scale=[0.1, 0.3])
    torch.manual_seed(0)
    crops = [v2.RandomResizedCrop(32, scale=tuple(s)) for s in [recipe.global_scale] * 2 + [recipe.local_scale] * 2]
    for _ in range(20):
        boxes = CropBoxes(image, recipe.overlap, recipe.num_global)
        for crop in crops:
            boxes.draw(crop)
        first, second, *others = boxes.boxes
        assert common_area(first, second) > 2 * 240
        assert all(common_area(view, box) > 240 for view in (first, second) for box in others)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"flip": 0.5}, "views.flip"), ({"overlap": 0.6}, "in common"), ({"overlap": 0.45}, "local views")],
)
def test_overlaps_that_cannot_be_are_refused(changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        ViewsRecipe(**{"overlap": 0.01, "flip": 0.0} | changes)


def test_parts_have_learning_rates_of_their_own():
    recipe = OptimizerRecipe(learning_rate=1e-2, rate_factors={"backbone": 0.1}, no_decay=[])
    rates = {name: group["lr"] for group in parameter_groups(leopart(), recipe) for name in group["names"]}
    assert rates["student.head.prototypes.weight"] == 1e-2
    assert rates["student.backbone.norm.weight"] == pytest.approx(1e-3)
    with pytest.raises(StrictDataclassError, match="rate_factors"):
        OptimizerRecipe(learning_rate=1e-2, rate_factors={"backbone": -1.0})


@pytest.mark.parametrize("layers", [1, 3])
def test_a_lightning_checkpoint_and_back(layers, tmp_path, monkeypatch):
    """With the callbacks' states, whose keys are Lightning's classes; they are read without Lightning."""
    model = leopart(num_head_layers=layers)
    state = to_original(model)
    assert "model.cls_token" in state["state_dict"]
    assert ("teacher.projection_head.weight" in state["state_dict"]) == (layers == 1)
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    state |= {
        "epoch": 3,
        "callbacks": {module.ModelCheckpoint: {"best_model_path": "a"}},
        "hyper_parameters": {"k": 1},
    }
    torch.save(state, tmp_path / "last.ckpt")
    for name in (module.__name__, "pytorch_lightning.callbacks", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, name)
    tensors = load_checkpoint(tmp_path / "last.ckpt")
    heads = {"num_attention_heads": 2}
    again = convert("leopart", "vit_small_patch16_full", tensors, backbone_config=heads, queue_length=0, region="all")
    assert isinstance(again, LeopartForPreTraining)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    backbone = convert("leopart", "vit_small_patch16", tensors, **heads)
    pixel_values = GLOBAL[:, 0]
    expected = model.student.backbone(pixel_values).last_hidden_state
    assert torch.equal(backbone(pixel_values).last_hidden_state, expected)
    only = to_original(backbone)["state_dict"]
    assert only.keys() == {key for key in tensors if key.startswith("model.") and key.split(".")[1][:3] != "pro"}


def test_a_checkpoint_of_another_method_is_refused():
    tensors = {key.removeprefix("model."): value for key, value in to_original(leopart())["state_dict"].items()}
    with pytest.raises(ValueError, match=r"begin with `model\.`"):
        convert("leopart", "vit_small_patch16", tensors)


@pytest.mark.parametrize("region", ["foreground", "all"])
def test_the_head_runs_on_the_patches_that_count_alone(region):
    """In training the student's head skips other patches, which changes neither the loss nor a gradient."""
    model = leopart(region=region)
    model.normalize_prototypes()
    gradients, losses, numbers = [], [], []
    model.student.head.register_forward_hook(lambda module, inputs, output: numbers.append(inputs[0].shape[0]))
    for mode in (False, True):
        model.zero_grad()
        loss = model.train(mode)(*BATCH).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad.clone() for p in model.student.parameters() if p.grad is not None])
    assert numbers[1] < numbers[0] == 3 * (2 * 16 + 4 * 4)
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
