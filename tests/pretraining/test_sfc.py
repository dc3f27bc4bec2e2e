"""Fine-grained correspondence beyond the golden cases: its loss, its views, its checkpoints and its teacher."""

import random

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import TrainerState

from hf_vits.conversion import convert, system
from hf_vits.models.res_net.configuration_res_net import ResNetConfig
from hf_vits.models.res_net.modeling_res_net import ResNetModel
from hf_vits.objectives.sfc import CorrespondenceLoss, positive_pairs
from hf_vits.pretraining.sfc.configuration_sfc import SFCConfig
from hf_vits.pretraining.sfc.modeling_sfc import SFCForPreTraining
from hf_vits.training.examples.crops import RecordedCrops, draw_crop
from hf_vits.training.loop.callbacks import TeacherUpdate

from ..support.forms import BACKBONE
from ..support.weights import perturb

RESNET = {"model_type": "hf_vits_res_net", "image_size": 32, "stem_hidden_size": 8, "depths": [1, 1, 1]}
RESNET |= {"hidden_sizes": [8, 16, 24], "strides": [1, 2, 1]}
HEADS = {"projection_hidden_size": 20, "projection_size": 8, "prediction_hidden_size": 12}
BOXES = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.2, 0.1, 0.9, 0.8]]]).repeat(2, 1, 1)


def sfc(**fields) -> SFCForPreTraining:
    torch.manual_seed(0)
    return perturb(SFCForPreTraining(SFCConfig(**{"backbone_config": RESNET, **HEADS} | fields)).eval())


