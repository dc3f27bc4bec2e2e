"""What every backbone can do, on the tiny models of `tests.support.hub`."""

import pytest
import torch
from transformers import (
    AutoBackbone,
    DetrConfig,
    DetrForObjectDetection,
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
