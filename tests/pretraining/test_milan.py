"""What neither golden cases nor conformance show of MILAN: masks, targets, encoders, files of CLIP."""

from functools import partial

import pytest
import torch
from torch import nn
from transformers import AutoModelForPreTraining, CLIPVisionConfig, CLIPVisionModelWithProjection

from hf_vits import MILANConfig, MILANForPreTraining
from hf_vits.conversion import convert, load_checkpoint
from hf_vits.layers.patch import square_grid
from hf_vits.objectives import FeatureRegression
from hf_vits.objectives.masks import semantic_order
from hf_vits.pretraining.milan.target_milan import describe
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.recipe import ModelRecipe
from hf_vits.training import tasks
from hf_vits.training.building import build_model

from ..support.hub import TINY, model_type
from ..support.weights import perturb
from .milan.forms import TINY_DECODER

SIZES = {"image_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = {"model_type": "hf_vits_vit", **SIZES, "patch_size": 8, "intermediate_size": 24}
DEIT = {"model_type": "hf_vits_deit", **SIZES, "patch_size": 4, "intermediate_size": 24}
CLIP = {**SIZES, "patch_size": 4, "intermediate_size": 24, "projection_dim": 12}
PATCHES = 16


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES = images(3, 3, 32, 32)


def milan(target_config: dict | None = DEIT, **fields) -> MILANForPreTraining:
    torch.manual_seed(0)
    fields = {"backbone_config": VIT, **TINY_DECODER} | fields
    return MILANForPreTraining(MILANConfig(target_config=target_config, **fields)).eval()


def test_important_patches_tend_to_stay_visible():
    importance = torch.arange(1.0, 17).expand(2000, -1)
    order = semantic_order(importance, torch.Generator().manual_seed(0))
    assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(2000, -1))
    seen = torch.bincount(order[:, :4].flatten(), minlength=16) / 2000
    assert seen[12:].mean() > 2 * seen[:8].mean() > 0
    weights = torch.rand(5, 16, generator=torch.Generator().manual_seed(2))
    expected = torch.multinomial(weights, 16, generator=torch.Generator().manual_seed(3))
    assert torch.equal(semantic_order(weights, torch.Generator().manual_seed(3)), expected)
    # Weights of zero, to which attention underflows, come last.
    assert semantic_order(torch.tensor([[0.0, 1.0, 0.0]]))[0, 0] == 1


@torch.no_grad()
def test_the_targets_attention_guides_the_masks_and_the_mask_does_not_enter_the_loss():
    model = perturb(milan())
    features, importance = describe(model.target_network, IMAGES, (4, 4))
    torch.manual_seed(1)
    outputs = model(IMAGES)
    torch.manual_seed(1)
    order = semantic_order(importance)
    assert torch.equal(outputs.ids_restore, order.argsort(dim=1))
    assert outputs.mask.sum(dim=1).tolist() == [12] * 3
    loss, _ = FeatureRegression()(outputs.logits, features)
    torch.testing.assert_close(outputs.loss, loss)
    given = model(IMAGES, features, order=order)
    torch.testing.assert_close(given.loss, loss)


@torch.no_grad()
def test_the_prompting_decoder_leaves_visible_patches_as_they_are():
    model, order = perturb(milan()), torch.arange(PATCHES).expand(3, -1)
    outputs = model(IMAGES, order=order)
    model.decoder.layers = nn.ModuleList()
    without = model(IMAGES, order=order)
    assert torch.equal(outputs.logits[:, :5], without.logits[:, :5])
    assert not torch.isclose(outputs.logits[:, 5:], without.logits[:, 5:]).any(dim=-1).all()


@pytest.mark.parametrize("projected", [True, False])
@torch.no_grad()
def test_clip_is_a_target_at_the_encoders_grid(projected):
    model = perturb(milan({"model_type": "clip_vision_model", **CLIP}, project_target=projected))
    seen = []
    clip = getattr(model.target_network, "vision_model", model.target_network)
    clip.embeddings.patch_embedding.register_forward_hook(lambda *call: seen.append(tuple(call[1][0].shape)))
    assert model(IMAGES).logits.shape == (3, 1 + PATCHES, 12 if projected else 16)
    assert seen == [(3, 3, 16, 16)]  # 4 x 4 patches of 4 pixels
    clip.set_attn_implementation("eager")
    attention = clip(images(3, 3, 32, 32), output_attentions=True).attentions[-1].mean(dim=1)[:, 0, 1:]
    torch.testing.assert_close(describe(model.target_network, IMAGES, (8, 8))[1], attention)