def maps(seed: int) -> torch.Tensor:
    return normalize(torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_same_crop_corresponds_cell_by_cell():
    box = torch.tensor([[0.1, 0.2, 0.7, 0.9]])
    assert torch.equal(positive_pairs(box, box, (3, 4), 0.5)[0], torch.eye(12, dtype=torch.bool))
    mirrored = box[:, [2, 1, 0, 3]]
    pairs = positive_pairs(box, mirrored, (3, 4), 0.5)[0].unflatten(1, (3, 4)).flip(2).flatten(1)
    assert torch.equal(pairs, torch.eye(12, dtype=torch.bool))


def test_crops_that_do_not_overlap_add_nothing_and_give_no_gradient():
    apart = torch.tensor([[0.6, 0.6, 1.0, 1.0]] * 2)
    prediction = maps(0).requires_grad_()
    loss, logged = CorrespondenceLoss()(prediction, maps(1), BOXES[:, 0], apart)
    loss.backward()
    assert loss == 0
    assert logged["positive_pairs"] == 0
    assert not prediction.grad.any()


def test_alike_cells_reach_the_least_loss():
    loss, _ = CorrespondenceLoss()(maps(0), maps(0), BOXES[:, 0], BOXES[:, 0])
    assert loss.item() == pytest.approx(-2, abs=1e-5)


@torch.no_grad()
def test_a_checkpoint_goes_to_the_originals_keys_and_back():
    model = sfc()
    saved = system("sfc").to_original(model)
    assert {"online_encoder.layer1.0.conv1.weight", "online_encoder.layer2.0.downsample.0.weight"} <= saved[
        "model"
    ].keys()
    assert saved["model"]["target_projector.bn1.running_mean"].shape == (20,)
    back = convert("sfc", "resnet18_full", saved, backbone_config=RESNET)
    views = torch.randn(2, 2, 3, 32, 32)
    assert torch.equal(back(views, BOXES).loss, model(views, BOXES).loss)
    encoder = convert("sfc", "resnet18", system("sfc").to_original(model.export()), strides=[1, 2, 1])
    assert type(encoder) is ResNetModel
    expected = model.student.backbone(views[:, 0]).last_hidden_state
    assert torch.equal(encoder(views[:, 0]).last_hidden_state, expected)
    with pytest.raises(TypeError, match="of a ResNet or of SFC over one, got SFCForPreTraining"):
        system("sfc").to_original(sfc(backbone_config=BACKBONE))


@pytest.mark.parametrize(
    ("prefix", "padding"),
    [("", "zeros"), ("module.encoder_q.", "zeros"), ("module.encoder.", "zeros"), ("encoder.model.", "reflect")],
    ids=["torchvision", "moco", "simsiam", "crw"],
)
@torch.no_grad()
def test_encoders_of_other_methods_are_read(prefix, padding):
    encoder = perturb(ResNetModel(ResNetConfig(**RESNET, padding_mode=padding))).eval()
    tensors = system("sfc").to_original(encoder)["model"]
    tensors = {key.replace("online_encoder.", prefix): value for key, value in tensors.items()}
    tensors |= {f"{prefix}layer4.0.conv1.weight": torch.zeros(8, 24, 3, 3), f"{prefix}fc.weight": torch.zeros(5, 32)}
    tensors |= {"module.encoder_k.conv1.weight": torch.zeros(1)} if "encoder_q" in prefix else {}
    read = convert("sfc", "resnet18", tensors)
    assert read.config.padding_mode == padding
    images = torch.randn(1, 3, 32, 40)
    assert torch.equal(read(images).last_hidden_state, encoder(images).last_hidden_state)


@torch.no_grad()
def test_torchvisions_classifiers_compute_the_same():
    import torchvision

    theirs = perturb(torchvision.models.resnet18(num_classes=7)).eval()
    ours = convert("sfc", "resnet18_imagenet", theirs.state_dict())
    images = torch.randn(2, 3, 65, 50)
    torch.testing.assert_close(ours(images).logits, theirs(images), atol=1e-4, rtol=1e-4)
    wide = perturb(torchvision.models.resnext50_32x4d(num_classes=3)).eval()
    ours = convert("sfc", "resnet50_imagenet", wide.state_dict())
    assert (ours.config.groups, ours.config.width_per_group) == (32, 4)
    torch.testing.assert_close(ours(images).logits, wide(images), atol=1e-4, rtol=1e-4)


def test_the_teacher_moves_before_the_forward_pass():
    model, moved = sfc(), []
    model.update_teacher = moved.append
    update, state = TeacherUpdate(lambda step: step / 10), TrainerState(global_step=3)
    for event in (update.on_step_begin, update.on_pre_optimizer_step, update.on_step_end):
        event(None, state, None, model=model)
    assert moved == [0.3]


def test_boxes_are_of_what_the_views_show():
    ramp = torch.linspace(0, 255, 101)
    image = Image.fromarray(ramp.expand(101, 101).round().to(torch.uint8).numpy())
    crops = RecordedCrops(image, random.Random(0))
    crop = draw_crop((101, 101), (0.2, 0.5), (3 / 4, 4 / 3), random.Random(0))
    assert crops.draw(type("Crop", (), {"scale": (0.2, 0.5), "ratio": (3 / 4, 4 / 3)})) == crop
    top, left, height, width = crop
    assert crops.boxes == [(left / 100, top / 100, (left + width - 1) / 100, (top + height - 1) / 100)]
    assert draw_crop((10, 100), (1.0, 1.0), (3 / 4, 4 / 3), random.Random(0)) == (0, 43, 10, 13)
    assert draw_crop((100, 10), (1.0, 1.0), (3 / 4, 4 / 3), random.Random(0)) == (43, 0, 13, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sfc()(torch.zeros(2, 2, 3, 32, 32)), r"view_boxes must be \(batch, 2, 4\) = \(2, 2, 4\), got None"),
        (lambda: sfc()(torch.zeros(2, 3, 3, 32, 32), BOXES), "two views of each image, got 3"),
        (lambda: sfc().check_number_of_views(2, 4), "views.num_local to 0, got 2 and 4"),
        (lambda: ResNetConfig(strides=[1, 2]), "strides needs one value per stage"),
        (lambda: ResNetConfig(groups=2), "of layer_type='bottleneck'"),
    ],
)
def test_wrong_settings_say_so(make, message):
    with pytest.raises(ValueError, match=message):
        make()
