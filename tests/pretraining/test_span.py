"""SPAN: its loss, DINO within it, and the priors of images and views."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor
from transformers import AutoModelForPreTraining

from hf_vits import DINOConfig, DINOForPreTraining, SPANConfig, SPANForPreTraining
from hf_vits.analysis.attention import region_overlap
from hf_vits.conversion import convert
from hf_vits.data.images.priors import blurred, highest, load_priors, read_masks, statistic_map
from hf_vits.data.splits import Split
from hf_vits.objectives import PriorAttentionLoss
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.recipe.pretraining import PriorsRecipe, ViewsRecipe
from hf_vits.training.examples.batches import SampleKey
from hf_vits.training.examples.views import Place, PriorsOfViews, Views

from ..support.weights import perturb

BACKBONE = {
    "model_type": "hf_vits_deit",
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
HEAD = {"num_prototypes": 12, "head_hidden_size": 20, "head_bottleneck_size": 8}


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


GLOBAL, LOCAL = images(3, 2, 3, 32, 32), images(3, 4, 3, 16, 16, seed=1)
PRIORS = images(3, 2, 2, 4, 4, seed=2).abs()


def span(**fields) -> SPANForPreTraining:
    torch.manual_seed(0)
    return SPANForPreTraining(SPANConfig(**{"backbone_config": BACKBONE} | HEAD | fields))


# The loss


@pytest.mark.parametrize("kind", ["cross_entropy", "mse"])
def test_attention_that_equals_a_one_hot_prior_costs_nothing(kind):
    prior = torch.eye(16)[[3, 9]].expand(5, 2, 16)
    loss, _ = PriorAttentionLoss(kind)(prior * 0.2, prior)  # attention to patches alone need not sum to 1
    assert loss.item() == pytest.approx(0, abs=1e-6)
    other, _ = PriorAttentionLoss(kind)(prior.roll(1, dims=-1), prior)
    assert other > 1
    half = torch.tensor([[True, False]]).expand(5, 2)
    mixed = torch.stack([prior[:, 0], prior[:, 1].roll(1, dims=-1)], dim=1)
    assert PriorAttentionLoss(kind)(mixed, prior, half)[0].item() == pytest.approx(0, abs=1e-6)
    assert PriorAttentionLoss(kind)(prior, prior, half & False)[0] == 0


def test_a_uniform_head_pays_the_entropy_of_the_patches():
    loss, _ = PriorAttentionLoss()(torch.full((1, 1, 16), 1 / 16), torch.eye(16)[None, :1])
    assert loss.item() == pytest.approx(np.log(16), rel=1e-5)


# The model


def dino_steps(model: DINOForPreTraining, **inputs: Tensor) -> list[Tensor]:
    """Losses, gradients and parameters of two steps."""
    optimizer, seen = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for step in range(2):
        loss = model.train()(GLOBAL + step, LOCAL, **inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update_teacher(0.9)
        parameters = dict(model.named_parameters())
        seen += [loss, *(p.grad for p in parameters.values() if p.grad is not None), *parameters.values()]
        seen = [tensor.detach().clone() for tensor in seen]
    return [*seen, model.objective.center.value]


def test_without_weight_it_is_dino_bit_for_bit():
    torch.manual_seed(0)
    dino = DINOForPreTraining(DINOConfig(backbone_config=BACKBONE, **HEAD))
    expected = dino_steps(dino)
    for given in ({}, {"priors": PRIORS}):
        for ours, theirs in zip(dino_steps(span(prior_weight=0.0), **given), expected, strict=True):
            assert torch.equal(ours, theirs)


def test_the_loss_of_priors_reaches_guided_heads_alone():
    """Of the last layer's projection to queries and keys; its values do not enter the attention."""
    model = perturb(span(head_regions=[None, 1, None, 0])).train()
    model.student_features([GLOBAL.transpose(0, 1).flatten(0, 1)])
    model.compare(model.attention, PRIORS, None).backward()
    gradient = model.student.backbone.layers[-1].attention.qkv.weight.grad.view(3, 4, 8, 32)
    reached = gradient.abs().sum(dim=(2, 3)) > 0
    assert reached.tolist() == [[False, True, False, True]] * 2 + [[False] * 4]
    assert all(p.grad is None for p in model.teacher.parameters())


def test_the_loss_is_the_sum_of_both_and_priors_outside_a_view_do_not_count():
    model, mass = perturb(span(prior_weight=0.5)).eval(), torch.ones(3, 2, 2)
    outputs = model(GLOBAL, LOCAL, PRIORS, mass)
    torch.testing.assert_close(outputs.loss, outputs.view_loss + 0.5 * outputs.prior_loss)
    backbone = model.student.backbone
    backbone.set_attn_implementation("eager")
    attention = backbone(GLOBAL[:, 0], output_attentions=True).attentions[-1][:, :2, 0, 1:]
    mass[:, 1] = 0.04  # less than min_prior_mass
    first, _ = PriorAttentionLoss()(attention, PRIORS[:, 0].flatten(2))
    torch.testing.assert_close(model(GLOBAL, LOCAL, PRIORS, mass).prior_loss, first)


