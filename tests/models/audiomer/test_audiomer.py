"""Audiomer: legal lengths, its two forms, redrawn features, initialisation and conversion."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForAudioClassification

import hf_vits
from hf_vits.conversion import convert, processor, variants
from hf_vits.models.audiomer.configuration_audiomer import AudiomerConfig
from hf_vits.models.audiomer.modeling_audiomer import AudiomerForAudioClassification, AudiomerModel
from tests.support.paths import PARITY_CASES

from ...parity.golden import Case

TINY = {"hidden_sizes": [4, 8, 8], "head_dim": 8, "num_random_features": 12}


def model(model_class=AudiomerForAudioClassification, **fields):
    torch.manual_seed(0)
    model = model_class(AudiomerConfig(**TINY, num_labels=5, **fields)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def waveforms(length: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, length, generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize(
    ("size", "pooling", "multiple", "offset"),
    [
        ("s", "class_samples", 512, 0),
        ("l", "class_samples", 2048, 0),
        ("m", "class_samples", 128, 0),
        ("s", "mean", 512, 128),
        ("l", "mean", 2048, 128),
        ("m", "mean", 128, 0),
    ],
)
def test_legal_lengths_are_those_that_the_original_takes(size, pooling, multiple, offset):
    config = AudiomerConfig(**variants("audiomer")[f"audiomer_{size}_sc12"], pooling=pooling)
    assert (config.length_multiple, config.length_offset) == (multiple, offset)
    legal = [length for length in range(1, 20_000) if config.is_legal_length(length)]
    assert legal == list(range(offset or multiple, 20_000, multiple))
    for length in (1, multiple - 1, multiple, multiple + 1, 8192, 8193, 16_000):
        assert config.padded_length(length) == min(some for some in legal if some >= length)


@pytest.mark.parametrize("pooling", ["class_samples", "mean"])
@torch.no_grad()
def test_other_lengths_would_not_run(pooling):
    encoder = model(AudiomerModel, pooling=pooling)
    for length in range(1, 70):
        if encoder.config.is_legal_length(length):
            encoder(waveforms(length))
            continue
        with pytest.raises(ValueError, match=rf"{length} samples.*pad them with zeros to \d+") as caught:
            encoder(waveforms(length))
        assert f"to {encoder.config.padded_length(length)}," in str(caught.value)
        encoder.check_input_values = lambda input_values: None
        with pytest.raises(RuntimeError):
            encoder(waveforms(length))
        del encoder.check_input_values


@torch.no_grad()
def test_without_residual_branch_every_length_runs():
    encoder = model(AudiomerModel, use_residual=False)
    assert encoder.config.length_multiple == 1
    for length in (1, 2, 31, 64):
        assert encoder(waveforms(length)).pooler_output.isfinite().all()


@pytest.mark.parametrize("found", [torch.zeros(2, 1, 512), torch.zeros(512), None])
def test_other_shapes_are_named(found):
    with pytest.raises(ValueError, match=r"input_values: \(batch, samples\), got (shape|nothing)"):
        model()(found)


@pytest.mark.parametrize("pooling", ["class_samples", "mean"])
@pytest.mark.parametrize("seconds", [0.01, 0.5, 1.0, 2.3])
@torch.no_grad()
def test_the_processor_pads_any_clip_to_a_legal_length(pooling, seconds):
    config = AudiomerConfig(**variants("audiomer")["audiomer_s_sc12"], pooling=pooling)
    encoder = AudiomerModel(config).eval()
    extractor = processor("audiomer", "audiomer_s_sc12", encoder)
    clip = waveforms(round(16_000 * seconds), count=1)[0].numpy()
    cut = extractor(clip, 16_000, return_tensors="pt")
    assert cut["input_values"].shape[1] == (8192 if pooling == "class_samples" else 8320)
    whole = extractor(clip, 16_000, padding="longest", truncation=False, return_tensors="pt")
    assert whole["input_values"].shape[1] == config.padded_length(round(8192 * seconds))
    for inputs in (cut, whole):
        assert encoder(**inputs).pooler_output.shape == (1, 64)


@torch.no_grad()
def test_redrawn_features_change_the_result_repeatably_and_are_saved(tmp_path):
    classifier = model()
    inputs = waveforms(64)
    first = classifier(inputs).logits
    classifier.redraw_projections(seed=7)
    redrawn = classifier(inputs).logits
    assert not torch.allclose(first, redrawn, atol=1e-6)
    classifier.redraw_projections(seed=8)
    classifier.redraw_projections(seed=7)
    torch.testing.assert_close(classifier(inputs).logits, redrawn, atol=0, rtol=0)
    classifier.save_pretrained(tmp_path)
    loaded = AutoModelForAudioClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(inputs).logits, redrawn, atol=0, rtol=0)


def test_the_released_form_does_not_run_its_context():
    classifier = model(attention_type="self").train()
    classifier(waveforms(64), labels=torch.tensor([0, 1])).loss.backward()
    for layer in classifier.model.layers:
        assert layer.context.convolution[1].num_batches_tracked == 0
        assert all(parameter.grad is None for parameter in layer.context.parameters())
        assert layer.attention.attention.query.bias is not None


@pytest.mark.parametrize("attention_type", ["cross", "self"])
@torch.no_grad()
def test_fused_batch_norms_compute_the_same(attention_type):
    classifier = model(attention_type=attention_type)
    expected = classifier(waveforms(64)).logits
    hf_vits.fuse(classifier)
    assert not any(
        isinstance(module, nn.BatchNorm1d)
        for layer in classifier.model.layers
        for module in (*layer.query.modules(), *layer.residual.modules())
    )
    torch.testing.assert_close(classifier(waveforms(64)).logits, expected, atol=1e-5, rtol=1e-5)


def test_initialisation_is_pytorchs_with_normal_class_samples():
    encoder = AudiomerModel(AudiomerConfig())
    assert 0.7 < encoder.class_samples.std() < 1.3
    up = encoder.layers[-1].attention.mlp.up
    reduced = encoder.layers[-1].query.squeeze_excitation.fc1
    for parameter in (up.weight, up.bias, reduced.weight):
        assert parameter.abs().max().item() == pytest.approx(64**-0.5, rel=0.1)
    assert encoder.layers[0].attention.attention_norm.scale.item() == 1


def test_a_model_built_without_memory_gets_random_features():
    with torch.device("meta"):
        encoder = AudiomerModel(AudiomerConfig(**TINY))
    encoder.to_empty(device="cpu")
    encoder.init_weights()
    for layer in encoder.layers:
        projection = layer.attention.attention.random_features.projection
        block = projection[:8]
        torch.testing.assert_close(block @ block.T, (block @ block.T).diag().diag(), atol=1e-5, rtol=0)
        assert (projection.norm(dim=1) > 0.5).all()


def checkpoint(name: str) -> dict[str, torch.Tensor]:
    """An original's checkpoint, from one of the golden cases that the project keeps."""
    tensors = Case.load(PARITY_CASES / "audiomer" / f"{name}.json").checkpoint()
    return {key: torch.from_numpy(value) for key, value in tensors.items()}


