"""What ESPnet's config.yaml adds to a checkpoint: fields, front end and tokens; from Python and the command line."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor, pipeline

from hf_vits import VitsCtcTokenizer, VitsSpectrogramFeatureExtractor, VitsSpeechProcessor
from hf_vits.cli import main
from hf_vits.conversion import convert, original_fields, processor
from tests.support.paths import PARITY_CASES

from ..parity.golden import Case
from ..support.audio import noise

CASES = PARITY_CASES / "branchformer"
HYBRID = Case.load(CASES / "asr_hybrid_tiny.json")
PIECES = ["▁", "▁the", "▁cat", "▁sat", "s", "at", *"abcdefghijklmnopqrtuvwxyz", "th", "he", "▁s", "▁c", "on", "ma"]
SUBWORDS = ["<blank>", "<unk>", *PIECES, "<sos/eos>"]
CHARACTERS = ["<blank>", "<unk>", "<space>", *"etaoinsh", "我", "<noise>", "<sos/eos>"]
RECIPE = {
    "encoder": "branchformer",
    "encoder_conf": {"output_size": 64, "attention_heads": 4, "cgmlp_linear_units": 128, "num_blocks": 2},
    "decoder": "transformer",
    "decoder_conf": {"attention_heads": 4, "linear_units": 128, "num_blocks": 2, "dropout_rate": 0.2},
    "model_conf": {"ctc_weight": 0.4, "lsm_weight": 0.1},
    "frontend": "default",
    "frontend_conf": {"n_fft": 512, "win_length": 400, "hop_length": 160, "fs": "16k"},
    "normalize": "global_mvn",
    "token_type": "bpe",
    "token_list": SUBWORDS,
}


def converted(recipe: dict, **overrides):
    fields = original_fields("branchformer", recipe, **overrides)
    model = convert("branchformer", "aishell_e24", HYBRID.checkpoint(), **fields)
    return model, processor("branchformer", "aishell_e24", model, recipe)


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """A checkpoint and its config, as ESPnet leaves them."""
    checkpoint, config = tmp_path / "valid.acc.ave.pth", tmp_path / "config.yaml"
    torch.save({key: torch.from_numpy(value) for key, value in HYBRID.checkpoint().items()}, checkpoint)
    config.write_text(yaml.safe_dump(RECIPE))
    return checkpoint, config


def test_the_command_writes_front_end_and_tokens(files, tmp_path):
    checkpoint, config = files
    arguments = ["convert", "branchformer", "aishell_e24", checkpoint, tmp_path / "out", "--original-config", config]
    assert main([str(argument) for argument in arguments]) == 0
    made = AutoProcessor.from_pretrained(tmp_path / "out")
    assert type(made) is VitsSpeechProcessor
    extractor = made.feature_extractor
    assert (extractor.hop_length, extractor.win_length, extractor.normalization) == (160, 400, "global")
    model = AutoModelForCTC.from_pretrained(tmp_path / "out")
    said = pipeline("automatic-speech-recognition", model=str(tmp_path / "out"))(noise(8000))["text"]
    with torch.no_grad():
        logits = model(**made(audio=noise(8000), return_tensors="pt")).logits
    assert said == made.decode_logits(logits)[0]
    assert made.tokenizer.convert_ids_to_tokens(range(len(SUBWORDS))) == SUBWORDS


def test_a_decoder_writes_texts(files, tmp_path):
    checkpoint, config = files
    arguments = ["convert", "branchformer", "aishell_e24", checkpoint, tmp_path / "out", "--original-config", config]
    assert main([*map(str, arguments), "--set", "decoder_layers=2"]) == 0
    model = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "out")
    assert (model.config.ctc_weight, model.config.decoder_dropout) == (0.4, 0.2)
    recognise = pipeline("automatic-speech-recognition", model=str(tmp_path / "out"))
    assert recognise.type == "seq2seq"
    inputs = recognise.feature_extractor(noise(8000), return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=9, num_beams=2)
    found = recognise(noise(8000), generate_kwargs={"max_new_tokens": 9, "num_beams": 2})["text"]
    assert found == recognise.tokenizer.decode(tokens[0], skip_special_tokens=True)
    assert len(found) > 3


def test_a_decoder_may_repeat_a_token_and_ctc_must_say_blank_between():
    tokens = [SUBWORDS.index(piece) for piece in ("▁the", "s", "s")]
    _, of_ctc = converted(RECIPE)
    _, of_decoder = converted(RECIPE, decoder_layers=2)
    assert (of_ctc.tokenizer.decode(tokens), of_decoder.tokenizer.decode(tokens)) == ("thes", "thess")
    logits = torch.nn.functional.one_hot(torch.tensor([tokens]), len(SUBWORDS)).float()
    assert of_decoder.decode_logits(logits) == ["thes"]


def test_a_config_of_classes():
    names = ["yes", "no", "up"]
    recipe = RECIPE | {
        "decoder": "linear_decoder",
        "decoder_conf": {"pooling": "CLS"},
        "token_type": "word",
        "token_list": ["<blank>", "<unk>", *names, "<sos/eos>"],
    }
    fields = original_fields("branchformer", recipe)
    assert (fields["pooling"], list(fields["id2label"].values())) == ("first", names)
    case = Case.load(CASES / "tiny_learned_ave.json")
    encoder = {key: value for key, value in case.checkpoint().items() if not key.startswith("ctc.")}
    head = {"decoder.linear_out.weight": torch.randn(3, 64), "decoder.linear_out.bias": torch.zeros(3)}
    fields |= {"merge_method": "learned_average", "num_hidden_layers": 3}
    model = convert("branchformer", "speech_commands_e24", encoder | head, **fields)
    assert [model.config.id2label[index] for index in range(3)] == names
    extractor = processor("branchformer", "speech_commands_e24", model, recipe | {"normalize": "utterance_mvn"})
    assert isinstance(extractor, VitsSpectrogramFeatureExtractor)
    assert extractor.normalization == "utterance"


@pytest.mark.parametrize(
    ("tokens", "kind", "text", "pieces"),
    [
        (SUBWORDS, "subwords", "the cat sat on", ["▁the", "▁cat", "▁sat", "▁", "on"]),
        (CHARACTERS, "characters", "the 我 sat", ["t", "h", "e", " ", "我", " ", "s", "a", "t"]),
        (["<blank>", "<unk>", "yes", "no", "<sos/eos>"], "words", "no yes no", ["▁no", "▁yes", "▁no"]),
    ],
    ids=["subwords", "characters", "words"],
)
def test_texts_come_back(tokens, kind, text, pieces, tmp_path):
    VitsCtcTokenizer.of_tokens(tokens, kind, group_tokens=False).save_pretrained(tmp_path)
    tokenizer = VitsCtcTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == len(tokens)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == pieces
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, len(tokens) - 1], skip_special_tokens=True) == text
    words = tokenizer.decode([one for token in ids for one in (token, 0)], output_word_offsets=True)["word_offsets"]
    assert [word["word"] for word in words] == text.split()
    assert tokenizer("Q")["input_ids"][-1] == tokenizer.unk_token_id
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (len(tokens) - 1, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "e_branchformer"}, "`encoder: branchformer`, got 'e_branchformer'"),
        ({"frontend": "s3prl"}, "frontend must be one of default, got 's3prl'"),
        ({"frontend_conf": {"fs": "8k"}}, "frontend_conf.fs must be 16000, got 8000"),
        ({"frontend_conf": {"fmax": 7600}}, "frontend_conf.fmax must be None, got 7600"),
        ({"decoder": "rnn"}, "decoder must be one of transformer, got 'rnn'"),
        ({"normalize": "batch"}, "normalize must be one of global_mvn, utterance_mvn, None"),
        ({"token_type": "phn"}, "token_type must be one of char, bpe, word, got 'phn'"),
        ({"token_list": "tokens.txt"}, "no list of tokens: `token_list` is 'tokens.txt'"),
        ({"token_list": SUBWORDS[:-1]}, "39 tokens and the model 40"),
        ({"token_list": [*SUBWORDS[1:], "x"]}, "begin with <blank>, <unk>; got <unk>, ▁, ▁the"),
    ],
)
def test_configs_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        converted(RECIPE | changes, decoder_layers=2)


def test_files_that_are_no_config_are_refused(files, tmp_path, capsys):
    checkpoint, config = files

    def error_of(system: str, variant: str) -> str:
        arguments = ["convert", system, variant, checkpoint, tmp_path / "out", "--original-config", config]
        assert main([str(argument) for argument in arguments]) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "checkpoints of cct need no training configuration" in error_of("cct", "cct_2_3x2_32")
    config.write_text("- a list")
    assert "config.yaml holds no configuration" in error_of("branchformer", "aishell_e24")
    config.write_text("a: [")
    assert "config.yaml is not valid YAML" in error_of("branchformer", "aishell_e24")
