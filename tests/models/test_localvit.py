"""LocalViT's feed-forward on every host, and the hosts without it beside timm's and transformers' own."""

import pytest
import timm
import torch
from torch import nn
from transformers import PvtConfig as TransformersPvtConfig
from transformers import PvtForImageClassification as TransformersPvtForImageClassification
from transformers import SwinConfig as TransformersSwinConfig
from transformers import SwinForImageClassification as TransformersSwinForImageClassification

import hf_vits
from hf_vits import DeiTConfig, PvtConfig, SwinConfig, SwinForImageClassification, T2TConfig, TntConfig
from hf_vits.conversion import convert, to_transformers
from hf_vits.layers.convolution import ConvNorm
from hf_vits.layers.locality import LocalityFeedForward
from hf_vits.layers.position import sine_cosine_positions

from ..support.hub import tiny_model

HOSTS = ("deit", "pvt", "swin", "tnt", "t2t")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def local_model(host: str, **fields):
    """A small model of a host with the local feed-forward, its batch norms having seen something."""
    plain = {"distilled": False} if host == "deit" else {}
    model = tiny_model(host, feed_forward="locality", **plain | fields)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


@pytest.mark.parametrize("host", HOSTS)
@torch.no_grad()
def test_the_same_block_serves_every_host(host):
    model = local_model(host)
    blocks = [module for module in model.modules() if isinstance(module, LocalityFeedForward)]
    depth = sum(model.config.depths) if hasattr(model.config, "depths") else model.config.num_hidden_layers
    assert len(blocks) == depth + 2 * (host == "t2t")
    assert {type(module) for block in blocks for module in block.children()} >= {ConvNorm}
    assert model(IMAGES).logits.isfinite().all()


def test_squeezing_layers_start_as_linear_layers_do():
    config = DeiTConfig(
        feed_forward="locality", distilled=False, num_hidden_layers=1, channel_attention="squeeze_excitation"
    )
    squeezing = hf_vits.DeiTModel(config).layers[0].feed_forward.channel_attention
    for layer in (squeezing.fc1, squeezing.fc2):
        assert abs(layer.weight.std().item() - 0.02) < 0.001
        assert not layer.bias.any()


@pytest.mark.parametrize("host", HOSTS)
@torch.no_grad()
def test_fuse_folds_every_batch_norm(host):
    model = local_model(host)
    before = model(IMAGES).logits
    hf_vits.fuse(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(IMAGES).logits, before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("host", HOSTS)
@torch.no_grad()
def test_wide_images_run(host):
    wide = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    assert local_model(host)(wide).logits.shape == (1, 3)


@pytest.mark.parametrize("host", HOSTS)
def test_training_reaches_every_batch_norm(host):
    model = local_model(host).train()
    model(IMAGES, labels=torch.tensor([0, 1])).loss.backward()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked == 1 for norm in norms)
    assert all(norm.weight.grad is not None for norm in norms)


@pytest.mark.parametrize("kind", ["squeeze_excitation", "efficient", "efficient_hard", "none"])
@pytest.mark.parametrize("depthwise_convolution", [True, False])
@torch.no_grad()
def test_prefix_tokens_pass_and_neighbours_matter_only_to_the_depthwise_convolution(kind, depthwise_convolution):
    config = DeiTConfig(channel_attention=kind, depthwise_convolution=depthwise_convolution)
    block = LocalityFeedForward(config, hidden_size=8, intermediate_size=16, squeeze_size=4).eval()
    tokens = torch.randn(1, 2 + 25, 8, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, -1] += 1
    before, after = block(tokens, (5, 5)), block(changed, (5, 5))
    assert torch.equal(before[:, :2], tokens[:, :2])
    assert not torch.allclose(before[:, -1], after[:, -1])
    if kind == "none":
        unequal = (before != after).any(dim=2)[0].nonzero().flatten().tolist()
        corner = [2 + 5 * row + column for row in (3, 4) for column in (3, 4)]
        assert unequal == (corner if depthwise_convolution else corner[-1:])


@torch.no_grad()
def test_the_last_layer_spares_its_convolutions_when_nobody_reads_the_patches():
    model = local_model("deit")
    expected = model(IMAGES, output_hidden_states=True).logits
    torch.testing.assert_close(model(IMAGES).logits, expected)
    ran = []
    model.model.layers[-1].feed_forward.projection[0].register_forward_pre_hook(lambda *_: ran.append(True))
    model(IMAGES)
    assert ran  # a hook asks for all of it


