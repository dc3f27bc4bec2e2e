"""Tiny forms of the architecture, on which the conformance tests run, and the one that the other shared tests use."""

from tests.support.forms import LAYERS, Form

SPEECH = {**LAYERS, "num_mel_bins": 20, "conv_depthwise_kernel_size": 7, "vocab_size": 11}
FORMS = (
    Form("Branchformer", "branchformer", 9, SPEECH),
    Form(
        "BranchformerAverage",
        "branchformer",
        5,
        {
            **SPEECH,
            "input_layer": "conv2d6",
            "position_embedding_type": "absolute",
            "qk_norm": True,
            "merge_method": "learned_average",
        },
    ),
    Form(
        "BranchformerFast",
        "branchformer",
        40,
        {
            **SPEECH,
            "input_layer": "linear",
            "attention_type": "fast",
            "position_embedding_type": "scaled_absolute",
            "use_gate_linear": True,
            "mask_convolutions": True,
        },
        flags={"has_attentions": False},
    ),
    Form(
        "BranchformerSeq2Seq",
        "branchformer_seq2seq",
        9,
        {**SPEECH, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 40},
        flags={"is_encoder_decoder": True},
        skips={
            "test_encoder_decoder_loss_no_double_shift": "labels are texts alone, to which the model adds start and "
            "end; the golden case asr_hybrid_tiny has the loss",
            "test_flex_attention_with_grads": "of a GPU; reads a mask of the texts, which these inputs do not have",
        },
    ),
)

TINY = {
    "num_mel_bins": 12,
    "n_fft": 256,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_depthwise_kernel_size": 7,
}