def test_training_moves_heads_to_their_priors():
    model = span(prior_weight=1.0).train()
    priors = torch.zeros(3, 2, 2, 4, 4)
    priors[:, :, 0, :, :2], priors[:, :, 1, :2] = 1, 1
    optimizer, losses = torch.optim.AdamW(model.student.parameters(), lr=5e-3), []
    for _ in range(40):
        outputs = model(GLOBAL, priors=priors)
        optimizer.zero_grad()
        outputs.loss.backward()
        optimizer.step()
        losses.append(outputs.prior_loss.item())
    assert losses[-1] < losses[0] - 0.3
    model.update_teacher(0.0)
    model.set_priors(priors[0, 0])
    first, second = (model.eval().picture(GLOBAL[:, 0])[index].images.flatten(1) for index in (1, 3))
    overlaps = [region_overlap(first, mask.flatten()[None] > 0, 0.95).mean() for mask in priors[0, 0]]
    assert overlaps[0] > 0.8 > overlaps[1]
    assert region_overlap(second, priors[0, 0, 1].flatten()[None] > 0, 0.95).mean() > 0.8


def test_priors_are_saved_with_the_model_and_drawn_beside_their_heads(tmp_path):
    model = perturb(span(head_regions=[1, None, 0]))
    model.set_priors(images(2, 50, 40).abs())
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path).eval()
    columns = loaded.picture(GLOBAL[:, 0])
    titles = ["prior 2", "head 1", "prior 1", "head 3", "head 2, free", "head 4, free"]
    assert [column.title for column in columns] == titles
    assert torch.equal(columns[0].images[2], model.priors.maps[1])
    assert not any(p.requires_grad for p in loaded.teacher.parameters())


def test_training_goes_on_from_dinos_checkpoint():
    model = convert("span", "vit_small_patch16_full", dino_state(), backbone_config={"num_attention_heads": 4})
    assert type(model) is SPANForPreTraining
    assert model.priors.maps.shape == (2, 4, 4)
    assert model(GLOBAL, priors=PRIORS).loss.isfinite()


def dino_state() -> dict[str, Tensor]:
    """A tiny training checkpoint of DINO under its keys."""
    shapes = {
        "cls_token": (1, 1, 32),
        "pos_embed": (1, 17, 32),
        "patch_embed.proj.weight": (32, 3, 8, 8),
        "patch_embed.proj.bias": (32,),
        "norm.weight": (32,),
        "norm.bias": (32,),
    }
    for name, shape in {"norm1": (32,), "attn.qkv": (96, 32), "attn.proj": (32, 32), "norm2": (32,)}.items():
        shapes |= {f"blocks.0.{name}.weight": shape, f"blocks.0.{name}.bias": shape[:1]}
    for name, shape in {"fc1": (48, 32), "fc2": (32, 48)}.items():
        shapes |= {f"blocks.0.mlp.{name}.weight": shape, f"blocks.0.mlp.{name}.bias": shape[:1]}
    shapes = {f"backbone.{name}": shape for name, shape in shapes.items()}
    for index, shape in {0: (20, 32), 2: (20, 20), 4: (8, 20)}.items():
        shapes |= {f"head.mlp.{index}.weight": shape, f"head.mlp.{index}.bias": shape[:1]}
    shapes |= {"head.last_layer.weight_g": (12, 1), "head.last_layer.weight_v": (12, 8)}
    branch = {name: images(*shape, seed=index) / 5 for index, (name, shape) in enumerate(shapes.items())}
    return {
        "student": {f"module.{name}": value for name, value in branch.items()},
        "teacher": branch,
        "dino_loss": {"center": torch.zeros(1, 12)},
    }


# Priors


def test_a_blurred_region_keeps_its_mass_and_place():
    region = torch.zeros(1, 40, 60, dtype=torch.bool)
    region[:, 10:20, 30:50] = True
    prior = blurred(region, 0.04)
    assert prior.sum().item() == pytest.approx(200, rel=1e-3)
    assert prior[0, 15, 40] > 0.99
    assert 0 < prior[0, 8, 40] < 0.5 < prior[0, 11, 40] < 1
    assert torch.equal(blurred(region, 0.0), region.float())


def test_statistics_find_what_is_bright_or_varies():
    pixels = np.zeros((6, 8, 8), dtype=np.uint8)
    pixels[:, :4, :4] = 200  # bright in all images
    pixels[::2, 4:, 4:] = 250  # bright in half of them
    files = [Image.fromarray(page) for page in pixels]
    mean, variance = (highest(statistic_map(files, name), [0.25])[0] for name in ("mean", "variance"))
    assert mean[:4, :4].all()
    assert variance[4:, 4:].all()
    assert mean.sum() == variance.sum() == 16
    recipe = PriorsRecipe(statistic="variance", fractions=[0.25], sigma=0.0, images=4)
    assert load_priors(recipe, Split(files[:1] + files[::2] + files[1:2], np.zeros(5)), "L").shape == (1, 8, 8)


