"""Branchformer (arXiv 2207.02971), for speech: encoder with CTC, and the hybrid with a decoder."""

from hf_vits.architecture import SPEECH, Architecture, audio_architecture

ARCHITECTURES = [
    audio_architecture(__name__, "Branchformer", SPEECH, AutoModelForCTC="ForCTC"),
    Architecture(
        __name__,
        "branchformer_seq2seq",
        "BranchformerSeq2SeqConfig",
        {"AutoModelForSpeechSeq2Seq": "BranchformerForSpeechSeq2Seq"},
        SPEECH,
    ),
]
