"""Models straight from the Hub: repositories that timm and transformers pushed, and single files."""

import pytest
import timm
import torch
import transformers
from huggingface_hub import HfApi
from timm.models import push_to_hf_hub

import hf_vits
from benchmarks.layouts import randomise
from hf_vits.testing.hub import LoopbackHub


@pytest.fixture
def hub(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home", hub.token):
        yield hub


def test_a_repository_of_timm_becomes_model_processor_and_labels(hub):
    theirs = randomise(timm.create_model("levit_128s", num_classes=3, depth=(1, 1, 1)))
    theirs.pretrained_cfg |= {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3), "crop_pct": 0.8}
    theirs.pretrained_cfg |= {"interpolation": "bilinear", "label_names": ["cat", "dog", "eel"]}
    push_to_hf_hub(theirs, "user/levit", token=hub.token, model_config={"label_names": ["cat", "dog", "eel"]})
    ours, processor = hf_vits.load("user/levit")
    assert type(ours).__name__ == "LevitForImageClassification"
    assert list(ours.config.id2label.values()) == ["cat", "dog", "eel"]
    assert processor.size["shortest_edge"] == 280
    assert processor.crop_size["height"] == 224
    assert list(processor.image_mean) + list(processor.image_std) == [0.4, 0.5, 0.6, 0.1, 0.2, 0.3]
    assert processor.resample == 2
    pixel_values = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixel_values).logits, theirs(pixel_values), atol=1e-4, rtol=1e-4)


def test_a_repository_of_transformers_becomes_model_and_processor(hub):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, id2label={0: "cat", 1: "dog", 2: "eel"})
    theirs = randomise(transformers.ViTForImageClassification(config))
    theirs.push_to_hub("user/vit", token=hub.token)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).push_to_hub("user/vit", token=hub.token)
    ours, processor = hf_vits.load("user/vit")
    assert ours.config.id2label == config.id2label
    assert processor.size["height"] == 32
    pixel_values = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixel_values).logits, theirs(pixel_values).logits, atol=1e-4, rtol=1e-4)


def test_an_encoder_saved_as_vit_without_pooler_has_none(hub):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8)
    theirs = randomise(transformers.ViTModel(config, add_pooling_layer=False))
    theirs.push_to_hub("user/dino", token=hub.token)
    ours, _ = hf_vits.load("user/dino")
    pixel_values = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        outputs, expected = ours(pixel_values), theirs(pixel_values).last_hidden_state
    torch.testing.assert_close(outputs.last_hidden_state, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs.pooler_output, expected[:, 0], atol=1e-4, rtol=1e-4)


def test_a_repository_that_lacks_weights_is_refused(tmp_path):
    config = transformers.SwinConfig(embed_dim=8, depths=[1], num_heads=[1], window_size=4, image_size=16)
    theirs = transformers.SwinForImageClassification(config)
    weights = {key: value for key, value in theirs.state_dict().items() if not key.startswith("classifier")}
    theirs.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks 2 weights of SwinForImageClassification: classifier\.bias"):
        hf_vits.load(tmp_path)


def test_a_file_in_any_repository_is_converted(hub, tmp_path):
    options = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "img_size": 56, "num_classes": 3}
    theirs = randomise(timm.create_model("swin_tiny_patch4_window7_224", **options))
    torch.save({"model": theirs.state_dict()}, tmp_path / "swin.pth")
    api = HfApi(token=hub.token)
    api.create_repo("user/files")
    api.upload_file(path_or_fileobj=tmp_path / "swin.pth", path_in_repo="run/swin.pth", repo_id="user/files")
    ours, processor = hf_vits.load("user/files:run/swin.pth", "swin")
    assert type(ours).__name__ == "SwinForImageClassification"
    assert processor is not None
    pixel_values = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixel_values).logits, theirs(pixel_values), atol=1e-4, rtol=1e-4)


def test_an_architecture_of_timm_that_ours_lacks_is_named(hub):
    push_to_hf_hub(timm.create_model("test_resnet"), "user/resnet", token=hub.token)
    with pytest.raises(ValueError, match=r"timm's test_resnet: the checkpoint is of no model that hf_vits has"):
        hf_vits.load("user/resnet")
