"""Compact Transformers beyond what the golden cases show: sizes, tables, masks, published figures, conversion."""

import math

import pytest
import torch

from hf_vits.conversion import convert, processor, variants
from hf_vits.conversion.core import apply_transforms
from hf_vits.conversion.systems.cct import transforms
from hf_vits.layers.position import interpolate_positions, sine_cosine_positions
from hf_vits.models.cct.configuration_cct import CctConfig
from hf_vits.models.cct.configuration_cct_text import CctTextConfig
from hf_vits.models.cct.modeling_cct import CctBackbone, CctForImageClassification, CctModel
from hf_vits.models.cct.modeling_cct_text import CctForSequenceClassification, CctTextModel

# README.md and examples/README.md of SHI-Labs/Compact-Transformers, and its own count of all tensors.
PARAMETERS = {
    "vit_2_4_32": 214_666,
    "vit_4_4_32": 413_066,
    "vit_6_4_32": 3_190_538,
    "vit_7_4_32": 3_716_874,
    "cvt_2_4_32": 214_539,
    "cvt_4_4_32": 412_939,
    "cvt_6_4_32": 3_190_283,
    "cvt_7_4_32": 3_716_619,
    "cct_2_3x2_32": 283_723,
    "cct_4_3x2_32": 482_123,
    "cct_6_3x2_32": 3_326_923,
    "cct_7_3x2_32": 3_853_259,
    "cct_6_3x1_32": 3_233_803,
    "cct_7_3x1_32": 3_760_139,
    "cct_7_3x1_32_c100": 3_783_269,
    "cct_7_7x2_224": 4_573_735,
    "cct_14_7x2_224": 22_367_273,
    "cct_14_7x2_384": 22_513_193,
    "cct_14_7x2_384_fl": 22_167_463,
}
# nlp/README.md, in millions, for AG News' 4 classes and without the word table; kernel 4 is the default.
TEXT_PARAMETERS = {
    "text_cct_2_k1": 0.238,
    "text_cct_2_k2": 0.276,
    "text_cct_2": 0.353,
    "text_cct_4_k1": 0.436,
    "text_cct_4_k2": 0.475,
    "text_cct_4": 0.551,
    "text_cct_6_k1": 3.237,
    "text_cct_6_k2": 3.313,
    "text_cct_6": 3.467,
}
VIT_LITE = {"kernel_size": 4, "stride": 4, "padding": 0, "num_conv_layers": 1, "conv_bias": True}
VIT_LITE |= {"conv_act": None, "use_max_pool": False, "pooling": "token"}
CVT = VIT_LITE | {"pooling": "sequence"}
SMALL = {"hidden_size": 16, "intermediate_size": 32, "conv_hidden_size": 8, "num_labels": 5}
SMALL_TEXT = {"vocab_size": 50, "word_embedding_size": 12, "hidden_size": 16, "intermediate_size": 32, "num_labels": 5}
TRANSFORMER_LITE = {"use_convolution": False, "word_embedding_size": 16, "pooling": "token"}
TEXT_PATCHES = {"kernel_size": 4, "stride": 4, "padding": 0, "conv_act": None, "use_max_pool": False}
TEXT_FAMILIES = {
    "transformer": TRANSFORMER_LITE,
    "vit": TEXT_PATCHES | {"pooling": "token"},
    "cvt": TEXT_PATCHES,
    "cct_k1": {},
    "cct_k4": {"kernel_size": 4, "padding": 2},
    "cct_k7": {"kernel_size": 7, "stride": 2, "padding": 3},
}


def image_model(**fields) -> CctForImageClassification:
    torch.manual_seed(0)
    return CctForImageClassification(CctConfig(**SMALL | fields)).eval()


def text_model(**fields) -> CctForSequenceClassification:
    torch.manual_seed(0)
    return CctForSequenceClassification(CctTextConfig(**SMALL_TEXT | fields)).eval()