def test_masks_of_one_sample_are_files(tmp_path):
    mask = np.zeros((8, 6), dtype=np.uint8)
    mask[2:4, 1:3] = 255
    names = {"heart": mask, "lung": mask.T[:, :6], "nothing": mask * 0}
    paths = {name: str(tmp_path / f"{name}.png") for name in names}
    for name, path in paths.items():
        Image.fromarray(np.ascontiguousarray(names[name])).save(path)
    assert torch.equal(read_masks([paths["heart"]] * 2)[1], torch.from_numpy(mask > 0))
    with pytest.raises(ValueError, match=r"heart.png is \(8, 6\)"):
        read_masks([paths["heart"], paths["lung"]])
    with pytest.raises(ValueError, match="is empty"):
        read_masks([paths["nothing"]])


class Ramp:
    """An image whose red is the column and whose green is the row."""

    def __getitem__(self, index):
        rows, columns = np.mgrid[:48, :64]
        return Image.fromarray(np.stack([columns, rows, rows * 0], axis=-1).astype(np.uint8) * 3)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_priors_are_cropped_and_flipped_as_the_images(flip):
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    recipe = ViewsRecipe(num_local=1, local_size=16, flip=flip, color_jitter=1.0, grey=0.5, blur=[1.0, 0.1, 0.5])
    plain = ViewsRecipe(num_local=0, flip=flip, color_jitter=0.0, grey=0.0, blur=[0.0] * 3, solarize=[0.0] * 3)
    processor = VitsImageProcessor(image_mean=[0.0] * 3, image_std=[1.0] * 3)
    priors = PriorsOfViews(torch.stack([columns, rows]), (32, 32), (4, 4))
    split = Split(Ramp(), np.zeros(1))
    for seed in range(4):
        key = SampleKey(0, seed, None, 0, 0)
        item = Views(split, plain, processor, (32, 32), "RGB", priors=priors)[key]
        seen = torch.nn.functional.adaptive_avg_pool2d(item["pixel_values"][:, :2] * 255 / 3, (4, 4))
        torch.testing.assert_close(item["priors"], seen, atol=0.7, rtol=0)
        assert (item["priors"][:, 0, :, 0] > item["priors"][:, 0, :, -1]).all() == bool(flip)
        # Colours have random numbers of their own, which must not move the priors; nor do priors change the views.
        with_colours = Views(split, recipe, processor, (32, 32), "RGB", priors=priors)[key]
        without_priors = Views(split, recipe, processor, (32, 32), "RGB")[key]
        assert torch.equal(with_colours["pixel_values"], without_priors["pixel_values"])
        assert with_colours["priors"].shape == (2, 2, 4, 4)


def test_the_mass_of_a_prior_in_a_view():
    half = torch.zeros(1, 48, 64)
    half[..., :32] = 1
    views = PriorsOfViews(half, (32, 32), (4, 4))
    places = [Place((0, 0, 48, 64), False), Place((0, 0, 48, 64), True), Place((0, 32, 24, 32), False)]
    sample = views((48, 64), [*places, Place((0, 16, 24, 32), False)])
    assert sample["prior_mass"].tolist() == [[1.0], [1.0], [0.0], [0.25]]
    torch.testing.assert_close(sample["priors"][0, 0, 0], torch.tensor([1.0, 1, 0, 0]), atol=0.1, rtol=0)
    assert torch.equal(sample["priors"][1], sample["priors"][0].flip(-1))
    other = views((24, 32), [Place((0, 0, 24, 32), False)])  # an image of half the size
    torch.testing.assert_close(other["priors"], sample["priors"][:1], atol=0.1, rtol=0)


def test_overlap_of_attention_and_region():
    attention = torch.tensor([[0.5, 0.3, 0.1, 0.1]])
    mask = torch.tensor([[True, False, False, True]])
    assert region_overlap(attention, mask, 0.6).item() == pytest.approx(1 / 3)
    assert region_overlap(attention, torch.tensor([[True, True, False, False]]), 0.6) == 1


BAD = [
    (lambda: span()(GLOBAL), "priors must come with every batch"),
    (lambda: span()(GLOBAL, priors=PRIORS[:, :, :1]), r"priors must be \(batch, views, 2, rows, columns\)"),
    (lambda: span()(GLOBAL, priors=PRIORS[0]), "priors must be"),
    (lambda: span().set_priors(torch.zeros(3, 4, 4)), "num_regions=2"),
    (lambda: span(head_regions=[2]), "must name a region from 0 to 1"),
    (lambda: span(head_regions=[None]), "at least one head"),
    (lambda: span(num_regions=5), "guides head 4"),
    (lambda: span(prior_weight=-1.0), "must not be negative"),
    (lambda: span(backbone_config=BACKBONE | {"use_class_token": False, "pooling": "mean"}), "no class token"),
    (PriorsRecipe, "give either `masks`"),
    (lambda: PriorsRecipe(statistic="mean", fractions=[1.5]), "between 0 and 1"),
    (lambda: PriorAttentionLoss("l1"), "'cross_entropy' or 'mse'"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_wrong_settings_say_so(make, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        make()
