"""Texts that `generate` writes; transformers' source distribution, which conformance takes, has no tests of them."""

import warnings

import pytest
import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache, StaticCache

from hf_vits.models.branchformer.modeling_branchformer_seq2seq import CACHE_NAME, BranchformerForSpeechSeq2Seq

from .test_branchformer import build, masks, speech

SIZES = {"decoder_attention_heads": 2, "decoder_ffn_dim": 24, "mask_convolutions": True, "vocab_size": 30}
LENGTH = 12
WAYS = {
    "greedy": {"do_sample": False},
    "beams": {"num_beams": 4, "num_return_sequences": 3},
    "sampling": {"do_sample": True, "temperature": 2.0, "top_k": 0},
    "sampled_beams": {"do_sample": True, "num_beams": 3},
}
BOTH = {"input_features": speech(), "attention_mask": masks(61, 61, 40)}
KEEP = {"cache": {}, "no_cache": {"use_cache": False}}


def seq2seq(decoder_layers: int = 2, seed: int = 0) -> BranchformerForSpeechSeq2Seq:
    """A decoder whose next token depends on all earlier ones and on the speech."""
    model = build(BranchformerForSpeechSeq2Seq, decoder_layers=decoder_layers, **SIZES)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
            else:  # a constant bias or scale would have every token followed by the same
                parameter.fill_(float(name.endswith("weight")))
    return model


def write(model: BranchformerForSpeechSeq2Seq, inputs: dict, **options) -> dict:
    """Texts and the scores of each step, of sampling with a fixed seed."""
    torch.manual_seed(0)
    options = {"max_new_tokens": LENGTH, "return_dict_in_generate": True, "output_scores": True} | options
    return model.generate(**inputs, **options)


def empty_cache() -> EncoderDecoderCache:
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