def images(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def words(*shape: int) -> torch.Tensor:
    return torch.randint(2, 50, shape, generator=torch.Generator().manual_seed(2))


def original_checkpoint(model) -> dict[str, torch.Tensor]:
    """The weights of a model of ours under the original's keys."""
    return apply_transforms(model.state_dict(), transforms(model.config), model, reverse=True)


# Published figures


def test_every_image_variant_has_its_published_size():
    fields = {name: fields for name, fields in variants("cct").items() if not name.startswith("text_")}
    assert {name.replace("_sine", "") for name in fields} == PARAMETERS.keys()
    for name, variant in fields.items():
        with torch.device("meta"):
            model = CctForImageClassification(CctConfig(**variant))
        assert sum(tensor.numel() for tensor in model.state_dict().values()) == PARAMETERS[name.replace("_sine", "")]


def test_every_text_cct_has_its_published_size():
    for name, millions in TEXT_PARAMETERS.items():
        with torch.device("meta"):
            model = CctForSequenceClassification(CctTextConfig(**variants("cct")[name], num_labels=4))
        count = sum(parameter.numel() for parameter in model.parameters())
        assert round((count - model.get_input_embeddings().weight.numel()) / 1e6, 3) == pytest.approx(millions)


@pytest.mark.parametrize(
    ("variant", "shortest_edge", "size", "first_mean"),
    [
        ("cct_7_3x1_32_sine", 32, 32, 0.4914),
        ("cct_7_3x1_32_sine_c100", 32, 32, 0.5071),
        ("cct_7_7x2_224_sine", 224, 224, 0.4353),
        ("cct_14_7x2_224", 248, 224, 0.485),
        ("cct_14_7x2_384", 426, 384, 0.485),
        ("cct_14_7x2_384_fl", 384, 384, 0.4353),
    ],
)
def test_image_processor_repeats_the_data_of_the_variant(variant, shortest_edge, size, first_mean):
    with torch.device("meta"):
        model = CctModel(CctConfig(**variants("cct")[variant]))
    made = processor("cct", variant, model)
    assert made.size.shortest_edge == shortest_edge
    assert (made.crop_size.height, made.crop_size.width) == (size, size)
    assert made.image_mean[0] == first_mean


def test_text_variants_have_no_processor():
    assert processor("cct", "text_cct_2", text_model()) is None


# Sizes and positions


@pytest.mark.parametrize("position", ["learned", "sine", "none"])
@pytest.mark.parametrize("family", [{}, VIT_LITE, CVT], ids=["cct", "vit", "cvt"])
def test_other_and_oblong_sizes_work(family, position):
    model = image_model(position_embedding_type=position, **family)
    for size in ((32, 32), (64, 24), (8, 40)):
        rows, columns = size[0] // 4, size[1] // 4
        output = model.model(images(*size))
        assert output.last_hidden_state.shape == (2, rows * columns + model.config.num_prefix_tokens, 16)
        assert output.pooler_output.shape == (2, 16)


def test_learned_table_is_resized_bilinearly_but_for_the_class_token():
    model = image_model(**VIT_LITE)
    embeddings = model.model.embeddings
    table = embeddings.position_embedding.table
    positions = embeddings(images(48, 20, batch=1)) - image_model(
        **VIT_LITE, position_embedding_type="none"
    ).model.embeddings(images(48, 20, batch=1))
    resized = interpolate_positions(table, (8, 8), (12, 5), "bilinear")
    torch.testing.assert_close(positions, resized, atol=1e-5, rtol=0)
    assert torch.equal(resized[:, :1], table[:, :1])


def test_sinusoid_is_the_papers():
    table = sine_cosine_positions(70, 6)[0].double()
    for position in (0, 1, 69):
        for channel in range(6):
            angle = position / 10000 ** (2 * (channel // 2) / 6)
            expected = math.cos(angle) if channel % 2 else math.sin(angle)
            assert table[position, channel].item() == pytest.approx(expected, abs=5e-6)


def test_sine_table_is_saved_kept_and_never_trained(tmp_path):
    model = image_model(position_embedding_type="sine", **VIT_LITE)
    table = model.model.embeddings.position_embedding.table
    assert torch.equal(table, sine_cosine_positions(65, 16))
    with torch.no_grad():
        table[0, 3] += 0.5  # a checkpoint's own table counts, not the formula
    assert not any("position_embedding" in name for name, _ in model.named_parameters())
    model.save_pretrained(tmp_path)
    loaded = CctForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.model.embeddings.position_embedding.table, table)
    assert torch.equal(loaded(images(32, 32)).logits, model(images(32, 32)).logits)
    longer = loaded.model.embeddings.position_embedding(90)
    assert torch.equal(longer[:, :65], table)
    assert torch.equal(longer[:, 65:], sine_cosine_positions(90, 16)[:, 65:])


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        (VIT_LITE, (34, 32), "multiples of 4"),
        (CVT, (32, 2), "multiples of 4"),
        ({"kernel_size": 7, "padding": 0, "use_max_pool": False}, (12, 40), "height must be at least 13"),
        ({"kernel_size": 7, "padding": 0}, (18, 40), "height must be at least 19"),
    ],
)
def test_illegal_sizes_say_which_are_legal(fields, size, message):
    model = image_model(**fields)
    with pytest.raises(ValueError, match=message):
        model(images(*size))


