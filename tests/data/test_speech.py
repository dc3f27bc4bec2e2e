"""Tokens of speech recognition: learned from texts, decoded greedily or by beam search, saved, joined to audio."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer

from hf_vits import VitsCtcTokenizer, VitsSpectrogramFeatureExtractor, VitsSpeechProcessor

from ..support.audio import noise

TEXTS = ["the cat sat on the mat", "a dog saw the cat", "the sea  the sea"]


@pytest.fixture(scope="module")
def characters():
    return VitsCtcTokenizer.train_characters(TEXTS)


@pytest.fixture(scope="module")
def subwords():
    return VitsCtcTokenizer.train_bpe(TEXTS, vocab_size=30)


@pytest.fixture(scope="module")
def processor(characters):
    return VitsSpeechProcessor(VitsSpectrogramFeatureExtractor(), characters)


def test_a_token_per_character(characters):
    tokens = characters.convert_ids_to_tokens(range(len(characters)))
    assert tokens == ["<blank>", "<unk>", *sorted(set("".join(TEXTS)))]
    ids = characters("a cat")["input_ids"]
    assert characters.convert_ids_to_tokens(ids) == ["a", " ", "c", "a", "t"]
    assert characters("xat")["input_ids"][0] == characters.unk_token_id == 1


@pytest.mark.parametrize("name", ["characters", "subwords"])
def test_texts_come_back(name, request):
    tokenizer = request.getfixturevalue(name)
    for text in ("the cat sat on the mat", "a", "see  the mat "):
        ids = tokenizer(text)["input_ids"]
        assert 0 not in ids
        assert tokenizer.decode(ids, group_tokens=False) == " ".join(text.split())


def test_subwords_are_fewer_and_within_the_size_asked_for(characters, subwords):
    assert len(subwords) <= 30
    assert len(subwords(TEXTS[0])["input_ids"]) < len(characters(TEXTS[0])["input_ids"])
    with pytest.raises(ValueError, match=r"vocab_size of at least \d+, got 5"):
        VitsCtcTokenizer.train_bpe(TEXTS, vocab_size=5)


def test_texts_of_many_scripts_and_lowercase():
    texts = ["Ça va?", "我 爱 你", "naïve"]
    tokenizer = VitsCtcTokenizer.train_characters(texts)
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"], group_tokens=False) == text
    lower = VitsCtcTokenizer.train_characters(texts, lowercase=True)
    assert lower.decode(lower("ÇA VA?")["input_ids"], group_tokens=False) == "ça va?"


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_nothing_to_learn_from(texts):
    with pytest.raises(ValueError, match="without a character"):
        VitsCtcTokenizer.train_characters(texts)
    with pytest.raises(TypeError, match="list of texts, got one string"):
        VitsCtcTokenizer.train_characters("the cat")


def frames(tokenizer, spoken: str) -> list[int]:
    """Tokens per frame; an underscore is blank."""
    return [0 if character == "_" else tokenizer.convert_tokens_to_ids(character) for character in spoken]


def test_repeats_count_once_and_blanks_not_at_all(characters):
    assert characters.decode(frames(characters, "__tt_hhe__  se_eaa_")) == "the seea"
    assert characters.decode(torch.tensor([frames(characters, "_"), frames(characters, "a")])) == ["", "a"]
    assert characters.decode([]) == ""


def test_when_words_are_said(characters, subwords):
    decoded = characters.decode(frames(characters, "_tthe__ _ccat"), output_word_offsets=True)
    assert decoded["text"] == "the cat"
    assert decoded["word_offsets"] == [
        {"word": "the", "start_offset": 1, "end_offset": 5},
        {"word": "cat", "start_offset": 9, "end_offset": 13},
    ]
    ids = subwords("the cat")["input_ids"]
    said = [token for one in ids for token in (one, one, 0)]
    decoded = subwords.decode(said, output_word_offsets=True, output_char_offsets=True)
    assert [word["word"] for word in decoded["word_offsets"]] == ["the", "cat"]
    assert decoded["word_offsets"][0]["start_offset"] == 0
    assert decoded["word_offsets"][-1]["end_offset"] == len(said) - 1
    assert "".join(piece["char"] for piece in decoded["char_offsets"]) == " the cat"


def most_probable_text(logits: torch.Tensor) -> tuple[int, ...]:
    """By adding up all paths."""
    probabilities = logits.softmax(dim=-1).numpy()
    totals = defaultdict(float)
    for path in itertools.product(range(probabilities.shape[1]), repeat=len(probabilities)):
        text = tuple(token for token, _ in itertools.groupby(path) if token)
        totals[text] += float(np.prod(probabilities[range(len(path)), path]))
    return max(totals, key=totals.get)


def test_beam_search_finds_the_most_probable_text():
    tokenizer = VitsCtcTokenizer.train_characters(["ab"])
    generator = torch.Generator().manual_seed(0)
    differs = 0
    for _ in range(20):
        logits = torch.randn(1, 5, len(tokenizer), generator=generator)
        logits[..., 1] = -30  # not the unknown token, which texts leave out
        expected = tokenizer.decode(list(most_probable_text(logits[0])), group_tokens=False)
        assert tokenizer.decode_logits(logits, num_beams=100) == [expected]
        differs += tokenizer.decode_logits(logits) != [expected]
    assert differs > 2  # from what greedy decoding says


def test_logits_of_a_padded_batch(characters):
    logits = torch.nn.functional.one_hot(
        torch.tensor([frames(characters, "_cat_"), frames(characters, "dogsa")]), len(characters)
    ).float()
    logits = logits * 20
    assert characters.decode_logits(logits, torch.tensor([5, 3])) == ["cat", "dog"]
    assert characters.decode_logits(logits, torch.tensor([5, 3]), num_beams=4) == ["cat", "dog"]
    assert characters.decode_logits(logits, torch.tensor([5, 0]), num_beams=4) == ["cat", ""]


def test_bad_logits(characters):
    with pytest.raises(ValueError, match=r"at least 15 tokens\), got \(1, 5, 3\)"):
        characters.decode_logits(torch.zeros(1, 5, 3))
    with pytest.raises(ValueError, match="num_beams must be at least 1, got 0"):
        characters.decode_logits(torch.zeros(1, 5, 20), num_beams=0)
    with pytest.raises(ValueError, match="not all finite"):
        characters.decode_logits(torch.full((1, 5, 20), torch.nan), num_beams=2)


@pytest.mark.parametrize("name", ["characters", "subwords"])
def test_saved_and_loaded_it_is_the_same(name, request, tmp_path):
    tokenizer = request.getfixturevalue(name)
    tokenizer.save_pretrained(tmp_path)
    loaded = VitsCtcTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded("the cat")["input_ids"] == tokenizer("the cat")["input_ids"]
    assert loaded.decode([0, 5, 5, 0, 5]) == tokenizer.decode([0, 5, 5, 0, 5])
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is VitsCtcTokenizer


def test_processor_gives_inputs_and_labels(processor):
    batch = processor(audio=[noise(8000), noise(5000)], text=["the cat", "a"], return_tensors="pt")
    assert set(batch) == set(processor.model_input_names) == {"input_features", "attention_mask", "labels"}
    assert batch["labels"][0].tolist() == processor.tokenizer("the cat")["input_ids"]
    assert batch["labels"][1].tolist() == [*processor.tokenizer("a")["input_ids"], *[-100] * 6]
    alone = processor(audio=noise(8000), sampling_rate=8000, text="a")
    assert alone["labels"] == [processor.tokenizer("a")["input_ids"]]
    assert processor(text="the cat")["input_ids"] == processor.tokenizer("the cat")["input_ids"]


def test_processor_asks_for_as_many_texts_as_clips(processor):
    with pytest.raises(ValueError, match="got neither"):
        processor()
    with pytest.raises(ValueError, match=r"a text for each of 2 clip\(s\), got 1"):
        processor(audio=[noise(8000), noise(5000)], text="a")


def test_processor_saved_and_loaded(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is VitsSpeechProcessor
    assert loaded.feature_extractor.to_dict() == processor.feature_extractor.to_dict()
    assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    logits = torch.randn(2, 30, len(processor.tokenizer))
    assert loaded.decode_logits(logits) == processor.decode_logits(logits)