@pytest.mark.parametrize("decoder_layers", [2, 5])  # fewer and more than the encoder has
@pytest.mark.parametrize("way", WAYS)
def test_the_cache_changes_no_text(way, decoder_layers):
    model = seq2seq(decoder_layers)
    cached, plain = (write(model, BOTH, **WAYS[way], **keep) for keep in KEEP.values())
    assert CACHE_NAME in cached
    assert CACHE_NAME not in plain
    assert len(plain.sequences.unique()) > 4
    assert torch.equal(cached.sequences, plain.sequences)
    for ours, theirs in zip(cached.scores, plain.scores, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_only_new_tokens_are_computed():
    model, lengths = seq2seq(), []
    model.decoder.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    write(model, BOTH, min_new_tokens=LENGTH)
    assert lengths == [1] * LENGTH


@pytest.mark.parametrize("keep", KEEP)
@torch.no_grad()
def test_greedy_texts_are_what_the_logits_say(keep):
    model = seq2seq()
    text = write(model, BOTH, min_new_tokens=LENGTH, **KEEP[keep]).sequences
    logits = model(**BOTH, decoder_input_ids=text[:, :-1]).logits
    logits[..., model.config.eos_token_id] = -torch.inf  # left out by min_new_tokens
    assert torch.equal(logits.argmax(dim=-1), text[:, 1:])


@pytest.mark.parametrize("way", ["greedy", "beams"])
@pytest.mark.parametrize("keep", KEEP)
def test_padded_speech_gives_the_texts_of_each_alone(way, keep):
    model, options = seq2seq(), WAYS[way] | KEEP[keep] | {"min_new_tokens": LENGTH}
    together = write(model, BOTH, **options).sequences.unflatten(0, (2, -1))
    for features, texts, length in zip(speech(), together, (61, 40), strict=True):
        alone = {"input_features": features[None, :length]}
        assert torch.equal(texts, write(model, alone, **options).sequences)


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@torch.no_grad()
def test_a_call_goes_on_from_the_cache_of_another(name):
    model = seq2seq()
    text = write(model, BOTH).sequences
    whole = model(**BOTH, decoder_input_ids=text).logits
    first = model(**BOTH, decoder_input_ids=text[:, :3], use_cache=True)
    cache = first[CACHE_NAME]
    second = model(**BOTH, decoder_input_ids=text[:, 3:5], **{name: cache})
    third = model(**BOTH, decoder_input_ids=text[:, 5:], **{name: cache})
    logits = torch.cat([first.logits, second.logits, third.logits], dim=1)
    torch.testing.assert_close(logits, whole, atol=1e-4, rtol=1e-4)
    assert cache.get_seq_length() == text.shape[1]


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_generation_goes_on_from_a_given_cache(name):
    model = seq2seq()
    text = write(model, BOTH, min_new_tokens=LENGTH).sequences
    cache = empty_cache()
    begun = write(model, BOTH, max_new_tokens=5, min_new_tokens=5, **{name: cache}).sequences
    assert torch.equal(begun, text[:, :6])
    assert cache.get_seq_length() == 5
    # With a mask of all tokens, transformers leaves out those that the cache holds.
    options = {"max_new_tokens": LENGTH - 5, "min_new_tokens": LENGTH - 5, "decoder_input_ids": begun}
    ended = write(model, BOTH, decoder_attention_mask=torch.ones_like(begun), **options, **{name: cache})
    assert torch.equal(ended.sequences, text)


@torch.no_grad()
def test_beams_reorder_the_cache():
    model = seq2seq()
    beams = write(model, BOTH, num_beams=4, num_return_sequences=4, min_new_tokens=LENGTH)
    moved = [step for step in beams.beam_indices.T if not torch.equal(step, beams.beam_indices[:, 0])]
    assert moved  # some text began in another beam
    inputs = {name: tensor.repeat_interleave(4, dim=0) for name, tensor in BOTH.items()}
    logits = model(**inputs, decoder_input_ids=beams.sequences[:, :-1]).logits
    said = logits.log_softmax(dim=-1).gather(2, beams.sequences[:, 1:, None]).sum(dim=(1, 2))
    torch.testing.assert_close(beams.sequences_scores * LENGTH, said, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("assisted", ["assistant_model", "prompt_lookup_num_tokens"])
def test_assisted_generation_changes_no_text(assisted):
    model = seq2seq()
    helper = {"assistant_model": seq2seq(seed=0) if assisted == "assistant_model" else None}
    if assisted == "assistant_model":
        with torch.no_grad():  # right about some tokens, wrong about others
            helper["assistant_model"].decoder.head.weight.mul_(0.5).add_(0.3)
    else:
        helper = {"prompt_lookup_num_tokens": 2}
    alone = {name: tensor[:1] for name, tensor in BOTH.items()}
    assert torch.equal(write(model, alone, **helper).sequences, write(model, alone, use_cache=False).sequences)


def test_caches_that_cannot_be():
    model = seq2seq()
    token = torch.ones(2, 1).long()
    with pytest.raises(TypeError, match="cache and past_key_values are two names of one argument, got both"):
        model(**BOTH, decoder_input_ids=token, cache=empty_cache(), past_key_values=empty_cache())
    with pytest.raises(TypeError, match="must be an EncoderDecoderCache, got DynamicCache"):
        model(**BOTH, decoder_input_ids=token, cache=DynamicCache())
    static = EncoderDecoderCache(StaticCache(model.config, max_cache_len=9), DynamicCache())
    with pytest.raises(ValueError, match="needs a cache that grows, got one of a fixed length"):
        model(**BOTH, decoder_input_ids=token, cache=static)
    with pytest.raises(ValueError, match="needs a cache that grows, got one of a fixed length"):
        write(model, BOTH, cache_implementation="static")
    model.train().activation_checkpointing_enable()
    with pytest.raises(ValueError, match=r"gradient checkpointing .* leave use_cache"):
        model(**BOTH, decoder_input_ids=token, use_cache=True)


@pytest.mark.parametrize("keep", KEEP)
def test_generation_in_training_mode_with_gradient_checkpointing(keep):
    model = build(
        BranchformerForSpeechSeq2Seq,
        decoder_layers=2,
        decoder_dropout=0.0,
        hidden_dropout_prob=0.0,
        position_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **SIZES,
    )
    expected = write(model, BOTH).sequences
    model.train().activation_checkpointing_enable()
    assert torch.equal(write(model, BOTH, **KEEP[keep]).sequences, expected)


def test_unknown_arguments_are_refused():
    model = seq2seq()
    token = torch.ones(2, 1).long()
    with pytest.raises(TypeError, match=r"BranchformerForSpeechSeq2Seq got unknown arguments past_cache: .* cache,"):
        model(**BOTH, decoder_input_ids=token, past_cache=empty_cache())
    with pytest.raises(TypeError, match="BranchformerDecoder got unknown arguments past_cache"):
        model.decoder(token, torch.zeros(2, 3, 16), past_cache=empty_cache())
    with pytest.raises(ValueError, match="past_cache"):
        write(model, BOTH, past_cache=empty_cache())


def test_the_old_name_of_the_cache_is_deprecated_where_transformers_deprecates_it():
    model, token = seq2seq(), torch.tensor([[1]])
    inputs = {**{name: value[:1] for name, value in BOTH.items()}, "decoder_input_ids": token}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(**inputs, past_key_values=empty_cache())
    assert any("`past_key_values` is deprecated" in str(w.message) for w in caught) == (CACHE_NAME == "cache")