def test_smallest_legal_size_gives_one_token():
    model = image_model(kernel_size=7, padding=0, position_embedding_type="none")
    tokenizer = model.model.embeddings.tokenizer
    height, width = tokenizer.smallest_input()
    tokens = tokenizer(images(height, width))
    assert tokens.shape == (2, 16, *tokenizer.grid(height, width)) == (2, 16, 1, 1)


def test_bad_pixels_are_refused():
    model = image_model()
    with pytest.raises(ValueError, match="num_channels=3"):
        model(torch.zeros(1, 1, 32, 32))
    with pytest.raises(TypeError, match="floating point"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="pixel_values"):
        model()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kernel_size": 0}, "kernel_size"),
        ({"num_conv_layers": 0}, "num_conv_layers"),
        ({"padding": -1}, "padding"),
        ({"pool_padding": 2}, "pool_padding"),
        ({"num_attention_heads": 3}, "num_attention_heads"),
        ({"pooling": "mean"}, "pooling"),
        ({"position_embedding_type": "learnable"}, "position_embedding_type"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
    ],
)
def test_illegal_configurations_name_the_field(fields, field):
    # `@strict` raises its own error type for a wrong value of a Literal.
    with pytest.raises(Exception, match=field):
        CctConfig(**SMALL | fields)


def test_illegal_text_configurations_name_the_field():
    with pytest.raises(ValueError, match="hidden_size equal to word_embedding_size=300"):
        CctTextConfig(use_convolution=False)
    with pytest.raises(ValueError, match="pad_token_id"):
        CctTextConfig(vocab_size=50, pad_token_id=50)


# Training and running


def test_initialisation_is_the_originals():
    model = CctForImageClassification(CctConfig(hidden_size=256, intermediate_size=512, image_size=64, **CVT))
    embeddings, layer = model.model.embeddings, model.model.layers[0]
    convolution = embeddings.tokenizer.layers[0][0]
    assert embeddings.position_embedding.table.std().item() == pytest.approx(0.2, rel=0.03)
    assert convolution.weight.std().item() == pytest.approx((2 / 48) ** 0.5, rel=0.03)
    assert convolution.bias.abs().max().item() <= 48**-0.5
    assert layer.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert not layer.mlp.up.bias.any()
    assert layer.attention.qkv.bias is None
    assert not image_model(**VIT_LITE).model.embeddings.prefix_tokens.any()


@pytest.mark.parametrize("make", [image_model, text_model])
def test_gradient_checkpointing_changes_no_gradient(make):
    model = make().train()  # with dropout and stochastic depth as published
    inputs = (images(32, 32),) if make is image_model else (words(2, 20), torch.ones(2, 20))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        torch.manual_seed(3)
        model.zero_grad()
        model(*inputs, labels=torch.tensor([1, 4])).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("make", [image_model, text_model])
