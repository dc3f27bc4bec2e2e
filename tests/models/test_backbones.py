"""What every backbone can do, on the tiny models of `tests.support.hub`."""

import copy

import pytest
import torch
from transformers import (
    AutoBackbone,
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DetrConfig,
    DetrForObjectDetection,
    DPTConfig,
    DPTForDepthEstimation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    RTDetrConfig,
    RTDetrForObjectDetection,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)

from hf_vits.auto import ARCHITECTURES
from hf_vits.modeling import IsotropicBackbone

from ..support.hub import TINY, model_class, tiny_model

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tiny_backbone(name: str):
    """A backbone that returns the maps of its last four stages, or of all it has."""
    config = tiny_model(name).config
    config.out_indices = list(range(1, len(config.stage_names)))[-4:]
    return config, model_class(name, "AutoBackbone")(config).eval()


FOLDERS = {row.folder for row in ARCHITECTURES if "AutoBackbone" in row.models}
BACKBONES = [name for name in TINY if name in FOLDERS]


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_backbone_maps_are_the_hidden_states_of_the_classifier(name):
    config, backbone = tiny_backbone(name)
    maps = backbone(IMAGES).feature_maps
    assert [feature_map.shape[1] for feature_map in maps] == backbone.channels
    assert [feature_map.shape[0] for feature_map in maps] == [len(IMAGES)] * len(maps)
    assert isinstance(AutoBackbone.from_config(config), type(backbone))


@pytest.mark.parametrize("name", BACKBONES)
def test_upernet_trains_on_every_backbone(name):
    config, _ = tiny_backbone(name)
    config.drop_path_rate = 0.0
    num_maps = len(config.out_indices)
    upernet = UperNetForSemanticSegmentation(
        UperNetConfig(
            backbone_config=config, hidden_size=16, num_labels=2, use_auxiliary_head=False, pool_scales=[1, 2]
        )
    )
    outputs = upernet(IMAGES, labels=(IMAGES.mean(dim=1) > 0.5).long())
    assert outputs.logits.shape == (len(IMAGES), 2, 32, 32)
    assert len(upernet.backbone.channels) == num_maps
    outputs.loss.backward()
    gradients = [parameter.grad for parameter in upernet.backbone.parameters() if parameter.grad is not None]
    assert any(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", BACKBONES)
def test_detr_trains_on_every_backbone(name):
    config, _ = tiny_backbone(name)
    config.drop_path_rate = 0.0
    config.out_indices = config.out_indices[-1:]
    detr = DetrForObjectDetection(
        DetrConfig(
            backbone_config=config,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            num_queries=4,
            num_labels=2,
        )
    )
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    labels = [{"class_labels": torch.tensor([label]), "boxes": boxes} for label in range(len(IMAGES))]
    outputs = detr(IMAGES, labels=labels)
    assert outputs.pred_boxes.shape == (len(IMAGES), 4, 4)
    outputs.loss.backward()
    gradients = [p.grad for p in detr.model.backbone.parameters() if p.grad is not None]
    assert any(gradient.abs().max() > 0 for gradient in gradients)


# Twice the 32 groups of their norms, so that maps of 1x1 have more than one value in each.
LAYERS = {"encoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 64, "num_queries": 4}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_labels": 2}


def deformable_detr(config, channels: list[int]):
    """Deformable DETR needs two decoder layers, among which it shares its heads."""
    fields = LAYERS | HEADS | {"decoder_layers": 2, "num_feature_levels": 3}
    return DeformableDetrForObjectDetection(DeformableDetrConfig(backbone_config=config, **fields))


def rt_detr(config, channels: list[int]):
    fields = {"encoder_in_channels": channels, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3}
    fields |= {**LAYERS, **HEADS, "decoder_layers": 1, "num_denoising": 2}
    return RTDetrForObjectDetection(RTDetrConfig(backbone_config=config, **fields))


def mask2former(config, channels: list[int]):
    """Of a backbone that it does not list, Mask2Former logs that it may not fit."""
    fields = {"feature_size": 64, "mask_feature_size": 64, "hidden_dim": 64, "encoder_layers": 1, "decoder_layers": 2}
    fields |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16, "num_attention_heads": 2, "num_queries": 4}
    model_config = Mask2FormerConfig(backbone_config=config, num_labels=2, train_num_points=16, **fields)
    return Mask2FormerForUniversalSegmentation(model_config)


def maskformer(config, channels: list[int]):
    """As Mask2Former, it logs that the backbone may not fit."""
    decoder = DetrConfig(**LAYERS | HEADS, decoder_layers=1)
    model_config = MaskFormerConfig(
        backbone_config=config, decoder_config=decoder, num_labels=2, fpn_feature_size=64, mask_feature_size=64
    )
    return MaskFormerForInstanceSegmentation(model_config)