# Left out: of one patch at their image sizes, and made of another encoder.
@pytest.mark.parametrize("name", sorted(TINY.keys() - {"cmt", "levit", "patch_topk"}))
def test_milan_trains_any_encoder(name):
    side = 32 if name == "locally_sag" else 64
    model = milan(backbone_config={"model_type": model_type(name), **TINY[name]}, decoder_num_hidden_layers=1).train()
    outputs = model(images(2, 3, side, side))
    outputs.loss.backward()
    assert outputs.mask.any(dim=1).all()
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    assert all(p.grad is None for p in model.target_network.parameters())
    exported, prefix = model.export().eval(), model.config.backbone_config.num_prefix_tokens
    assert exported.config.model_type == model_type(name)
    with torch.no_grad():
        expected = model.eval().encoder(images(2, 3, 32, 32)).last_hidden_state
        assert torch.equal(exported(images(2, 3, 32, 32)).last_hidden_state, expected)
    assert outputs.logits.shape[1] == outputs.mask.shape[1] + min(prefix, 1)


@torch.no_grad()
def test_an_encoder_of_whole_images_does_not_see_masked_patches():
    model, order = milan(backbone_config={"model_type": "hf_vits_swin", **TINY["swin"]}), torch.arange(16)[None]
    pixel_values = images(1, 3, 64, 64)
    changed = pixel_values.clone()
    changed[..., 48:, :] += 1  # the last row of patches
    visible = model(pixel_values, order=order).last_hidden_state
    assert torch.equal(model(changed, order=order).last_hidden_state, visible)
    changed[..., :16, :] += 1
    assert not torch.equal(model(changed, order=order).last_hidden_state, visible)


def test_the_target_network_is_frozen_and_saved(tmp_path):
    model = perturb(milan()).train()
    assert not model.target_network.training
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    trained = {name for name, parameter in loaded.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("target_network") for name in trained)
    with torch.no_grad():
        order = torch.arange(PATCHES).expand(3, -1)
        assert torch.equal(loaded(IMAGES, order=order).loss, model.eval()(IMAGES, order=order).loss)


@pytest.mark.parametrize("clip", [True, False])
def test_a_recipe_names_the_target(tmp_path, clip):
    network = milan().export()
    if clip:
        network = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP)).eval()
    perturb(network).save_pretrained(tmp_path)
    task = tasks.load("pretraining")
    fields = {"system": "milan", "variant": "mae_vit_small_patch16", "config": {"backbone_config": VIT}}
    fields["config"] |= TINY_DECODER
    model, _ = build_model(ModelRecipe(**fields, target=str(tmp_path)), {}, task)
    for name, tensor in network.state_dict().items():
        assert torch.equal(model.target_network.get_parameter(name), tensor)
    assert model.config.target_size == (12 if clip else 16)
    with pytest.raises(ValueError, match=r"model.target: a MAEForPreTraining predicts no features"):
        build_model(ModelRecipe(system="mae", variant="mae_vit_base_patch16", target=str(tmp_path)), {}, task)


class Tower(nn.Module):
    """The keys of CLIP's file: half precision, and a text tower beside."""

    def __init__(self, clip: dict[str, torch.Tensor]):
        super().__init__()
        self.visual = nest(clip)
        self.text_projection = nn.Parameter(torch.zeros(2, 2))
        self.register_buffer("input_resolution", torch.tensor(32))

    def forward(self, images):
        return images + self.text_projection.sum()