@torch.no_grad()
def test_what_a_released_checkpoint_holds_twice_is_read_once_and_nothing_else_is_ignored():
    tensors = checkpoint("audiomer_s_legacy_sc12")
    once = convert("audiomer", "audiomer_s_sc12_legacy", tensors)
    attention = {key: value for key, value in tensors.items() if ".performer.net." in key}
    twice = {key.replace(".net.", ".proj_updater.instance."): value for key, value in attention.items()}
    inputs = waveforms(8192)
    wrapped = {"state_dict": tensors | twice, "epoch": 3}
    found = convert("audiomer", "audiomer_s_sc12_legacy", wrapped)
    torch.testing.assert_close(found(inputs).logits, once(inputs).logits, atol=0, rtol=0)
    assert len(twice) == 9 * 15
    with pytest.raises(ValueError, match=r"1 unexpected: .*performer\.other"):
        convert("audiomer", "audiomer_s_sc12_legacy", tensors | {"model.encoder.performer.other": torch.zeros(1)})
    missing = "model.encoder.layers.3.performer.net.layers.0.0.fn.fast_attention.projection_matrix"
    with pytest.raises(ValueError, match=r"1 missing: .*projection"):
        convert("audiomer", "audiomer_s_sc12_legacy", {key: value for key, value in tensors.items() if key != missing})


def test_the_file_tells_the_form():
    legacy = convert("audiomer", "audiomer_s_sc12", checkpoint("audiomer_s_legacy_sc12")).config
    newest = convert("audiomer", "audiomer_m_sc20_legacy", checkpoint("audiomer_m_sc20")).config
    assert (legacy.attention_type, newest.attention_type) == ("self", "cross")


def test_classes_have_the_originals_names():
    tensors = checkpoint("audiomer_m_sc20")
    assert convert("audiomer", "audiomer_m_sc20", tensors).config.id2label[10] == "zero"
    assert convert("audiomer", "audiomer_m_sc35", tensors).config.id2label[10] == "LABEL_10"
    assert variants("audiomer")["audiomer_s_sc35"]["id2label"][34] == "zero"
    assert len(set(variants("audiomer")["audiomer_s_sc35"]["id2label"].values())) == 35
