"""What neither golden cases nor conformance show of RegionViT."""

from itertools import product

import pytest
import torch

from hf_vits import RegionViTBackbone, RegionViTConfig
from hf_vits.conversion import convert, processor
from hf_vits.conversion.systems.regionvit import unwrap_table
from hf_vits.models.regionvit.modeling_regionvit import window_padding

from ...support.hub import TINY, tiny_model


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


# The tiny model has windows of 2 local tokens of 4 pixels: regions of 8.
@pytest.mark.parametrize(
    ("size", "regions"),
    [
        ((32, 32), (4, 4)),
        ((31, 32), (4, 5)),  # one side is off, so the other gets a region more
        ((33, 2), (5, 1)),
        ((8, 40), (1, 5)),
    ],
)
@torch.no_grad()
def test_images_are_centred_in_whole_regions(size, regions):
    local, regional = tiny_model("regionvit").model.embeddings(images(*size))
    assert tuple(regional.shape[-2:]) == regions
    assert tuple(local.shape[-2:]) == tuple(-(-side // 4) for side in size)


def test_which_tokens_attend_to_one_another_at_the_edges():
    """Of 3 x 4 windows the last row is half outside."""
    padding = window_padding((5, 8), (3, 4), 2, 1, torch.device("cpu"))
    whole, right, lower, corner = padding.allowed
    assert padding.kind.tolist() == [0, 0, 0, 1] * 2 + [2, 2, 2, 3]
    assert whole.all()
    assert right.all()  # no column is outside
    assert lower.int().tolist() == [[1, 1, 1, 0, 0]] * 3 + [[0] * 5] * 2
    assert corner.all()  # a pair whose columns are inside is enough there
    assert window_padding((6, 8), (3, 4), 2, 1, torch.device("cpu")) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_queries_outside_the_map_attend_to_everything_alike(implementation, dtype):
    model = tiny_model("regionvit")
    model.set_attn_implementation(implementation)
    attention = model.model.stages[0].layers[0].attention.to(dtype)
    attention.projection.weight.copy_(torch.eye(8))
    attention.projection.bias.zero_()
    padding = window_padding((2, 1), (1, 1), 2, 1, torch.device("cpu"))
    # Of four local tokens the right two lie outside, also in the corner, where rows would do: both are inside.
    padding = padding._replace(kind=torch.ones_like(padding.kind))
    tokens = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    attended, _ = attention(tokens, in_windows=True, padding=padding)
    mean = attention.split(attention.qkv(tokens))[2].transpose(1, 2).flatten(2).mean(dim=1)
    torch.testing.assert_close(attended[:, [2, 4]], mean[:, None].expand(-1, 2, -1), atol=2e-3, rtol=2e-3)
    assert (attended[:, [0, 1, 3]] - mean[:, None]).abs().amax(dim=-1).min() > 0.01


def test_the_table_is_the_originals_in_the_order_of_the_layer():
    """The original reads row (dy + window // 2) of key minus query and lets negative rows count from the end."""
    for window in (1, 2, 7, 12):
        side = 2 * window - 1
        table = torch.arange(side * side).view(1, -1)
        unwrapped = unwrap_table(table)[:, 0].view(side, side)
        for dy, dx in product(range(1 - window, window), repeat=2):
            assert (
                unwrapped[window - 1 - dy, window - 1 - dx]
                == table.view(side, side)[dy + window // 2, dx + window // 2]
            )


def test_the_window_changes_only_on_request():
    checkpoint = original_checkpoint(tiny_model("regionvit"))
    fields = {key: value for key, value in TINY["regionvit"].items() if key not in ("window_size", "image_size")}
    assert convert("regionvit", "regionvit_tiny_w14_224", checkpoint, **fields).config.window_size == 2
    model = convert("regionvit", "regionvit_tiny_224", checkpoint, window_size=3, **fields)
    assert model.model.embeddings.regional_projection.weight.shape[-1] == 12
    assert model.model.stages[0].layers[0].attention.position_bias.table.shape == (25, 1)


@torch.no_grad()
def test_windows_may_differ_by_stage():
    """The last stage's map of 2 x 2 local tokens in a window of 3 x 3, as the original computes it (regionvit.py,
    `convert_to_flatten_layout`, and attention_variants.py): in the corner two tokens attend to each other if both
    columns or both rows are on the map; the regional token's row of the mask is that of a token on the map.
    """
    torch.manual_seed(0)
    model = tiny_model("regionvit", window_size=[2, 2, 3])
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.2)
    checkpoint = original_checkpoint(model)
    seen = {}
    stage = model.model.stages[2]
    stage.layers[0].attention.register_forward_hook(lambda module, args, out: seen.update({len(seen): (args, out[0])}))
    expected = model(images(32, 32)).logits
    _, ((windows,), attended) = seen[0], seen[1]
    assert windows.shape == (2, 1 + 3 * 3, 16)

    place, window = "layers.2.block.1.attn.", 3
    table = checkpoint[f"{place}rel_pos"].unflatten(1, (5, 5))
    projected = windows @ checkpoint[f"{place}qkv.weight"].T + checkpoint[f"{place}qkv.bias"]
    query, key, value = projected.unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    scores = query @ key.mT / 8**0.5
    tokens = [(0, 0), *product(range(window), repeat=2)]
    for first, (row, column) in enumerate(tokens):
        for second, (other_row, other_column) in enumerate(tokens):
            if first and second:
                offsets = other_row - row + window // 2, other_column - column + window // 2
                scores[:, :, first, second] += table[:, *offsets]
            if max(row, other_row) > 1 and max(column, other_column) > 1:
                scores[:, :, first, second] = torch.finfo(torch.float32).min
    mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
    written_out = mixed @ checkpoint[f"{place}proj.weight"].T + checkpoint[f"{place}proj.bias"]
    torch.testing.assert_close(attended, written_out, atol=1e-5, rtol=1e-5)

    converted = convert("regionvit", None, checkpoint)
    assert (converted.config.window_size, converted.config.patch_size) == ([2, 2, 3], 4)
    torch.testing.assert_close(converted(images(32, 32)).logits, expected)
    fields = {"window_size": [3, 3, 5]}
    larger = convert("regionvit", None, checkpoint, **fields)
    tables = [stage.layers[0].attention.position_bias.table for stage in larger.model.stages]
    assert [len(table) for table in tables] == [5 * 5, 5 * 5, 9 * 9]


def test_windows_that_the_map_leaves_empty_are_refused():
    model = tiny_model("regionvit", window_size=[2, 2, 4])
    assert model(images(32, 32)).logits.isfinite().all()
    with pytest.raises(
        ValueError, match=r"2x1 regional tokens.* windows of 4x4 local tokens, .* the 3x1 local tokens"
    ):
        model(images(40, 8))
    with pytest.raises(ValueError, match=r"2x2 regional tokens.* windows of 1x1 local tokens"):
        tiny_model("regionvit", window_size=[2, 1, 2])(images(32, 32))


@pytest.mark.parametrize("stage_norm", [True, False])
@torch.no_grad()
def test_a_detectors_checkpoint_becomes_a_backbone(stage_norm):
    model = tiny_model("regionvit", "AutoBackbone", use_stage_norm=stage_norm, out_indices=[1, 2, 3])
    checkpoint = original_checkpoint(model, prefix="backbone.bottom_up.model.")
    checkpoint |= {"backbone.fpn_lateral2.weight": torch.zeros(4, 8, 1, 1), "proposal_generator.x": torch.zeros(2)}
    fields = {key: value for key, value in TINY["regionvit"].items() if key != "window_size"}
    converted = convert("regionvit", "regionvit_tiny_224", {"model": checkpoint}, **fields)
    assert isinstance(converted, RegionViTBackbone)
    assert converted.config.use_stage_norm is stage_norm
    pixels = images(40, 32)
    for ours, theirs in zip(converted(pixels).feature_maps, model(pixels).feature_maps, strict=True):
        torch.testing.assert_close(ours, theirs)
    made = processor("regionvit", "regionvit_tiny_224", converted)
    assert made.do_center_crop is not stage_norm


def test_checkpoints_that_do_not_fit_are_refused():
    checkpoint = original_checkpoint(tiny_model("regionvit"))
    fields = {key: value for key, value in TINY["regionvit"].items() if key != "window_size"}
    twin = "layers.1.block.0.proj_cls.2.weight"
    for bad in (
        {twin: checkpoint[twin] + 1},
        {"layers.0.block.1.attn.rel_pos": torch.zeros(1, 8)},
        {"layers.0.block.1.attn.rel_pos": torch.zeros(1, 3, 3)},
        {"cls_token.proj.weight": torch.zeros(8, 3)},
        {"head.weight": torch.zeros(3, 5)},
    ):
        with pytest.raises(ValueError, match="does not fit"):
            convert("regionvit", "regionvit_tiny_224", checkpoint | bad, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": [1, 2]}, "hidden_sizes needs one value per stage"),
        ({"hidden_sizes": [64, 128, 192, 512]}, "multiple of those of the stage before"),
        ({"patch_size": 8}, "num_conv_layers=3"),
        ({"window_size": 0}, "window_size must be positive"),
        ({"window_size": [7, 7]}, "one per stage"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        RegionViTConfig(**fields)


def test_images_without_a_token_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        tiny_model("regionvit")(images(1, 32))


RENAMED = {
    "embeddings.local_projection.": "patch_embed.proj.",
    "embeddings.regional_projection.": "cls_token.proj.",
    ".regional_norm.": ".norm0.",
    ".local_norm.": ".norm1.",
    ".mlp_norm.": ".norm2.",
    ".attention.qkv.": ".attn.qkv.",
    ".attention.projection.": ".attn.proj.",
    ".attention.position_bias.table": ".attn.rel_pos",
    ".mlp.up.": ".mlp.fc1.",
    ".mlp.down.": ".mlp.fc2.",
    ".position_embedding.": ".peg.",
    ".downsampling.": ".block.0.proj.",
    "classifier.": "head.",
}


def original_checkpoint(model: torch.nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """The model's weights as the original saves them."""
    checkpoint = {}
    for key, value in model.state_dict().items():
        key = key.removeprefix("model.")
        for ours, theirs in RENAMED.items():
            key = key.replace(ours, theirs)
        parts = key.split(".")
        if parts[0] == "stages":
            if parts[2] == "norm":
                parts = [f"norm{parts[1]}", parts[3]]
            else:
                parts[0] = "layers"
                if parts[2] == "layers":
                    parts[2:4] = ["block", str(int(parts[3]) + 1)]
        key = ".".join(parts)
        if key.endswith("rel_pos"):
            value = wrap_table(value)
        is_map_norm = key.startswith(
            ("norm0.", "norm1.", "norm2.", "norm3.", "patch_embed.proj.1.", "patch_embed.proj.4.")
        )
        if is_map_norm or ".block.0.proj.0." in key:
            value = value.view(1, -1, 1, 1)
        checkpoint[prefix + key] = value
        if ".block.0.proj." in key:
            checkpoint[prefix + key.replace(".proj.", ".proj_cls.")] = value
    return checkpoint


def wrap_table(table: torch.Tensor) -> torch.Tensor:
    """(side * side, heads) to the original's (heads, side * side)."""
    order = unwrap_table(torch.arange(len(table)).view(1, -1))[:, 0]
    return table[order.argsort()].T
