"""SepTr: axes and their order, sizes, pooling, initialisation and conversion."""

import pytest
import torch
from torch import nn

from hf_vits.conversion import convert, processor, variants
from hf_vits.models.septr.configuration_septr import SepTrConfig
from hf_vits.models.septr.modeling_septr import SepTrForAudioClassification, SepTrModel

TINY = {
    "num_mel_bins": 12,
    "num_frames": 10,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 12,
    "intermediate_size": 24,
}


def model(model_class=SepTrModel, **fields):
    torch.manual_seed(0)
    return model_class(SepTrConfig(**TINY | fields)).eval()


def spectrograms(frames: int = 10, bins: int = 12) -> torch.Tensor:
    return torch.randn(2, frames, bins, generator=torch.Generator().manual_seed(0))


def count(**fields) -> int:
    with torch.device("meta"):
        return SepTrForAudioClassification(SepTrConfig(**fields, num_labels=35)).num_parameters()


@pytest.mark.parametrize(
    ("size", "parameters"), [(64, 8_771_107), (128, 8_869_411), (256, 9_066_019), (512, 9_459_235)]
)
def test_parameters_are_the_originals_at_every_size(size, parameters):
    assert count(num_mel_bins=size, num_frames=size) == parameters


def test_parameters_grow_linearly_with_the_spectrogram():
    """By a vector per layer for every bin and every frame more, whatever the other size is."""
    for num_mel_bins in (32, 128):
        counts = [count(num_mel_bins=num_mel_bins, num_frames=frames) for frames in (100, 200, 300, 1100)]
        assert [more - counts[0] for more in counts] == [0, 100 * 3 * 256, 200 * 3 * 256, 1000 * 3 * 256]
    assert count(num_mel_bins=160) - count(num_mel_bins=128) == 32 * 3 * 256


@torch.no_grad()
def test_the_other_order_is_the_first_on_a_transposed_spectrogram():
    first = model()
    swapped = {"num_mel_bins": 10, "num_frames": 12, "axes": ["time", "frequency"]}
    other = model(**swapped)
    other.load_state_dict(first.state_dict())
    features = spectrograms()
    expected, found = first(features), other(features.transpose(1, 2))
    torch.testing.assert_close(found.pooler_output, expected.pooler_output)
    tokens = [outputs.last_hidden_state[:, 1:] for outputs in (found, expected)]
    torch.testing.assert_close(tokens[0].unflatten(1, (10, 12)).transpose(1, 2).flatten(1, 2), tokens[1])


@pytest.mark.parametrize(("axis", "dim"), [("frequency", 3), ("time", 2)])
@torch.no_grad()
def test_with_one_axis_a_layer_sees_along_it_alone(axis, dim):
    encoder = model(axes=[axis], num_hidden_layers=1)
    features = spectrograms()
    changed = features.clone()
    changed[:, 4, 7] += 1  # frame 4, bin 7
    before, after = (encoder(inputs, output_hidden_states=True).hidden_states[-1] for inputs in (features, changed))
    differs = (before - after).abs().amax(dim=(0, 1)) > 1e-7  # bins, frames
    expected = torch.zeros(12, 10, dtype=torch.bool)
    if dim == 3:
        expected[:, 4] = True
    else:
        expected[7] = True
    assert torch.equal(differs, expected)


@torch.no_grad()
def test_pooling_is_a_smaller_spectrogram():
    features = spectrograms(frames=13, bins=25)
    pooled = model(num_mel_bins=25, num_frames=13, pool_size=[2, 3])
    plain = model(num_mel_bins=12, num_frames=4)
    plain.load_state_dict(pooled.state_dict())
    windows = nn.functional.avg_pool2d(features, (3, 2))
    torch.testing.assert_close(pooled(features).pooler_output, plain(windows).pooler_output)