@torch.no_grad()
def test_checkpoint_without_depthwise_convolution():
    """models/localvit.py, `wo_dp_conv`: the places behind the left-out convolution move up."""
    width = {0: (48, 16, 1, 1), 4: (16, 48, 1, 1)}
    checkpoint = {
        "cls_token": torch.zeros(1, 1, 16),
        "pos_embed": torch.zeros(1, 5, 16),
        "patch_embed.proj.weight": torch.randn(16, 3, 16, 16),
        "patch_embed.proj.bias": torch.zeros(16),
        "blocks.0.attn.qkv.weight": torch.randn(48, 16),
        "blocks.0.attn.qkv.bias": torch.zeros(48),
        "blocks.0.attn.proj.weight": torch.randn(16, 16),
        "blocks.0.attn.proj.bias": torch.zeros(16),
        "blocks.0.conv.conv.3.conv.weight": torch.randn(1, 1, 3),
        "head.weight": torch.randn(3, 16),
        "head.bias": torch.zeros(3),
    }
    checkpoint |= {f"blocks.0.conv.conv.{place}.weight": torch.randn(shape) for place, shape in width.items()}
    for norm, channels in {"blocks.0.conv.conv.1": 48, "blocks.0.conv.conv.5": 16}.items():
        for name, value in nn.BatchNorm2d(channels).state_dict().items():
            checkpoint[f"{norm}.{name}"] = value
    for norm in ("blocks.0.norm1", "norm"):
        checkpoint |= {f"{norm}.weight": torch.ones(16), f"{norm}.bias": torch.zeros(16)}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 48}
    fields = {**sizes, "channel_attention": "efficient", "depthwise_convolution": False}
    model = convert("localvit", "localvit_tiny_mlp4_act3_r192", checkpoint, **fields)
    assert model.config.image_size == 32
    assert torch.equal(
        model.model.layers[0].feed_forward.projection[0].weight, checkpoint["blocks.0.conv.conv.4.weight"]
    )


