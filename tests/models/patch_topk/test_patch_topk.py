"""Differentiable patch selection: operators, extraction, options, losses, conversion, training state."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import ResNetConfig, ViTConfig, ViTForImageClassification

from hf_vits import conversion
from hf_vits.conversion.checkpoint import unwrap
from hf_vits.data.synthetic.digit_scenes import LABELS, DigitScenes
from hf_vits.figures.selection import outline
from hf_vits.layers.patch_extraction import append_positions, cells_of, centred, hard_patches, soft_patches
from hf_vits.layers.topk import fixed_noise, indicators_of, perturbed_topk, sinkhorn_topk, topk_indices
from hf_vits.models.patch_topk.configuration_nts_net import NtsNetConfig
from hf_vits.models.patch_topk.configuration_patch_cnn import PatchCnnConfig
from hf_vits.models.patch_topk.configuration_patch_selection import PatchSelectionConfig
from hf_vits.models.patch_topk.modeling_nts_net import NtsNetForImageClassification
from hf_vits.models.patch_topk.modeling_patch_cnn import BiasedBatchNorm, PatchCnnForImageClassification
from hf_vits.models.patch_topk.modeling_patch_selection import PatchSelectionForImageClassification
from hf_vits.training.loop.trainer import with_labels
from tests.parity.golden import Case
from tests.support.paths import PARITY_CASES

from .forms import CNN, FEATURES, PARTS, SELECTION, TRANSFORMER

LABELS_OF_TWO = torch.tensor([0, 1])


def model(**fields) -> PatchSelectionForImageClassification:
    torch.manual_seed(0)
    return PatchSelectionForImageClassification(PatchSelectionConfig(**{**SELECTION, "num_labels": 3, **fields}))


def images(batch: int = 2, side: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.rand(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def one_hot_topk(scores, k, sigma, noise):
    """The definition: mean of one-hot rows, and both Jacobians (batch, k, cells, cells) of its expectation."""
    rows = indicators_of((scores[:, None] + sigma * noise).topk(k).indices.sort().values, scores.shape[1])
    return rows.mean(1), torch.einsum("bskd,bse->bkde", rows, noise) / noise.shape[1] / sigma


@pytest.mark.parametrize("jacobian", ["diagonal", "full"])
def test_perturbed_topk_is_the_mean_of_one_hot_rows(jacobian):
    torch.manual_seed(0)
    scores, noise, gradient = torch.rand(2, 9), torch.randn(2, 100, 9), torch.randn(2, 3, 9)
    scores.requires_grad_()
    indicators = perturbed_topk(scores, 3, 0.1, 100, noise, jacobian)
    expected, derivatives = one_hot_topk(scores.detach(), 3, 0.1, noise)
    torch.testing.assert_close(indicators, expected)
    indicators.backward(gradient)
    if jacobian == "diagonal":
        derivatives = torch.diag_embed(derivatives.diagonal(dim1=2, dim2=3))
    torch.testing.assert_close(scores.grad, torch.einsum("bkd,bkde->be", gradient, derivatives), atol=1e-4, rtol=1e-4)


def test_without_noise_perturbed_topk_is_hard():
    scores = torch.rand(2, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    indicators = perturbed_topk(scores, 3, torch.tensor(0.0), 70)
    torch.testing.assert_close(indicators, indicators_of(topk_indices(scores, 3, "position"), 9))
    (indicators * torch.arange(9)).sum().backward()
    assert not scores.grad.any()


def test_fixed_noise_is_standard_normal():
    noise = fixed_noise(400, 500)
    assert noise.shape == (1, 400, 500)
    assert torch.equal(noise, fixed_noise(400, 500))
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert torch.corrcoef(noise[0, :6]).sub(torch.eye(6)).abs().max() < 0.2
    assert (noise.abs() < 1.96).float().mean() == pytest.approx(0.95, abs=0.005)


def test_sinkhorn_topk_has_the_derivatives_of_its_fixed_point():
    scores = torch.rand(1, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: sinkhorn_topk(values, 2, 0.1, 300), scores, atol=1e-5)


@pytest.mark.parametrize(("patch", "grid"), [((8, 6), (4, 5)), ((3, 4), (3, 3)), ((11, 10), (2, 1))])
def test_soft_patches_of_one_hot_weights_are_hard_patches(patch, grid):
    values, cell = images(2, 21), cells_of((21, 21), grid)
    indices = torch.tensor([[0, 1], [grid[0] * grid[1] - 1, 0]])
    weights = indicators_of(indices, grid[0] * grid[1]).unflatten(2, grid)
    soft = soft_patches(values, weights, patch, cell, centred(patch, cell))
    padded = F.pad(values, (30, 30, 30, 30))
    for image, row in enumerate(indices.tolist()):
        for place, index in enumerate(row):
            top, left = (i * c - b for i, c, b in zip(divmod(index, grid[1]), cell, centred(patch, cell), strict=True))
            expected = padded[image, :, 30 + top : 30 + top + patch[0], 30 + left : 30 + left + patch[1]]
            torch.testing.assert_close(soft[image, place], expected)
    if min(p - c for p, c in zip(patch, cell, strict=True)) >= 0:
        torch.testing.assert_close(hard_patches(values, indices, patch, grid)[0], soft[0])


def test_positions_go_from_zero_to_one():
    positions = append_positions(images(1, 5))[0, 3:]
    assert positions[:, 0, 0].tolist() == [0, 0]
    assert positions[:, 4, 2].tolist() == [1, 0.5]


def test_running_variance_is_the_biased_one():
    norm, values = BiasedBatchNorm(3, momentum=1.0), images(2, 3)
    torch.testing.assert_close(norm.train()(values), F.batch_norm(values, None, None, training=True))
    torch.testing.assert_close(norm.running_var, values.var(dim=(0, 2, 3), correction=0))


@pytest.mark.parametrize(
    "fields",
    [
        {"selection_method": "sinkhorn_topk", "sinkhorn_epsilon": 0.01, "sinkhorn_iterations": 20},
        {"selection_method": "hard_topk"},
        {"selection_method": "random", "inference_selection_method": None},
        {"hard_topk_probability": 1.0, "patch_dropout": 0.5},
        {"random_patch_probability": 0.5, "jacobian": "full"},
        {"scorer_squeeze_excitation": True, "score_normalization": "softmax|smoothing(0.1)"},
        {"score_normalization": "layernorm|sigmoid", "aggregation_method": "sum_layer_norm"},
        {"append_position": True, "aggregation_method": "max", "feature_config": {**FEATURES, "num_channels": 7}},
        {**TRANSFORMER, "pooling": "cls", "aggregation_size": 8, "inference_selection_method": "perturbed_topk"},
    ],
)
def test_every_option_trains_and_evaluates(fields):
    built = model(**fields).train()
    outputs = built(images(), labels=LABELS_OF_TWO)
    outputs.loss.backward()
    trains = fields.get("selection_method") not in ("hard_topk", "random") and "hard_topk_probability" not in fields
    gradients = {name: p.grad for name, p in built.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values()) or not trains
    assert (outputs.auxiliary_loss is None) == (fields.get("selection_method") in ("hard_topk", "random"))
    assert built.eval()(images()).logits.shape == (2, 3)


def test_the_loss_has_the_entropy_and_evaluation_repeats_its_noise():
    built = model(inference_selection_method=None).eval()
    first, second = (built(images(), labels=LABELS_OF_TWO) for _ in range(2))
    entropy = -0.01 * first.entropy_before_normalization.mean()
    torch.testing.assert_close(first.loss, F.cross_entropy(first.logits, LABELS_OF_TWO) + entropy)
    assert torch.equal(first.logits, second.logits)
    built.model.perturbed.set_progress(1.0)
    assert built.model.perturbed.sigma_multiplier == 0
    hard = model(inference_selection_method="hard_topk").eval()
    torch.testing.assert_close(built(images()).logits, hard(images()).logits)


def test_parts_of_nts_net_are_trained_like_the_image():
    torch.manual_seed(0)
    built = NtsNetForImageClassification(NtsNetConfig(**PARTS, num_labels=3)).eval()
    outputs = built(images(2, 64), labels=LABELS_OF_TWO)
    losses = [F.cross_entropy(*with_labels(logits, LABELS_OF_TWO)) for logits, _ in built.further_logits(outputs)]
    expected = F.cross_entropy(outputs.logits, LABELS_OF_TWO) + sum(losses) + outputs.auxiliary_loss.mean()
    torch.testing.assert_close(outputs.loss, expected)
    parts = built(images(2, 64), labels=LABELS_OF_TWO, num_items_in_batch=4).loss
    torch.testing.assert_close(parts, expected / 2)


@pytest.mark.parametrize("size", [(1, 300), (9, 70)])
def test_nts_net_takes_images_smaller_than_a_cell(size):
    """Below the image is padding, as where the image is padded first; features of the whole image differ."""
    built = NtsNetForImageClassification(NtsNetConfig(**PARTS, num_labels=3)).eval()
    small = torch.rand(2, 3, *size)
    assert built(small).logits.isfinite().all()
    weights = torch.zeros(2, 1, 1, 3)
    weights[..., 1] = 1.0
    padded = F.pad(small, (0, 96 - min(size[1], 96), 0, 32 - size[0]))[..., :96]
    expected = padded[:, None, :, 10:22, 39:57]
    patches = soft_patches(small[..., :96], weights, (12, 18), (32, 32), (-10, -7))
    torch.testing.assert_close(patches, expected)


@pytest.mark.parametrize("communication", ["none", "squeeze_excite_x", "transformer"])
def test_nts_net_communicates_between_maps(communication):
    torch.manual_seed(0)
    built = NtsNetForImageClassification(NtsNetConfig(**PARTS, communication=communication, num_labels=3)).train()
    built(images(2, 64), labels=LABELS_OF_TWO).loss.backward()
    assert all(p.grad is not None for p in built.parameters())


@pytest.mark.parametrize(
    "network",
    [
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        {"model_type": "hf_vits_deit", "image_size": 8, "patch_size": 4, "hidden_size": 16, "num_attention_heads": 2},
    ],
)
def test_any_encoder_reads_the_patches(network):
    built = model(feature_config=network).train()
    built(images(), labels=LABELS_OF_TWO).loss.backward()
    assert built.model.scorer[0].weight.grad.any()
    assert built.model.feature_network.config.model_type == getattr(network, "model_type", "hf_vits_deit")


def test_a_classifier_gives_its_encoder(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vit = ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, **sizes))
    fields = {name: value for name, value in SELECTION.items() if name != "feature_config"}
    built = PatchSelectionForImageClassification.from_feature_network(vit, num_labels=3, **fields).eval()
    assert built.model.feature_network is vit.base_model
    built.save_pretrained(tmp_path)
    loaded = PatchSelectionForImageClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(images()).logits, built(images()).logits)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"score_normalization": "softmax(2)"}, "score_normalization must be of"),
        ({"score_normalization": "__import__('os')"}, "score_normalization must be of"),
        ({"image_size": 16}, "num_patches=3"),
        ({"selection_method": "random"}, "has no scorer"),
        ({"sigma": -1}, "sigma must not be negative"),
        ({"append_position": True}, "num_channels"),
        ({"feature_config": {"hidden_size": 3}}, "must name its model_type"),
        ({"feature_config": {"model_type": "vit", "image_size": 16}}, "image_size=8"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PatchSelectionConfig(**{**SELECTION, **fields})


NARROW = {"hidden_sizes": [8, 8, 8], "strides": [2, 4, 4]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anchor_aspect_ratios": []}, "need one value or more"),
        ({"proposal_size": 3, "communication": "squeeze_excite_d"}, "proposal_size must be at least 4"),
        ({"feature_config": NARROW, "communication": "squeeze_excite_x"}, "16 channels"),
    ],
)
def test_fields_that_do_not_fit_nts_net_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NtsNetConfig(**{**PARTS, **fields})


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="num_patches=3"):
        model()(images(side=16))
    with pytest.raises(ValueError, match="noise must have shape"):
        model().train()(images(), selection_noise=torch.randn(2, 3, 9))
    with pytest.raises(ValueError, match="positions of 9 cells"):
        model(**TRANSFORMER)(images(side=40))
    with pytest.raises(ValueError, match=r"takes images of \(20, 20\) pixels alone"):
        PatchCnnForImageClassification(PatchCnnConfig(image_size=20, network="flat", hidden_sizes=[4]))(images())


@pytest.mark.parametrize(
    ("variant", "fields"),
    [
        ("trafficsigns_cnn", {"image_size": 20, **CNN}),
        ("trafficsigns_cnn", {"image_size": 20, "network": "flat", "hidden_sizes": [4], "projection_size": 8}),
        ("trafficsigns_cnn", {"image_size": 20, "network": "resnet", "hidden_sizes": [4, 8], "depths": [1, 2]}),
    ],
)
def test_states_of_clu_are_read(variant, fields):
    """A model's weights in the original's names and layouts, nested as clu saves them."""
    torch.manual_seed(0)
    built = PatchCnnForImageClassification(PatchCnnConfig(num_labels=5, **fields)).eval()
    state = {
        "model_params": {},
        "model_state": {},
        "step": np.int64(7),
        "optimizer_state": {"0": {"count": np.ones(1)}},
    }
    network = {"ats": "ATSFeatureNetwork_0", "resnet": "ResNet_0", "flat": "SimpleCNNImageClassifier_0"}[
        built.config.network
    ]
    for key, tensor in originals(built).items():
        path, leaf = key.rsplit("/", 1)
        if leaf in ("mean", "var"):
            state["model_state"].setdefault(f"/{network}/{path}", {})[leaf] = tensor
        else:
            parent = state["model_params"] if path == "final" else state["model_params"].setdefault(network, {})
            for part in path.split("/"):
                parent = parent.setdefault(part, {})
            parent[leaf] = tensor
    overrides = {"strides": fields["strides"]} if "strides" in fields else {}  # which no tensor records
    converted = conversion.convert("patch_topk", variant, state, image_size=20, **overrides)
    torch.testing.assert_close(converted(images(side=20)).logits, built(images(side=20)).logits)
    assert converted.config.network == built.config.network
    assert "model_params/final/kernel" in unwrap(state)


def originals(built: PatchCnnForImageClassification) -> dict[str, np.ndarray]:
    """Return the weights of a small model under the original's names, those of its network without its name."""
    names = {"stem.conv": "Conv_0", "final.norm": "BatchNorm_2", "projection": "fc"}
    if built.config.network == "flat":
        names["stem.conv"] = "conv"
    if built.config.network == "resnet":
        names |= {"stem.conv": "init_conv", "stem.norm": "init_bn"}
        for index in range(3):
            block = f"BasicBlock_{index}"
            names |= {
                f"blocks.{index}.branch.{kind}{n}": f"{block}/{short}{n}"
                for n in (1, 2)
                for kind, short in (("conv", "conv"), ("norm", "bn"))
            }
            names |= {f"blocks.{index}.shortcut.conv": f"{block}/proj_conv"}
            names |= {f"blocks.{index}.shortcut.norm": f"{block}/proj_bn"}
    block = "BasicBlockv2_1"
    if built.config.network == "ats":
        names |= {"blocks.0.activation.norm": f"{block}/BatchNorm_0", "blocks.0.shortcut.conv": f"{block}/Conv_1"}
        names |= {"blocks.0.branch.conv1": f"{block}/Conv_2", "blocks.0.branch.norm1": f"{block}/BatchNorm_3"}
        names |= {"blocks.0.branch.conv2": f"{block}/Conv_4"}
    leaves = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
    tensors = {}
    for key, value in built.state_dict().items():
        module, leaf = key.removeprefix("model.").rsplit(".", 1)
        if leaf == "num_batches_tracked":
            continue
        name = "final" if module == "classifier" else names[module]
        if leaf == "weight":
            value = value.movedim((0, 1), (-1, -2)) if value.ndim == 4 else value.T if value.ndim == 2 else value
            leaf = "kernel" if value.ndim > 1 else "scale"
        tensors[f"{name}/{leaves.get(leaf, leaf)}"] = value.numpy()
    return tensors


