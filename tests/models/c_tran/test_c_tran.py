"""C-Tran: known labels in model, pipeline and training, its backbones, and what it refuses."""

import pytest
import torch
from transformers import ResNetConfig, ResNetModel, pipeline

from hf_vits import CTranConfig, CTranForImageClassification, CTranModel, KnownLabelsPipeline, VitsImageProcessor
from hf_vits.analysis.label_attention import label_attention
from hf_vits.data.known_labels import known_states
from hf_vits.figures.labels import draw_label_attention
from hf_vits.models.c_tran import resnet_c_tran
from tests.models.c_tran.forms import FORMS, TINY

INCEPTION = {"backbone": "inception_v3", "feature_projection": True}
SEQUENCES = {"model_type": "hf_vits_vit", "reshape_hidden_states": False}
NAMES = {0: "red", 1: "green", 2: "blue"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CTranForImageClassification(CTranConfig(id2label=NAMES, **TINY)).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_known_label_changes_the_others(model, images):
    known = torch.tensor([[1, -1, -1], [-1, -1, -1]])
    given, plain = model(images, known_labels=known).logits, model(images).logits
    assert (given[0] - plain[0]).abs().min() > 1e-5
    torch.testing.assert_close(given[1], plain[1])


def test_only_unknown_labels_count_in_the_loss(model, images):
    labels = torch.tensor([[1.0, 0.0, float("nan")], [0.0, 1.0, 1.0]])
    known = torch.tensor([[1, -1, -1], [-1, 1, -1]])
    outputs = model(images, labels, known)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels, reduction="none")
    torch.testing.assert_close(outputs.loss, losses[0, 1] + losses[1, 0] + losses[1, 2])


def test_training_makes_random_labels_known(images):
    model = CTranForImageClassification(CTranConfig(num_labels=8, known_label_fraction=0.5, **TINY)).train()
    seen = []
    model.model.embeddings.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[1]))
    labels = torch.rand(2, 8).round()
    for _ in range(20):
        model(images, labels)
    known = torch.cat(seen)
    counts = (known >= 0).sum(1)
    assert counts.min() == 0
    assert counts.max() == 4
    assert torch.equal(known, torch.where(known >= 0, labels.repeat(20, 1), -1))


def test_the_state_unknown_is_random_and_gets_no_gradient(model, images):
    table = model.model.embeddings.state_embedding
    assert table.weight[0].abs().sum() > 0
    model(images, torch.ones(2, 3), torch.tensor([[-1, 0, 1], [-1, -1, -1]])).loss.backward()
    gradient = table.weight.grad.abs().sum(1)
    assert gradient[0] == 0
    assert gradient[1:].min() > 0


def test_only_the_label_tokens_leave_the_last_layer_unless_all_are_read(model, images):
    last, queries = model.model.layers[-1], []
    handle = last.register_forward_pre_hook(
        lambda layer, arguments, options: queries.append(options["num_queries"]), with_kwargs=True
    )
    alone, whole = model(images).logits, model(images, output_hidden_states=True).logits
    handle.remove()
    assert queries == [3, None]
    torch.testing.assert_close(alone, whole)


@pytest.mark.parametrize("recompute_all", [False, True])
def test_recomputation_changes_neither_gradients_nor_statistics(monkeypatch, recompute_all):
    blocks, gradients = [], []
    for saving in (True, False):
        torch.manual_seed(0)
        block = resnet_c_tran.Bottleneck(8, 2, 1, recompute_all)
        inputs = torch.randn(2, 8, 4, 4, requires_grad=True)
        if not saving:
            monkeypatch.setattr(resnet_c_tran, "saving_memory", lambda function, inputs, norms: function(inputs))
        block(inputs * 1).square().sum().backward()
        blocks.append(block)
        gradients.append(inputs.grad)
    assert torch.equal(*gradients)
    for ours, plain in zip(blocks[0].parameters(), blocks[1].parameters(), strict=True):
        assert torch.equal(ours.grad, plain.grad)
    for ours, plain in zip(blocks[0].buffers(), blocks[1].buffers(), strict=True):
        assert torch.equal(ours, plain)


def test_the_pipeline_takes_known_labels(model, images):
    processor = VitsImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    classify = pipeline(
        "image-classification", model=model, image_processor=processor, pipeline_class=KnownLabelsPipeline
    )
    image = (images[0].permute(1, 2, 0) * 255).byte().numpy()
    found = {row["label"]: row["score"] for row in classify(image, known_labels={"red": True, "blue": False})}
    pixel_values = processor(image, return_tensors="pt")["pixel_values"]
    expected = model(pixel_values, known_labels=torch.tensor([[1, -1, 0]])).logits.sigmoid()[0]
    assert found == pytest.approx(dict(zip(NAMES.values(), expected.tolist(), strict=True)), abs=1e-5)
    with pytest.raises(ValueError, match="'purple' is no label of the model"):
        classify(image, known_labels={"purple": True})


def test_a_resnet_of_transformers_is_the_backbone(images):
    config = ResNetConfig(embedding_size=2, hidden_sizes=[8, 16], depths=[1, 1])
    resnet = ResNetModel(config).eval()
    model = CTranModel(CTranConfig(**TINY)).eval()
    model.initialize_from(resnet)
    torch.testing.assert_close(model.embeddings.backbone(images)[0], resnet(images).last_hidden_state)


@torch.no_grad()
def test_recording_does_not_change_what_a_backbone_returns():
    """See findings/backbone_in_recording_model.sh."""
    (form,) = (form for form in FORMS if form.name == "CTranBackbone")
    torch.manual_seed(0)
    model = CTranForImageClassification(CTranConfig(**form.config, num_labels=3)).eval()
    images = torch.randn(2, 3, 32, 32)
    right = model(images).logits
    torch.testing.assert_close(model(images, output_hidden_states=True, output_attentions=True).logits, right)
    torch.testing.assert_close(model(images).logits, right)


def test_label_attention_is_drawn(model, images, tmp_path):
    attention = label_attention(model, images)
    assert attention.shape == (2, 3, 3)
    assert (attention.sum(-1) < 1).all()
    draw_label_attention(model, images, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (torch.zeros(2, 4), "known_labels must be"),
        (torch.full((2, 3), 2), "known_labels must be -1"),
    ],
)
def test_odd_known_labels_are_refused(model, images, known, message):
    with pytest.raises(ValueError, match=message):
        model(images, known_labels=known)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 32}, "feature_projection"),
        ({"num_labels": 0}, "token for each label"),
        ({"backbone": "auto"}, "backbone_config goes with"),
        ({"problem_type": "regression"}, "multi_label_classification"),
        ({"auxiliary_head": True}, "inception_v3"),
        ({"known_label_fraction": 1.5}, "known_label_fraction"),
        (INCEPTION | {"image_size": 64}, "image_size of Inception v3 must be at least 75"),
        (INCEPTION | {"auxiliary_head": True, "image_size": 75}, "at least 299 with auxiliary_head"),
        ({"backbone": "auto", "backbone_config": SEQUENCES}, "feature maps"),
    ],
)
def test_odd_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        CTranConfig(**TINY | fields)


def test_labels_are_known_by_name(model):
    assert known_states(model, {"green": False, "red": True}).tolist() == [1, 0, -1]