def nest(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Modules whose parameters have these dotted names."""
    module, inside = nn.Module(), {}
    for key, tensor in tensors.items():
        first, _, rest = key.partition(".")
        if rest:
            inside.setdefault(first, {})[rest] = tensor
        else:
            module.register_parameter(first, nn.Parameter(tensor))
    for name, part in inside.items():
        module.add_module(name, nest(part))
    return module


def visual(width: int = 64, layers: int = 2) -> dict[str, torch.Tensor]:
    """The image tower of a tiny CLIP under OpenAI's keys, in half precision."""
    shapes = {
        "class_embedding": (width,),
        "positional_embedding": (1 + 16, width),
        "proj": (width, 12),
        "conv1.weight": (width, 3, 8, 8),
        **{f"{norm}.{kind}": (width,) for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")},
    }
    for number in range(layers):
        block = f"transformer.resblocks.{number}."
        linear = {"attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width), "mlp.c_proj": (width, 4 * width)}
        for name, shape in {**linear, "ln_1": (width,), "ln_2": (width,)}.items():
            shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[:1]}
        shapes |= {f"{block}attn.in_proj_weight": (3 * width, width), f"{block}attn.in_proj_bias": (3 * width,)}
    return {key: images(*shape, seed=index).half() / 10 for index, (key, shape) in enumerate(shapes.items())}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@torch.no_grad()
def test_openais_archive_is_read_without_its_code(tmp_path):
    tensors = visual()
    torch.jit.save(torch.jit.trace(Tower(tensors), images(1, 3)), tmp_path / "ViT-B-16.pt")
    state = load_checkpoint(tmp_path / "ViT-B-16.pt")
    assert torch.equal(state["visual.proj"], tensors["proj"])
    model = convert("milan", "clip_vit_base_patch16", state)
    assert type(model) is CLIPVisionModelWithProjection
    assert (model.config.image_size, model.config.patch_size, model.config.num_attention_heads) == (32, 8, 1)
    torch.testing.assert_close(model.visual_projection.weight, tensors["proj"].T.float())
    query = model.vision_model.encoder.layers[1].self_attn.q_proj.weight
    assert torch.equal(query, tensors["transformer.resblocks.1.attn.in_proj_weight"][:64].float())
    assert model(IMAGES).image_embeds.isfinite().all()


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_damaged_archive_says_so(tmp_path):
    torch.jit.save(torch.jit.trace(Tower({"proj": torch.zeros(2, 2)}), images(1, 3)), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.pt"):
        load_checkpoint(tmp_path / "cut.pt")


@torch.no_grad()
def test_the_picture_shows_attention_and_masks_and_repeats():
    model = perturb(milan())
    attention, seen = model.picture(IMAGES)
    assert attention.is_map
    assert attention.images.shape == (3, 4, 4)
    assert seen.title == "25% seen"
    assert seen.hidden.sum().item() == 3 * 12
    assert torch.equal(model.picture(IMAGES)[1].hidden, seen.hidden)
    assert len(milan(None).picture(IMAGES)) == 1


LEVIT = {"model_type": "hf_vits_levit", **TINY["levit"]}
BAD = [
    (lambda: milan(None)(IMAGES), "target_features must come with every batch"),
    (lambda: milan()(IMAGES, order=torch.zeros(3, 9)), r"order must be \(batch, patches\) = \(3, 16\), got \(3, 9\)"),
    (lambda: milan()(IMAGES, importance=torch.ones(2, 16)), "importance must be"),
    (lambda: milan(None, masking="random")(IMAGES, images(3, 9, 512)), "target_features must be"),
    (lambda: milan(LEVIT), "no class token whose attention could guide the masks"),
    (partial(square_grid, 0, (1, 3000)), "1x3000 pixels has no grid of 0 square patches"),
    (partial(square_grid, 5, (32, 32)), "32x32 pixels has no grid of 5 square patches"),
    (lambda: milan({"model_type": "vit"}), "convert a ViT of transformers"),
    (lambda: milan(target="pixels", backbone_config=LEVIT), "a ViT or DeiT"),
    (lambda: milan({**DEIT, "num_channels": 6}), "backbone_config.num_channels=3 and target_config.num_channels=6"),
    (lambda: milan(decoder_hidden_size=18), "multiple of 4"),
    (lambda: milan(mask_ratio=0.99)(IMAGES), "mask_ratio=0.99 leaves none of 16 patches visible"),
    (partial(FeatureRegression(), images(2, 3, 4), images(2, 3, 5)), "both the same"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_wrong_settings_say_so(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("pretrained", [True, False])
@torch.no_grad()
def test_fine_tuning_starts_with_a_new_norm_after_pooling(tmp_path, pretrained):
    """From an encoder of ours and from the original's file."""
    model = perturb(milan(None))
    fields = {"config": {"pooling": "mean", "norm_after_pooling": True}}
    if pretrained:
        model.export().save_pretrained(tmp_path)
        VitsImageProcessor().save_pretrained(tmp_path)
        recipe = ModelRecipe(pretrained=str(tmp_path), **fields)
    else:
        tensors = {
            key.replace("decoder.prediction", "decoder_pred").removeprefix("encoder."): value
            for key, value in model.state_dict().items()
            if not key.startswith("decoder.") or "prediction" in key
        }
        for ours, theirs in TIMM.items():
            tensors = {key.replace(ours, theirs): value for key, value in tensors.items()}
        torch.save({"model": tensors}, tmp_path / "checkpoint.pth")
        recipe = ModelRecipe(system="milan", variant="vit_base_patch16", checkpoint=str(tmp_path / "checkpoint.pth"))
        recipe.config = fields["config"] | {"num_attention_heads": 2}
    classifier, _ = build_model(recipe, {"num_labels": 5}, tasks.load("image-classification"))
    assert classifier.classifier.weight.shape == (5, 16)
    assert torch.equal(classifier.model.pooler.norm.weight, torch.ones(16))
    ours, theirs = classifier.model.layers[1].mlp.up.weight, model.encoder.layers[1].mlp.up.weight
    assert torch.equal(ours, theirs)


TIMM = {
    "embeddings.prefix_tokens": "cls_token",
    "embeddings.position_embedding.table": "pos_embed",
    "embeddings.patch_embedding.projection": "patch_embed.proj",
    "layers.": "blocks.",
    "attention_norm": "norm1",
    "mlp_norm": "norm2",
    "attention.qkv": "attn.qkv",
    "attention.projection": "attn.proj",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}