def test_a_checkpoint_of_other_sizes_is_read():
    case = Case.load(PARITY_CASES / "patch_topk" / "trafficsigns_perturbed_eval.json")
    converted = conversion.convert("patch_topk", None, case.checkpoint(), image_size=[320, 480])
    assert converted.config.feature_config.hidden_sizes == [32, 32, 32, 32]
    with pytest.raises(ValueError, match="missing"):
        conversion.convert("patch_topk", "billiard_topk", case.checkpoint())


def test_scenes_are_the_same_each_time_and_boxes_are_where_patches_are():
    scenes = DigitScenes(3)
    assert scenes[1].size == (1024, 1024)
    assert scenes[1].tobytes() == DigitScenes(3)[1].tobytes() != DigitScenes(3, is_test=True)[1].tobytes()
    assert set(scenes.labels("parity")) <= {0, 1}
    assert max(scenes.labels("largest")) < len(LABELS["largest"])
    with pytest.raises(IndexError, match="scene 3 of 3"):
        scenes[3]
    built = model().eval()
    outputs = built(images())
    left, top, right, bottom = built.patch_boxes(outputs.indices, 32, 32)[0, 0].tolist()
    padded = F.pad(images(), (9, 9, 9, 9))[0, :, top + 9 : bottom + 9, left + 9 : right + 9]
    torch.testing.assert_close(outputs.patches[0, 0], padded)
    framed = np.asarray(outline(np.zeros((20, 20), np.float32), np.array([[-2, 3, 8, 30]])))
    assert framed[10, 0].any()
    assert framed[19, 4].any()
    assert not framed[10, 4].any()