@pytest.mark.parametrize(("make", "num_maps"), [(deformable_detr, 3), (rt_detr, 3), (mask2former, 4), (maskformer, 4)])
def test_detectors_of_transformers_train_on_stages(make, num_maps):
    """One step each, on an encoder in four stages; transformers refuses none. DETR is tried on every backbone."""
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    config = tiny_model("swin", **sizes, window_size=4, squeeze_sizes=[4] * 4, drop_path_rate=0.0).config
    config.out_indices = list(range(5 - num_maps, 5))
    model = make(config, [8, 16, 16]).train()
    images, classes = torch.rand(1, 3, 64, 64), torch.tensor([1])
    if make in (mask2former, maskformer):
        outputs = model(images, mask_labels=[torch.ones(1, 64, 64)], class_labels=[classes])
    else:
        outputs = model(images, labels=[{"class_labels": classes, "boxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]])}])
    before = [parameter.clone() for parameter in model.parameters()]
    outputs.loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    named = zip(model.named_parameters(), before, strict=True)
    changed = [name for (name, parameter), old in named if not torch.equal(parameter, old)]
    assert any("stages" in name for name in changed)


def dpt(config, size: int):
    fields = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "reassemble_factors": [4, 2, 1, 0.5]}
    return DPTForDepthEstimation(DPTConfig(backbone_config=config, is_hybrid=False, hidden_size=size, **fields))


def depth_anything(config, size: int):
    fields = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "head_hidden_size": 8}
    fields |= {"reassemble_hidden_size": size, "patch_size": config.patch_size}
    return DepthAnythingForDepthEstimation(DepthAnythingConfig(backbone_config=config, **fields))


def zoe_depth(config, size: int):
    fields = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "num_relative_features": 8}
    fields |= {"bin_embedding_dim": 8, "num_attractors": [4, 2, 2, 1], "bottleneck_features": 8}
    bins = [{"name": "one", "n_bins": 4, "min_depth": 0.001, "max_depth": 10.0}]
    return ZoeDepthForDepthEstimation(ZoeDepthConfig(backbone_config=config, bin_configurations=bins, **fields))


SEQUENCES = {"vit": {}, "deit": {"distilled": True}, "tnt": {}}  # with a class token, and patches of `patch_size`


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("make", [dpt, depth_anything, zoe_depth])
def test_depth_estimators_of_transformers_train_on_sequences(make, name):
    config = tiny_model(name, num_hidden_layers=4, drop_path_rate=0.0, **SEQUENCES[name]).config
    config.out_indices, config.reshape_hidden_states = [1, 2, 3, 4], False
    model = make(config, config.hidden_size).train()
    outputs = model(torch.rand(1, 3, 32, 64))
    assert outputs.predicted_depth.ndim == 3
    outputs.predicted_depth.mean().backward()
    gradients = [parameter.grad for parameter in model.backbone.parameters() if parameter.grad is not None]
    assert any(gradient.abs().max() > 0 for gradient in gradients)


@torch.no_grad()
def test_sequences_are_the_class_token_and_the_maps():
    config, backbone = tiny_backbone("vit")
    config = copy.deepcopy(config)
    config.reshape_hidden_states = False
    sequences = type(backbone)(config).eval()
    sequences.load_state_dict(backbone.state_dict())
    for sequence, feature_map in zip(sequences(IMAGES).feature_maps, backbone(IMAGES).feature_maps, strict=True):
        assert torch.equal(sequence[:, 1:].transpose(1, 2), feature_map.flatten(2))
    config, backbone = tiny_backbone("cct")
    config.reshape_hidden_states = False
    with pytest.raises(ValueError, match="has no class token: leave it at True"):
        type(backbone)(config)


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_detectors_and_mask_models_of_transformers_take_the_maps_that_suit(name):
    """RT-DETR needs maps whose sides halve from each to the next; the others take any maps."""
    config, backbone = tiny_backbone(name)
    sides = [feature_map.shape[-1] for feature_map in backbone(IMAGES).feature_maps]
    halves = len(sides) > 2 and all(2 * after == before for before, after in zip(sides[-3:], sides[-2:], strict=False))
    assert not halves or not isinstance(backbone, IsotropicBackbone)
    for make, count in ((deformable_detr, 3), (mask2former, 4), (maskformer, 4), (rt_detr, 3)):
        config.out_indices = list(range(1, len(config.stage_names)))[-count:]
        model = make(config, [*backbone.channels][-count:])
        if make is rt_detr and not halves:
            with pytest.raises((RuntimeError, IndexError, ValueError)):
                model.eval()(IMAGES[:1])
        elif len(config.out_indices) == count:
            assert model.eval()(IMAGES[:1])[0] is not None
