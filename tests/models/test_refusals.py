"""What configurations and models refuse, with an error that names the field or argument and what came."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vits import (
    BranchformerConfig,
    CctConfig,
    DeiTConfig,
    MvitConfig,
    SwinConfig,
    TntConfig,
    ViTConfig,
    VivitConfig,
)
from hf_vits.models.branchformer.configuration_branchformer_seq2seq import BranchformerSeq2SeqConfig
from hf_vits.models.branchformer.modeling_branchformer_seq2seq import BranchformerForSpeechSeq2Seq
from hf_vits.models.cct.configuration_cct_text import CctTextConfig
from hf_vits.models.cct.modeling_cct_text import CctForSequenceClassification
from hf_vits.models.vivit.modeling_vivit import VivitForVideoClassification
from hf_vits.pretraining.dino.configuration_dino import DINOConfig

from ..support.forms import BACKBONE, LAYERS, SIZES
from ..support.hub import tiny_model
from .test_contracts import LABELS, classifier, inputs

INFINITY = float("inf")
GAP = "id2label must name the classes 0 to 1, each once, as it has 2 names, got names for 0, 2"
TOO_SMALL = "image_size must be at least 36, so that the convolutions and poolings give a token, got image_size=32"


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (ViTConfig, {"layer_norm_eps": float("nan")}, "layer_norm_eps must be finite and at most 262144, got"),
        (ViTConfig, {"layer_scale_init_value": -INFINITY}, "layer_scale_init_value must be finite"),
        (
            ViTConfig,
            {"hidden_size": 2**31},
            "hidden_size must be finite and at most 32768, got hidden_size=2147483648",
        ),
        (ViTConfig, {"num_hidden_layers": 10**9}, "num_hidden_layers must be finite and at most 1024"),
        (CctTextConfig, {"vocab_size": 2**31}, "vocab_size must be finite and at most 16777216"),
        (SwinConfig, {"hidden_sizes": [96, 192, 384, 2**63]}, "hidden_sizes must be finite and at most 32768"),
        (SwinConfig, {"depths": []}, "depths needs a number of layers for at least one stage, got depths=[]"),
        (SwinConfig, {"mlp_ratio": 1e-30}, "mlp_ratio must leave at least one of (96, 192, 384, 768) channels"),
        (ViTConfig, {"image_size": [224]}, "image_size must have 2 values, got image_size=[224]"),
        (VivitConfig, {"tubelet_size": [2, 16]}, "tubelet_size must have 3 values, got tubelet_size=[2, 16]"),
        (ViTConfig, {"image_size": 225}, "image_size must be a multiple of patch_size in height and width, got"),
        (TntConfig, {"patch_size": 12}, "image_size must be a multiple of patch_size in height and width, got"),
        (ViTConfig, {"stem_depths": [1, 1], "patch_size": 5}, "in cells of 8 pixels that stem_depths=[1, 1] leave"),
        (VivitConfig, {"num_frames": 5}, "num_frames must be a multiple of the tubelets' frames, got num_frames=5"),
        (
            MvitConfig,
            {"num_frames": 8},
            "patch_size needs a value for each of (frames, height, width) as num_frames=8",
        ),
        (CctConfig, {"kernel_size": 6, "stride": 6, "padding": 0, "use_max_pool": False}, TOO_SMALL),
        (ViTConfig, {"num_labels": -1}, "num_labels must lie in [0, 262144], got num_labels=-1"),
        (ViTConfig, {"num_labels": 2.0}, "num_labels must be a whole number, got num_labels=2.0"),
        (ViTConfig, {"id2label": {0: "a", 2: "b"}}, GAP),
        (ViTConfig, {"id2label": {"x": "a"}}, "id2label must name the classes 0 to 0, each once"),
        (ViTConfig, {"id2label": ["a"]}, "id2label must be a dict {number: name}, got id2label=['a']"),
        (ViTConfig, {"label2id": {0: "a"}}, "label2id must give each name, a string, a number, got label2id={0: 'a'}"),
        (ViTConfig, {"problem_type": "unknown"}, "problem_type must be one of (None, 'regression', "),
        (ViTConfig, {"dtype": "float31"}, "dtype must be one of float32, float16, bfloat16, float64, got"),
        (ViTConfig, {"attn_implementation": 1}, "attn_implementation must be str | dict, got attn_implementation=1"),
        (ViTConfig, {"return_dict": "no"}, "return_dict must be <class 'bool'>, got return_dict='no'"),
        (DeiTConfig, {"initializer_range": 0.0}, "initializer_range must be positive, got initializer_range=0.0"),
        (ViTConfig, {"position_initializer_range": -0.98}, "position_initializer_range must be positive, got"),
        (BranchformerConfig, {"pad_token_id": -1}, "pad_token_id, CTC's blank, must lie in [0, vocab_size=4233)"),
        (
            DINOConfig,
            {"backbone_config": BACKBONE | {"image_size": 33}},
            "image_size must be a multiple of patch_size",
        ),
        (DINOConfig, {"backbone_config": BACKBONE | {"pooling": "none"}}, "backbone_config must pool the tokens"),
    ],
)
def test_odd_fields_are_refused_by_name(config_class, fields, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        config_class(**fields)


def test_labels_of_a_saved_configuration_are_read_again(tmp_path):
    names = [f"class {index}" for index in range(12)]
    ViTConfig(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}).save_pretrained(
        tmp_path
    )
    assert list(ViTConfig.from_pretrained(tmp_path).id2label.values()) == names
    assert ViTConfig(num_labels=None).num_labels == 2


@pytest.mark.parametrize("form", ["vit", "swin", "cct", "coat", "locally_sag", "mvit-clips", "audiomer", "septr"])
@torch.no_grad()
def test_what_is_no_tensor_of_real_numbers_is_refused(form):
    model = classifier(form)
    name, batch = model.main_input_name, inputs(model)
    for part in (model, model.base_model):
        for value in ("pixels", batch.tolist(), batch.numpy(), Image.new("RGB", (32, 32)), {"x": batch}):
            with pytest.raises(TypeError, match=f"{name} must be a torch tensor, got {type(value).__name__}: "):
                part(**{name: value})
        with pytest.raises(TypeError, match=f"{name} must hold real numbers, got torch.complex64"):
            part(batch.to(torch.complex64))
        for empty in (batch[:0], batch[:, :0], batch[..., :0]):
            with pytest.raises(ValueError, match=f"{name} must not be empty, got shape"):
                part(empty)
    with pytest.raises(TypeError, match="output_hidden_states must be True, False or numbers of layers, got Tensor"):
        model(batch, output_hidden_states=torch.ones(2))
    with pytest.raises(TypeError, match="got unknown arguments position_mask: leave them out"):
        model(batch, position_mask=torch.ones(2, 16))


@torch.no_grad()
def test_image_models_take_no_attention_mask():
    model = classifier("vit")
    with pytest.raises(TypeError, match="ViTForImageClassification got unknown arguments attention_mask: leave them"):
        model(inputs(model), attention_mask=torch.ones(2, 17))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), "labels must lie in [0, 3): Target 3 is out of bounds"),
        (torch.tensor([0, -1]), "labels must lie in [0, 3): Target -1 is out of bounds"),
        (torch.tensor([0, 1, 0]), "labels must be class indices (2,), got shape (3,)"),
        (LABELS.int(), "labels must be class indices of torch.int64, got torch.int32: convert with .long()"),
        (LABELS.bool(), "labels must be class indices of torch.int64, got torch.bool"),
        (LABELS.float(), "labels must be floats (2, 3), one for each class, got torch.float32 (2,)"),
        ([0, 1], "labels must be a torch tensor, got list"),
        (np.array([0, 1]), "labels must be a torch tensor, got ndarray"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    model = classifier("vit")
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        model(inputs(model), labels=labels)


def test_labels_that_fit_are_taken():
    model = classifier("vit")
    for labels in (LABELS, LABELS[:, None], torch.tensor([0, -100]), torch.rand(2, 3)):
        model.config.problem_type = None
        assert model(inputs(model), labels=labels).loss.isfinite()
    model = tiny_model("vit", id2label={0: "weight"}, label2id={"weight": 0})
    for labels in (torch.rand(2), torch.rand(2, 1), LABELS):
        assert model(inputs(model), labels=labels).loss.isfinite()
    with pytest.raises(
        ValueError, match=re.escape("labels must be numbers (2, 1) for a regression, got torch.float32")
    ):
        model(inputs(model), labels=torch.rand(3))


def test_labels_of_several_heads_are_checked():
    fields = {**LAYERS, "image_size": 16, "num_frames": 2, "tubelet_size": [2, 8, 8], "num_labels": 5}
    model = VivitForVideoClassification(VivitConfig(**fields, head_sizes=[2, 3]))
    clips = torch.rand(2, 2, 3, 16, 16)
    assert model(clips, labels=torch.tensor([[0, 2], [1, 1]])).loss.isfinite()
    for labels in (LABELS, torch.rand(2, 3)):
        with pytest.raises(ValueError, match="labels"):
            model(clips, labels=labels)
    with pytest.raises(ValueError, match=re.escape("labels must lie in [0, 5)")):
        model(clips, labels=torch.tensor([[0, 3], [1, 1]]))


@torch.no_grad()
def test_words_beyond_the_table_are_refused():
    fields = {"vocab_size": 40, "word_embedding_size": 16, "max_position_embeddings": 12}
    model = CctForSequenceClassification(CctTextConfig(**LAYERS, **fields)).eval()
    words = torch.randint(40, (2, 12))
    assert torch.equal(model(words.int()).logits, model(words).logits)
    for wrong in (40, -1):
        with pytest.raises(ValueError, match=re.escape("input_ids must lie in [0, 40): index out of range")):
            model(words.fill_(wrong))
    with pytest.raises(TypeError, match=re.escape("input_ids must be int64 indices, got torch.float32")):
        model(torch.rand(2, 12))


def test_texts_that_do_not_fit_their_speech_are_refused():
    fields = {**LAYERS, "num_mel_bins": 20, "conv_depthwise_kernel_size": 7, "vocab_size": 11}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 40}
    config = BranchformerSeq2SeqConfig(**fields, **decoder, return_dict=False)
    model = BranchformerForSpeechSeq2Seq(config).eval()
    speech, labels = torch.rand(2, 40, 20), torch.randint(1, 10, (2, 3))
    assert isinstance(model(speech, labels=labels), tuple)
    for wrong, message in {
        labels[:1]: "labels must be (batch, tokens), for a batch of 2 and at least one token",
        labels[:, :0]: "labels must be (batch, tokens), for a batch of 2 and at least one token",
        labels.float(): "labels must be int64 indices, got torch.float32",
    }.items():
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            model(speech, labels=wrong)
    with pytest.raises(ValueError, match=re.escape("decoder_input_ids must lie in [0, 11)")):
        model(speech, decoder_input_ids=torch.full((2, 3), 11))


@pytest.mark.parametrize(
    ("local_views", "message"),
    [
        ("views", "local_pixel_values must be a tensor of floats or a list of them, got str"),
        (torch.ones(2, 3, 3, 24, 24, dtype=torch.long), "local_pixel_values must be a tensor of floats or a list"),
        ([torch.rand(2, 3, 24, 24)], "local_pixel_values must be views of the same images, (2, views, 3, height,"),
        (torch.rand(3, 3, 3, 24, 24), "local_pixel_values must be views of the same images, (2, views, 3, height,"),
    ],
)
def test_local_views_that_do_not_fit_are_refused(local_views, message):
    model = tiny_model("dino", "AutoModelForPreTraining")
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        model(torch.rand(2, 2, 3, 32, 32), local_pixel_values=local_views)


def test_patch_masks_of_another_grid_are_refused():
    model = tiny_model("ibot", "AutoModelForPreTraining")
    views = torch.rand(2, 2, 3, *[SIZES["image_size"]] * 2)
    for shape in ((2, 2, 9), (2, 16), (2, 1, 16)):
        with pytest.raises(ValueError, match=re.escape("bool_masked_pos must be (batch, views, patches)")):
            model(views, bool_masked_pos=torch.zeros(shape, dtype=torch.bool))
