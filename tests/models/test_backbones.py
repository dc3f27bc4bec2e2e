"""What every backbone can do, on the tiny models of `tests.support.hub`."""

import pytest
import torch
from transformers import (
    AutoBackbone,
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DetrConfig,
    DetrForObjectDetection,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    RTDetrConfig,
    RTDetrForObjectDetection,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from hf_vits.auto import ARCHITECTURES

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


LAYERS = {"encoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 32, "num_queries": 4}
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
    fields = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
    fields |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16, "num_attention_heads": 2, "num_queries": 4}
    model_config = Mask2FormerConfig(backbone_config=config, num_labels=2, train_num_points=16, **fields)
    return Mask2FormerForUniversalSegmentation(model_config)


def maskformer(config, channels: list[int]):
    """As Mask2Former, it logs that the backbone may not fit."""
    decoder = DetrConfig(**LAYERS | HEADS, decoder_layers=1)
    model_config = MaskFormerConfig(
        backbone_config=config, decoder_config=decoder, num_labels=2, fpn_feature_size=32, mask_feature_size=32
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