def test_transformers_has_no_local_deit():
    with pytest.raises(ValueError, match="feed_forward='mlp'"):
        to_transformers(local_model("deit"))


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (DeiTConfig, {"feed_forward": "locality", "num_parallel_branches": 2}, "num_parallel_branches must be 1"),
        (DeiTConfig, {"feed_forward": "locality", "patch_drop_rate": 0.1}, "patch_drop_rate 0"),
        (PvtConfig, {"sequence_reduction_ratios": [8, 4, 2, 2]}, "must be 1"),
        (PvtConfig, {"squeeze_sizes": [4]}, "squeeze_sizes needs one value per stage"),
        (SwinConfig, {"num_attention_heads": [3, 6, 12, 25]}, "multiple of its num_attention_heads"),
        (TntConfig, {"pixel_stride": 3}, "multiple of pixel_stride"),
        (TntConfig, {"pixel_num_attention_heads": 5}, "multiple of pixel_num_attention_heads"),
        (T2TConfig, {"token_size": 63}, "token_size=63"),
    ],
)
def test_fields_that_do_not_fit_are_named(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_class(**fields)


@pytest.mark.parametrize(
    ("host", "height", "message"),
    [("pvt", 16, "at least 32"), ("tnt", 24, "patches of 16x16"), ("t2t", 2, "at least 3")],
)
def test_sizes_that_cannot_run_are_refused(host, height, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(host)(torch.zeros(1, 3, height, 32))


# The hosts without the block


def random_weights(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model.eval()


def renamed(state: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Keys of another library in the original's spelling."""
    for old, new in names.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


@torch.no_grad()
def test_tnt_is_timms_legacy_one():
    theirs = random_weights(timm.create_model("tnt_s_legacy_patch16_224", num_classes=7, depth=2))
    ours = convert("tnt", "tnt_s_patch16_224", theirs.state_dict(), num_hidden_layers=2)
    images = torch.rand(1, 3, 224, 224)
    torch.testing.assert_close(ours(images).logits, theirs(images), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_swin_is_timms():
    theirs = random_weights(timm.create_model("swin_tiny_patch4_window7_224", num_classes=7, depths=(2, 2, 2, 2)))
    # timm's stages begin with the merging that the original's end with.
    names = {f"layers.{stage}.downsample": f"layers.{stage - 1}.downsample" for stage in (1, 2, 3)}
    checkpoint = renamed(theirs.state_dict(), names | {"head.fc.": "head."})
    ours = convert("swin", "swin_tiny_patch4_window7_224", checkpoint, depths=[2, 2, 2, 2])
    images = torch.rand(1, 3, 224, 224)
    torch.testing.assert_close(ours(images).logits, theirs(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (57, 90)])
@torch.no_grad()
def test_swin_is_that_of_transformers_at_any_size(size):
    """Padded images, maps and windows, and maps that are no larger than a window."""
    sizes = {"depths": [2, 2], "num_labels": 7}
    config = TransformersSwinConfig(
        embed_dim=16, num_heads=[2, 4], window_size=3, image_size=32, drop_path_rate=0, **sizes
    )
    theirs = random_weights(TransformersSwinForImageClassification(config))
    ours = SwinForImageClassification(
        SwinConfig(
            image_size=32,
            hidden_sizes=[16, 32],
            num_attention_heads=[2, 4],
            window_size=3,
            squeeze_sizes=[4, 4],
            **sizes,
        )
    ).eval()
    names = {
        "swin.embeddings.patch_embeddings.": "model.embeddings.",
        "swin.embeddings.norm.": "model.embeddings.norm.",
        "swin.encoder.layers.0.downsample.": "model.stages.1.merging.",
        "swin.encoder.layers.": "model.stages.",
        "swin.layernorm.": "model.norm.",
        ".blocks.": ".layers.",
        ".layernorm_before.": ".attention_norm.",
        ".layernorm_after.": ".feed_forward.norm.",
        ".mlp.fc1.": ".feed_forward.mlp.up.",
        ".mlp.fc2.": ".feed_forward.mlp.down.",
        ".relative_position_bias.relative_position_bias_table": ".position_bias.table",
        ".o_proj.": ".projection.",
    }
    state = renamed(theirs.state_dict(), names)
    for key in [key for key in state if ".q_proj." in key]:
        parts = [state.pop(key.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        state[key.replace(".q_proj.", ".qkv.")] = torch.cat(parts)
    ours.load_state_dict(state)
    images = torch.rand(2, 3, *size)
    torch.testing.assert_close(ours(images).logits, theirs(images).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pvt_is_that_of_transformers():
    """All norms of theirs have one epsilon, and the class token none of the bilinear resizing."""
    sizes = {"hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 2, 2, 4], "depths": [1, 1, 2, 1]}
    theirs = random_weights(
        TransformersPvtForImageClassification(TransformersPvtConfig(image_size=64, num_labels=7, **sizes))
    )
    names = {
        "pvt.encoder.patch_embeddings.3.cls_token": "cls_token",
        **{f"pvt.encoder.patch_embeddings.{stage}.position_embeddings": f"pos_embed{stage + 1}" for stage in range(4)},
        **{f"pvt.encoder.patch_embeddings.{stage}.": f"patch_embed{stage + 1}." for stage in range(4)},
        **{f"pvt.encoder.block.{stage}.": f"block{stage + 1}." for stage in range(4)},
        "pvt.encoder.layer_norm.": "norm.",
        "classifier.": "head.",
        ".projection.": ".proj.",
        ".layer_norm_1.": ".norm1.",
        ".layer_norm_2.": ".norm2.",
        ".attention.self.layer_norm.": ".attn.norm.",
        ".layer_norm.": ".norm.",
        ".attention.self.sequence_reduction.": ".attn.sr.",
        ".attention.self.query.": ".attn.q.",
        ".attention.self.": ".attn.",
        ".attention.output.dense.": ".attn.proj.",
        ".mlp.dense1.": ".mlp.fc1.",
        ".mlp.dense2.": ".mlp.fc2.",
    }
    checkpoint = renamed(theirs.state_dict(), names)
    for key in [key for key in checkpoint if ".attn.key." in key]:
        parts = [checkpoint.pop(key), checkpoint.pop(key.replace(".key.", ".value."))]
        checkpoint[key.replace(".key.", ".kv.")] = torch.cat(parts)
    ours = convert("pvt", "pvt_tiny", checkpoint, image_size=64, embedding_norm_eps=1e-6, **sizes)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images).logits, theirs(images).logits, atol=1e-4, rtol=1e-4)


def test_what_t2t_never_trains_stays_frozen_however_it_is_loaded(tmp_path):
    model = local_model("t2t")
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name.rsplit(".", 2)[-2] for name in frozen} == {"features", "position_embedding", "unused_norm"}
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad} == frozen


@torch.no_grad()
def test_t2t_makes_positions_and_features_as_the_original():
    fresh = type(tiny_model("t2t"))(tiny_model("t2t").config).model.embeddings
    table = fresh.position_embedding.table
    expected = sine_cosine_positions(*table.shape[1:], precision=torch.float64)
    assert torch.equal(table, expected)
    rows = fresh.layers[0].attention.features.weight
    torch.testing.assert_close(rows @ rows.T, len(rows) * torch.eye(len(rows)), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_performer_attention_nears_softmax_attention_with_many_features():
    """The denominator and the kernel: on average the products of the features are exp(query . key)."""
    attention = tiny_model("t2t", token_size=8).model.embeddings.layers[0].attention
    torch.manual_seed(0)
    attention.features.weight = nn.Parameter(torch.randn(100_000, 8))
    tokens = torch.randn(1, 5, attention.key_query_value.in_features) * 0.1
    key, query, value = attention.key_query_value(tokens).chunk(3, dim=-1)
    exact = value + attention.projection(torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value)
    torch.testing.assert_close(attention(tokens), exact, atol=0.02, rtol=0.02)


@torch.no_grad()
def test_token_layers_can_be_transformers():
    model = tiny_model("t2t", token_layer="transformer")
    assert model(IMAGES).logits.isfinite().all()
    assert model.model.embeddings.layers[0].attention.scaling == 147**-0.5