@torch.no_grad()
def test_several_channels():
    encoder = model(num_channels=2)
    outputs = encoder(torch.stack([spectrograms(), spectrograms()], dim=1))
    assert outputs.last_hidden_state.shape == (2, 1 + 120, 16)
    with pytest.raises(ValueError, match=r"\(batch, 2, 10, 12\), got shape \(2, 10, 12\)"):
        encoder(spectrograms())


@pytest.mark.parametrize("features", [spectrograms(frames=11), spectrograms().transpose(1, 2), None])
def test_other_sizes_are_refused(features):
    with pytest.raises(ValueError, match=r"\(batch, frames, mel bins\) = \(batch, 10, 12\), got (shape|nothing)"):
        model()(features)


def test_a_mask_is_refused():
    with pytest.raises(ValueError, match="return_attention_mask=False"):
        model()(spectrograms(), attention_mask=torch.ones(2, 10))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": []}, "axes must hold"),
        ({"axes": ["time", "time"]}, "axes must hold"),
        ({"axes": ["height"]}, "axes must hold"),
        ({"pool_size": [13, 1]}, "pool_size must be"),
        ({"pool_size": [2]}, "pool_size must have 2 values"),
        ({"pool_size": [0, 1]}, "pool_size must be positive"),
        ({"num_frames": 0}, "num_frames must be positive"),
    ],
)
def test_configurations_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        SepTrConfig(**TINY | fields)


@torch.no_grad()
def test_attentions_are_those_of_every_axis():
    encoder = model()
    encoder.set_attn_implementation("eager")
    attentions = encoder(spectrograms(), output_attentions=True).attentions
    assert [tuple(one.shape) for one in attentions] == 2 * [(2 * 10, 2, 13, 13), (2 * 12, 2, 11, 11)]
    torch.testing.assert_close(attentions[0].sum(-1), torch.ones(20, 2, 13))


def test_initialisation_is_pytorchs_with_normal_positions():
    encoder = SepTrModel(SepTrConfig())
    axis = encoder.layers[0].axes[0]
    assert axis.position_embedding.std().item() == pytest.approx(1, abs=0.02)
    assert encoder.class_token.std().item() == pytest.approx(1, abs=0.2)
    for parameter in (axis.layer.attention.qkv.weight, axis.layer.mlp.up.bias):
        assert parameter.abs().max().item() == pytest.approx(256**-0.5, rel=0.05)


def test_a_checkpoint_tells_its_sizes_and_half_of_its_heads():
    from hf_vits.conversion.core import apply_transforms
    from hf_vits.conversion.systems.septr import transforms

    theirs = model(SepTrForAudioClassification, num_labels=7, num_attention_heads=3, head_dim=8)
    tensors = apply_transforms(theirs.state_dict(), transforms(theirs.config), theirs, reverse=True)
    tensors["cls_token"] = tensors["cls_token"][None, None]
    for heads in ({"head_dim": 8}, {"num_attention_heads": 3}):
        ours = convert("septr", "septr_vh", tensors, **heads)
        assert (ours.config.num_mel_bins, ours.config.num_frames, ours.config.num_labels) == (12, 10, 7)
        torch.testing.assert_close(ours(spectrograms()).logits, theirs(spectrograms()).logits)
    with pytest.raises(ValueError, match="cls_token must have 4 axes"):
        convert("septr", "septr_vh", tensors | {"cls_token": torch.zeros(16)}, head_dim=8)


@torch.no_grad()
def test_the_processor_makes_the_models_size():
    with torch.device("meta"):
        encoder = SepTrModel(SepTrConfig(**variants("septr")["septr_vh"]))
    extractor = processor("septr", "septr_vh", encoder)
    for samples in (1, 9_000, 16_000, 50_000):
        clip = torch.randn(samples, generator=torch.Generator().manual_seed(samples)).numpy()
        inputs = extractor(clip, sampling_rate=16_000, return_tensors="pt")
        assert {name: tuple(value.shape) for name, value in inputs.items()} == {"input_features": (1, 128, 128)}
