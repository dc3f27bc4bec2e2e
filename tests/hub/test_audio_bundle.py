"""The bundled code of audio models and their processors, without hf_vits installed."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoProcessor

from hf_vits import (
    BranchformerForSpeechSeq2Seq,
    BranchformerSeq2SeqConfig,
    VitsCtcTokenizer,
    VitsSpeechProcessor,
    conversion,
)
from hf_vits.hub import push_to_hub, save_for_hub
from hf_vits.testing.hub import LoopbackHub

from ..cli.test_audio_pipelines import speech_model, tiny_pictures, tiny_speech, tiny_waveforms
from ..support.audio import noise
from ..support.hub import AUDIO, run_without_hf_vits, tiny_model

CLIPS = [noise(8000, 1), noise(6001, 2)]
WRITING = {"max_new_tokens": 6, "num_beams": 2}

LOAD_EVERYTHING = """
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (
    AutoFeatureExtractor, AutoModelForAudioClassification, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor,
    AutoTokenizer, pipeline
)

clips = [clip for clip in np.load("clips.npz").values()]
results = {}
for name in ("audiomer", "septr", "hip"):
    extractor = AutoFeatureExtractor.from_pretrained(f"user/{name}", trust_remote_code=True)
    inputs = extractor(clips, return_tensors="pt")
    model = AutoModelForAudioClassification.from_pretrained(f"user/{name}", trust_remote_code=True)
    with torch.no_grad():
        results[f"{name}.logits"] = model(**inputs).logits
    results |= {f"{name}.{key}": value for key, value in inputs.items()}

processor = AutoProcessor.from_pretrained("user/branchformer", trust_remote_code=True)
assert type(processor).__module__.startswith("transformers_modules.")
assert type(processor.tokenizer).__name__ == "VitsCtcTokenizer"
inputs = processor(audio=clips, text=["the cat", "a"], return_tensors="pt")
results |= {f"branchformer.{key}": value for key, value in inputs.items()}
model = AutoModelForCTC.from_pretrained("user/branchformer", trust_remote_code=True)
del inputs["labels"]
with torch.no_grad():
    results["branchformer.logits"] = model(**inputs).logits
alone = AutoTokenizer.from_pretrained("user/branchformer", trust_remote_code=True)
assert alone.decode([0, 5, 5, 0, 5]) == processor.tokenizer.decode([0, 5, 5, 0, 5])
recognise = pipeline("automatic-speech-recognition", model="user/branchformer", trust_remote_code=True)
print(recognise(clips[0])["text"])
processor.save_pretrained("again")
model.save_pretrained("again")
again = AutoProcessor.from_pretrained("again", trust_remote_code=True)
AutoModelForCTC.from_pretrained("again", trust_remote_code=True)
assert again.tokenizer("the cat")["input_ids"] == processor.tokenizer("the cat")["input_ids"]
processor = AutoProcessor.from_pretrained("user/branchformer_seq2seq", trust_remote_code=True)
model = AutoModelForSpeechSeq2Seq.from_pretrained("user/branchformer_seq2seq", trust_remote_code=True)
results["branchformer_seq2seq.written"] = model.generate(**processor(audio=clips[:1], return_tensors="pt"), **WRITING)
assert not processor.tokenizer.group_tokens
assert "hf_vits" not in sys.modules
save_file(results, "results.safetensors")
"""


def models_and_processors():
    audiomer = tiny_model("audiomer", "AutoModelForAudioClassification")
    septr = tiny_model("septr", "AutoModelForAudioClassification")
    speech = speech_model()
    hip = tiny_model("hip", "AutoModelForAudioClassification", modalities=[["waveform", 1000, 8]], datasets=None)
    return {
        "audiomer": (audiomer, tiny_waveforms()),
        "septr": (septr, tiny_pictures(septr.config)),
        "branchformer": (speech, tiny_speech(speech.config)),
        "hip": (hip, conversion.processor("hip", "hip_mini", hip)),
    }


def hybrid_and_processor() -> tuple[BranchformerForSpeechSeq2Seq, VitsSpeechProcessor]:
    """Return a model with a decoder for texts, and its processor."""
    tokenizer = VitsCtcTokenizer.of_tokens(
        ["<blank>", "<unk>", "<space>", *"abcdefgh", "<sos/eos>"], "characters", group_tokens=False
    )
    sizes = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    model = BranchformerForSpeechSeq2Seq(BranchformerSeq2SeqConfig(**AUDIO["branchformer"] | sizes)).eval()
    return model, VitsSpeechProcessor(tiny_speech(model.config).feature_extractor, tokenizer)


def test_loads_where_hf_vits_cannot_be_imported(tmp_path):
    made = models_and_processors()
    np.savez(tmp_path / "clips.npz", *CLIPS)
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        for name, (model, processor) in made.items():
            push_to_hub(model, f"user/{name}", processor, token=hub.token)
        hybrid, processor = hybrid_and_processor()
        push_to_hub(hybrid, "user/branchformer_seq2seq", processor, token=hub.token)
        card = hub.repository("user/branchformer_seq2seq").head.files["README.md"].content.decode()
        assert 'tokens = model.generate(**processor(audio="audio.wav", return_tensors="pt"))' in card
        printed = run_without_hf_vits(f"WRITING = {WRITING}\n{LOAD_EVERYTHING}", hub, tmp_path)
    written = hybrid.generate(**processor(audio=CLIPS[:1], return_tensors="pt"), **WRITING)
    results = load_file(tmp_path / "results.safetensors")
    assert torch.equal(results["branchformer_seq2seq.written"], written)
    for name, (model, processor) in made.items():
        inputs = processor(CLIPS, return_tensors="pt")  # the first argument of a joint processor is audio too
        for key, value in inputs.items():
            assert torch.equal(results[f"{name}.{key}"], value)
        with torch.no_grad():
            torch.testing.assert_close(results[f"{name}.logits"], model(**inputs).logits)
    _, processor = made["branchformer"]
    assert results["branchformer.labels"][0].tolist() == processor.tokenizer("the cat")["input_ids"]
    tokens = results["branchformer.logits"][0].argmax(dim=-1)
    assert printed.splitlines()[-1] == processor.tokenizer.decode(tokens)


def test_pulled_where_hf_vits_is_installed_its_own_classes_serve(tmp_path):
    model, processor = models_and_processors()["branchformer"]
    save_for_hub(model, tmp_path / "bundled", processor)
    loaded = AutoProcessor.from_pretrained(tmp_path / "bundled")
    assert type(loaded) is VitsSpeechProcessor
    loaded.save_pretrained(tmp_path / "again")
    for name in ("processor_config.json", "tokenizer_config.json"):
        assert "auto_map" in (tmp_path / "bundled" / name).read_text()
        assert "auto_map" not in (tmp_path / "again" / name).read_text()


@pytest.mark.parametrize("name", ["audiomer", "branchformer"])
def test_bundle_can_be_left_out(name, tmp_path):
    model, processor = models_and_processors()[name]
    save_for_hub(model, tmp_path / "bare", processor, bundle=False)
    assert not list((tmp_path / "bare").glob("*.py"))
    assert all("auto_map" not in path.read_text() for path in (tmp_path / "bare").glob("*.json"))
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path / "bare")).__name__.startswith("Vits")
