"""What neither golden cases nor conformance show of Branchformer."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSpeechSeq2Seq

from hf_vits.analysis.branches import branch_weights, plot_branch_weights
from hf_vits.conversion import convert, processor
from hf_vits.conversion.shared.espnet import encoder_fields
from hf_vits.models.branchformer.configuration_branchformer import BranchformerConfig
from hf_vits.models.branchformer.configuration_branchformer_seq2seq import BranchformerSeq2SeqConfig
from hf_vits.models.branchformer.modeling_branchformer import (
    BranchformerForAudioClassification,
    BranchformerForCTC,
    BranchformerModel,
)
from hf_vits.models.branchformer.modeling_branchformer_seq2seq import BranchformerForSpeechSeq2Seq
from tests.support.paths import PARITY_CASES

from ...parity.golden import Case

TINY = {
    "num_mel_bins": 20,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_depthwise_kernel_size": 5,
    "vocab_size": 9,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "position_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS = {
    "relative": {},
    "absolute": {
        "position_embedding_type": "absolute",
        "qk_norm": True,
        "merge_method": "fixed_average",
        "gate_act": "selu",
    },
    "fast": {
        "position_embedding_type": "scaled_absolute",
        "attention_type": "fast",
        "merge_method": "learned_average",
    },
}


def build(model_class=BranchformerForCTC, **fields):
    """A small model with random weights everywhere."""
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**TINY | fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def speech(batch=2, frames=61) -> torch.Tensor:
    return torch.randn(batch, frames, TINY["num_mel_bins"], generator=torch.Generator().manual_seed(1))


def masks(frames: int, *lengths: int) -> torch.Tensor:
    return (torch.arange(frames) < torch.tensor(lengths)[:, None]).long()


@pytest.mark.parametrize("input_layer", ["conv2d1", "conv2d2", "conv2d4", "conv2d6", "conv2d8", "linear"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_changes_nothing_where_convolutions_are_masked(kind, input_layer):
    features, labels = speech(), torch.tensor([[1, 2, -100], [3, 4, 5]])
    model = build(mask_convolutions=True, input_layer=input_layer, **KINDS[kind])
    padded = model(features, masks(61, 61, 40), labels=labels)
    alone = model(features[1:, :40], labels=labels[1:])
    (count,) = alone.logits.shape[1:2]
    assert padded.lengths.tolist() == [padded.logits.shape[1], count]
    torch.testing.assert_close(padded.logits[1:, :count], alone.logits, atol=1e-5, rtol=1e-4)
    whole = model(features[:1], labels=labels[:1, :2])
    torch.testing.assert_close(padded.loss, (whole.loss + alone.loss) / 2)


@torch.no_grad()
def test_padding_changes_frames_near_it_otherwise():
    features = speech()
    model = build()
    padded = model(features, masks(61, 61, 40)).logits[1]
    alone = model(features[1:, :40]).logits[0]
    assert (padded[: len(alone)] - alone).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_of_padding_alone_disturbs_no_other(kind):
    features, labels = speech(3), torch.tensor([[1, 2], [3, -100], [4, -100]])
    model = build(**KINDS[kind])
    padded = model(features, masks(61, 61, 40, 0), labels=labels)
    others = model(features[:2], masks(61, 61, 40), labels=labels[:2])
    assert padded.lengths.tolist() == [*others.lengths.tolist(), 0]
    assert padded.logits.isfinite().all()
    torch.testing.assert_close(padded.logits[:2], others.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(3 * padded.loss, 2 * others.loss)
    padded.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert model._get_feat_extract_output_lengths(torch.tensor([61, 7, 6, 0])).tolist() == [14, 1, 0, 0]
    assert [model._get_feat_extract_output_lengths(length) for length in (7, 6, 0)] == [1, 0, 0]


@pytest.mark.parametrize("kind", ["relative", "absolute"])
@torch.no_grad()
def test_sequences_may_be_longer_than_the_table(kind):
    features = speech(frames=301)
    short, long = (build(max_source_positions=size, **KINDS[kind]) for size in (10, 500))
    torch.testing.assert_close(short(features).logits, long(features).logits)


@torch.no_grad()
def test_pruned_models_equal_forced_weights():
    features, mask = speech(), masks(61, 61, 40)
    model = build(merge_method="learned_average", attention_branch_drop_rate=1.0, **NO_DROPOUT)
    pruned = model.pruned("mlp")
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in model.parameters())
    dropped = model.train()(features, mask).logits
    torch.testing.assert_close(pruned(features, mask).logits, dropped)
    for layer in model.eval().model.layers[1:]:
        layer.merge.first_score.linear.bias += torch.tensor([0.0, 1e6])
    some = model.pruned("attention", layers=[1, 2])
    assert some.config.branches == ["both", "attention", "attention"]
    torch.testing.assert_close(some(features, mask).logits, model(features, mask).logits)


def test_what_cannot_be_pruned(tmp_path):
    with pytest.raises(ValueError, match="averaged"):
        build().pruned("mlp")
    only_attention = build(merge_method="learned_average").pruned("attention")
    with pytest.raises(ValueError, match="layer 0 has no mlp branch"):
        only_attention.pruned("mlp")
    only_attention.save_pretrained(tmp_path)
    loaded = BranchformerForCTC.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(speech()).logits, only_attention(speech()).logits)


def test_weights_of_branches():
    model = build(merge_method="learned_average", branches=["both", "mlp", "both"])
    batches = [{"input_features": speech(), "attention_mask": masks(61, 61, 40), "labels": None}] * 2
    weights = branch_weights(model, batches)
    assert weights.shape == (4, 3, 2)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(4, 3))
    assert weights[:, 1].tolist() == [[0.0, 1.0]] * 4
    assert len(model(speech(), output_branch_weights=True).branch_weights) == 2
    (axes,) = plot_branch_weights(weights).axes
    drawn = torch.from_numpy(np.stack([line.get_ydata() for line in axes.lines]))
    torch.testing.assert_close(drawn, weights.mean(dim=0).T)
    fixed = branch_weights(build(merge_method="fixed_average", mlp_branch_weight=[0.2, 0.3, 0.4]), batches)
    torch.testing.assert_close(fixed[0], torch.tensor([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]))
    with pytest.raises(ValueError, match="concatenated"):
        branch_weights(build(), batches)


@torch.no_grad()
def test_a_layer_left_out_leaves_its_input():
    model = build(BranchformerModel, drop_path_rate=1 - 1e-12, **NO_DROPOUT).train()
    embedded, _ = model.embeddings(speech())
    torch.testing.assert_close(model(speech()).last_hidden_state, model.norm(embedded))


@torch.no_grad()
def test_attention_alone_is_dropped_as_often_as_asked():
    model = build(BranchformerModel, merge_method="learned_average", attention_branch_drop_rate=0.5).train()
    draws = [model(speech(1, 20), output_branch_weights=True).branch_weights for _ in range(100)]
    dropped = sum(float(weights[0, 0] == 0) for layers in draws for weights in layers)
    assert 110 < dropped < 190  # of 300


@torch.no_grad()
def test_ctc_loss_is_summed_over_texts_and_averaged_over_the_batch():
    model, features, mask = build(), speech(3), masks(61, 61, 50, 14)
    labels = torch.tensor([[1, 2, 3, -100], [4, 4, -100, -100], [5, 5, 5, 5]])  # the last has too few frames
    outputs = model(features, mask, labels=labels)
    log_probabilities = outputs.logits.log_softmax(-1).transpose(0, 1)
    each = [
        nn.functional.ctc_loss(
            log_probabilities[:, i : i + 1],
            labels[i : i + 1, :count],
            outputs.lengths[i : i + 1],
            torch.tensor([count]),
        )
        * count
        for i, count in ((0, 3), (1, 2))
    ]
    torch.testing.assert_close(outputs.loss, sum(each) / 3)


@pytest.mark.parametrize("pooling", ["mean", "max", "first"])
@torch.no_grad()
def test_pooling_takes_real_frames(pooling):
    model = build(BranchformerForAudioClassification, pooling=pooling, num_labels=4)
    mask = masks(61, 61, 40)
    hidden, lengths = model.model(speech(), mask).last_hidden_state[1], model.model.frame_mask(mask).sum(dim=1)
    frames = hidden[: lengths[1]]
    pooled = {"mean": frames.mean(0), "max": frames.amax(0), "first": frames[0]}[pooling]
    torch.testing.assert_close(model(speech(), mask).logits[1], model.classifier(pooled))
    assert model(speech(), masks(61, 61, 0)).logits.isfinite().all()  # of padding alone


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_type": "fast"}, "needs position_embedding_type"),
        ({"qk_norm": True}, "qk_norm=True needs"),
        ({"only_backward_positions": True, "position_embedding_type": "absolute"}, "only_backward_positions"),
        ({"conv_depthwise_kernel_size": 4}, "odd, got 4"),
        ({"intermediate_size": 25}, "even, got 25"),
        ({"branches": ["both"]}, "one for each of 3"),
        ({"merge_method": "fixed_average", "mlp_branch_weight": 1.0}, "name the other in branches"),
        ({"drop_path_rate": 1.0}, r"in \[0, 1\)"),
        ({"num_mel_bins": 6}, "too few"),
        ({"num_attention_heads": 3}, "multiple of num_attention_heads"),
    ],
)
def test_configurations_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        BranchformerConfig(**TINY | fields)


def test_inputs_that_cannot_be():
    model = build()
    with pytest.raises(ValueError, match=r"\(batch, frames, 20\), got shape \(2, 61, 3\)"):
        model(speech()[..., :3])
    with pytest.raises(ValueError, match="6 frames, and conv2d4 needs at least 7"):
        model(speech(frames=6))
    assert model(speech(frames=7)).logits.shape[1] == 1
    with pytest.raises(ValueError, match=r"attention_mask must be .* \(2, 61\)"):
        model(speech(), masks(60, 60, 40))
    for labels, message in ([[1, 9], [2, -100]], "below vocab_size=9.* got 9"), ([1, 2], r"\(batch, tokens\)"):
        with pytest.raises(ValueError, match=f"labels must be {message}"):
            model(speech(), labels=torch.tensor(labels))


def seq2seq() -> BranchformerForSpeechSeq2Seq:
    sizes = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 24}
    return build(BranchformerForSpeechSeq2Seq, **sizes)


@torch.no_grad()
def test_the_hybrid_loss(tmp_path):
    seq2seq().save_pretrained(tmp_path)
    model, mask = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path), masks(61, 61, 40)
    outputs = model(speech(), mask, labels=torch.tensor([[1, 2, 3], [4, 5, -100]]))
    torch.testing.assert_close(outputs.loss, 0.3 * outputs.ctc_loss + 0.7 * outputs.decoder_loss)
    with pytest.raises(ValueError, match="labels or decoder_input_ids"):
        model(speech(), mask)
    with pytest.raises(ValueError, match=r"decoder_input_ids must be \(2, 3\), with the start token before them"):
        model(speech(), mask, decoder_input_ids=torch.ones(2, 2).long(), labels=torch.ones(2, 2).long())
    with pytest.raises(ValueError, match="eos_token_id must lie in"):
        BranchformerSeq2SeqConfig(eos_token_id=4233)


def case(name: str) -> Case:
    return Case.load(PARITY_CASES / "branchformer" / f"{name}.json")


def small(state: dict, **fields) -> BranchformerForCTC:
    return convert("branchformer", "aishell_e24", state, num_attention_heads=4, **fields)


@torch.no_grad()
def test_files_of_all_releases():
    state = case("tiny_learned_ave").checkpoint()
    features = torch.randn(1, 30, 80, generator=torch.Generator().manual_seed(0))
    expected = small(state)(features).logits
    newer = {key.replace("embed.out.0.", "embed.out."): value for key, value in state.items()}
    older = state | {"encoder.embed.out.1.pe": torch.zeros(1, 5000, 64)}
    for file in (newer, older):
        torch.testing.assert_close(small(file)(features).logits, expected)


def test_the_front_end_is_the_files():
    state = case("asr_hybrid_tiny").checkpoint()
    model = small(state, hop_length=160)
    assert isinstance(model, BranchformerForCTC)  # its decoder is left out
    extractor = processor("branchformer", "aishell_e24", model)
    assert (extractor.hop_length, extractor.n_fft, extractor.normalization) == (160, 512, "global")
    assert extractor.mean == state["normalize.mean"].tolist()
    state["frontend.logmel.melmat"] = state["frontend.logmel.melmat"][:, ::-1].copy()
    with pytest.raises(ValueError, match=r"mel filters, .*, are not Slaney"):
        small(state)


def test_files_and_recipes_that_do_not_fit_are_refused():
    state = case("tiny_learned_ave").checkpoint()
    for key in ("encoder.after_norm.bias", "encoder.embed.out.0.weight", "encoder.encoders.1.cgmlp.csgu.conv.weight"):
        others = {name: value for name, value in state.items() if name != key}
        for more in ({}, {key: state[key][None, None]}, {key: state[key][..., :0]}):
            with pytest.raises(ValueError, match="does not fit"):
                small(others | more)
    with pytest.raises(ValueError, match="input_layer must be one of conv2d, conv2d1"):
        encoder_fields({"input_layer": "embed"})


def test_fields_of_a_recipe():
    conf = {"merge_method": "fixed_ave", "cgmlp_weight": [0.3, 0.0, 1.0], "num_blocks": 3, "gate_activation": "swish"}
    fields = encoder_fields(conf | {"rel_pos_type": "legacy", "zero_triu": True, "input_layer": "conv2d8"})
    config = BranchformerConfig(**fields)
    assert config.branches == ["both", "attention", "mlp"]
    assert config.mlp_branch_weight == [0.3, 0.5, 0.5]
    assert (config.position_embedding_type, config.input_layer) == ("legacy_relative", "conv2d8")
    assert (config.gate_act, config.only_backward_positions) == ("silu", False)
    alone = encoder_fields({"use_attn": False, "merge_method": "learned_ave"})
    assert (alone["branches"], alone["merge_method"]) == ("mlp", "concat")