def test_compiles_whole_and_exports(make):
    model = make()
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, 13:] = 0
    image = make is image_model
    inputs = {"pixel_values": images(32, 32)} if image else {"input_ids": words(2, 20), "attention_mask": mask}
    with torch.no_grad():
        expected = model(**inputs).logits
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(**inputs).logits
        exported = torch.export.export(model, (), inputs).module()(**inputs).logits
    torch.testing.assert_close(compiled, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(exported, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_autocast_stays_close(attention, dtype):
    mask = torch.arange(20) < torch.tensor([[20], [13]])
    for model, inputs in ((image_model(), (images(32, 32),)), (text_model(), (words(2, 20), mask))):
        model.set_attn_implementation(attention)
        with torch.no_grad():
            expected = model(*inputs).logits
            with torch.autocast("cpu", dtype=dtype):
                torch.testing.assert_close(model(*inputs).logits.float(), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("fields", [{"position_embedding_type": "sine"}, VIT_LITE], ids=["sine", "vit"])
def test_model_made_on_the_meta_device_loads(fields, tmp_path):
    model = image_model(**fields)
    model.save_pretrained(tmp_path)
    with torch.device("meta"):
        assert CctForImageClassification(model.config).device.type == "meta"
    loaded = CctForImageClassification.from_pretrained(tmp_path, device_map="cpu")
    assert torch.equal(loaded(images(32, 32)).logits, model(images(32, 32)).logits)


def test_backbone_returns_the_grid_of_every_stage():
    config = CctConfig(**SMALL | VIT_LITE, out_features=["stem", "stage2"])
    backbone = CctBackbone(config).eval()
    maps = backbone(images(32, 20)).feature_maps
    assert [tuple(feature_map.shape) for feature_map in maps] == [(2, 16, 8, 5)] * 2
    states = backbone.model(images(32, 20)).last_hidden_state[:, 1:]
    torch.testing.assert_close(maps[-1].flatten(2).transpose(1, 2), states)


# Text


@pytest.mark.parametrize("position", ["learned", "sine", "none"])
@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_padding_changes_no_logits(family, position):
    model = text_model(position_embedding_type=position, **TEXT_FAMILIES[family])
    text, padding = words(1, 12), words(1, 9)
    mask = (torch.arange(21) < 12)[None]
    with torch.no_grad():
        alone = model(text).logits
        torch.testing.assert_close(model(text, torch.ones(1, 12)).logits, alone, atol=1e-6, rtol=0)
        padded = model(torch.cat([text, padding], dim=1), mask).logits
        torch.testing.assert_close(padded, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_words_before_padding_matter_and_all_of_them(family):
    model = text_model(**TEXT_FAMILIES[family])
    # Seven words: their last window reaches into the padding, where there is no border.
    mask = (torch.arange(16) < 7)[None]
    with torch.no_grad():
        logits = model(words(1, 16), mask).logits
        for index in range(16):
            changed = words(1, 16)
            changed[0, index] = (changed[0, index] + 5) % 50
            assert torch.equal(model(changed, mask).logits, logits) == (index >= 7)


def test_padded_query_attends_to_everything_alike():
    model = text_model(**TRANSFORMER_LITE)
    model.set_attn_implementation("eager")
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    attentions = model(words(1, 5), mask, output_attentions=True).attentions
    real, padded = attentions[0][0, :, :4], attentions[0][0, :, 4:]
    assert not real[..., 4:].any()
    torch.testing.assert_close(padded, torch.full_like(padded, 1 / 6))


def test_text_of_padding_alone_gives_finite_logits():
    for family in TEXT_FAMILIES.values():
        assert text_model(**family)(words(1, 8), torch.zeros(1, 8)).logits.isfinite().all()


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_texts_of_other_lengths_than_the_tables(family):
    learned, sine = (
        text_model(max_position_embeddings=16, position_embedding_type=kind, **TEXT_FAMILIES[family])
        for kind in ("learned", "sine")
    )
    for length in (4, 8, 16):
        assert learned(words(2, length)).logits.isfinite().all()
    assert sine(words(2, 40)).logits.isfinite().all()
    with pytest.raises(ValueError, match="longer than the learned table"):
        learned(words(2, 40))


def test_bad_text_is_refused():
    model = text_model(**TEXT_FAMILIES["vit"])
    with pytest.raises(ValueError, match="pad it to at least 4"):
        model(words(2, 3))
    with pytest.raises(ValueError, match="shape of input_ids"):
        model(words(2, 8), torch.ones(2, 9))
    with pytest.raises(ValueError, match="input_ids"):
        model()


def test_word_table_has_a_silent_padding_row():
    model = CctTextModel(CctTextConfig(**SMALL_TEXT | {"word_embedding_size": 300}))
    table = model.get_input_embeddings().weight
    assert not table[1].any()
    assert table[2:].std().item() == pytest.approx(1, rel=0.05)


# Conversion


@pytest.mark.parametrize(
    "name", ["cct_2_3x2_32", "cct_2_3x2_32_sine", "vit_2_4_32_sine", "cvt_2_4_32", "text_cct_2_k1", "text_vit_2"]
)
def test_converts_its_own_layout_back(name):
    torch.manual_seed(0)
    fields = variants("cct")[name]
    if name.startswith("text_"):
        model = CctForSequenceClassification(CctTextConfig(**fields, vocab_size=50, num_labels=6)).eval()
        inputs = words(2, 20)
    else:
        model, inputs = CctForImageClassification(CctConfig(**fields)).eval(), images(32, 32)
    converted = convert("cct", name, original_checkpoint(model))
    assert torch.equal(converted(inputs).logits, model(inputs).logits)
    assert converted.config.to_diff_dict() == model.config.to_diff_dict()


@pytest.mark.parametrize(("position", "size"), [("learned", 48), ("sine", 64)])
def test_the_file_tells_labels_size_and_positions(position, size):
    fields = variants("cct")["cct_2_3x2_32"]
    more = {"position_embedding_type": position, "image_size": size, "num_labels": 7}
    checkpoint = original_checkpoint(CctForImageClassification(CctConfig(**fields | more)))
    for name in ("cct_2_3x2_32", "cct_2_3x2_32_sine"):
        config = convert("cct", name, checkpoint).config
        assert (config.position_embedding_type, config.image_size, config.num_labels) == (position, size, 7)


def test_a_file_without_positions_converts_when_asked_for():
    checkpoint = original_checkpoint(CctForImageClassification(CctConfig(position_embedding_type="none")))
    model = convert("cct", "cct_2_3x2_32", checkpoint, position_embedding_type="none")
    assert model.model.embeddings.position_embedding is None
    with pytest.raises(ValueError, match=r"1 missing: model\.embeddings\.position_embedding\.table"):
        convert("cct", "cct_2_3x2_32", checkpoint)


@pytest.mark.parametrize("size", [24, 48])
@pytest.mark.parametrize("name", ["vit_2_4_32", "vit_2_4_32_sine"])
def test_table_is_made_for_the_size_asked_for(name, size):
    torch.manual_seed(0)
    model = CctForImageClassification(CctConfig(**variants("cct")[name])).eval()
    converted = convert("cct", name, original_checkpoint(model), image_size=size)
    assert converted.model.embeddings.position_embedding.table.shape[1] == 1 + (size // 4) ** 2
    torch.testing.assert_close(converted(images(size, size)).logits, model(images(size, size)).logits)


def test_kernel_of_a_text_model_is_told_by_the_file():
    torch.manual_seed(0)
    fields = variants("cct")["text_cct_2_k2"] | {"max_position_embeddings": 32}
    model = CctForSequenceClassification(CctTextConfig(**fields, vocab_size=50)).eval()
    converted = convert("cct", "text_cct_2", original_checkpoint(model))
    assert (converted.config.kernel_size, converted.config.padding, converted.config.vocab_size) == (2, 1, 50)
    # A text of 31 words has as many windows as one of 32.
    assert converted.config.max_position_embeddings in (31, 32)
    assert torch.equal(converted(words(2, 9)).logits, model(words(2, 9)).logits)


@pytest.mark.parametrize("name", ["cct_2_3x2_32_sine", "text_cct_2_k1"])
def test_checkpoints_that_do_not_fit_are_refused(name):
    fields = variants("cct")[name]
    if name.startswith("text_"):
        model = CctForSequenceClassification(CctTextConfig(**fields, vocab_size=50))
    else:
        model = CctForImageClassification(CctConfig(**fields))
    checkpoint = original_checkpoint(model)
    for other in ("cct_6_3x2_32", "cvt_2_4_32", "text_cct_6", "text_vit_2"):
        with pytest.raises(ValueError, match="does not fit"):
            convert("cct", other, checkpoint)
    for key, tensor in checkpoint.items():
        others = {other: value for other, value in checkpoint.items() if other != key}
        for bad in ({}, {key: tensor[None]}, {key: torch.tensor(1.0)}, {key: tensor[..., :0]}):
            with pytest.raises(ValueError, match="does not fit"):
                convert("cct", name, others | bad)
