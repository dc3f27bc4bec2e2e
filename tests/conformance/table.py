"""What the conformance tests run on: a row per form of an architecture, with its tiny configuration."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One form of an architecture.

    Attributes:
        name: start of the names of its test classes.
        architecture: `name` of its row in `hf_vits.auto.ARCHITECTURES`.
        tokens: length of the sequence that its layers see, prefix tokens included.
        config: fields of its configuration; `IMAGE`, `PATCHES` and `TEXT` have the common ones.
        layers: how many it has, where that is not its `num_hidden_layers`.
        attentions: how many attention maps it returns, where that is not one per layer.
    attention: (heads, queries, keys) of the first, where that does not follow from `tokens`.
    maps: (channels, rows, columns) of each hidden state of an encoder in stages; else they are sequences.
        flags: attributes of `ModelTesterMixin` that switch parts of its tests.
        backbone: fields that give the default configuration the four layers that the backbone tests pick from.
        skips: {name of a mixin's test: why it cannot apply}, besides `SKIPS`.
        auto_classes: those of the architecture that this form has a model for, where not all.
    """

    name: str
    architecture: str
    tokens: int
    config: dict[str, Any]
    layers: int | None = None
    attentions: int | None = None
    attention: tuple[int, int, int] | None = None
    maps: tuple[tuple[int, int, int], ...] = ()
    flags: dict[str, bool] = field(default_factory=dict)
    backbone: dict[str, Any] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)
    auto_classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PretrainingRow:
    """One form of a self-supervised model, which is tested with batches as its training makes them.

    Attributes:
        name: start of the names of its test classes.
        architecture: `name` of its row in `hf_vits.auto.PRETRAINING`.
        config: fields of its configuration.
        inputs: what its batches hold, names of `testers.PRETRAINING_INPUTS`.
        tokens: length of the sequence that its layers see, prefix tokens included; None for a model of several passes,
            which returns no hidden states.
        flags, skips: as in `Row`.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    inputs: tuple[str, ...] = ("views", "local_views")
    tokens: int | None = None
    flags: dict[str, bool] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)
    maps: tuple = ()


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
IMAGE = {**TINY, "image_size": 30}
PATCHES = {**IMAGE, "patch_size": 6}  # 5 x 5 of them

SAMPLES, FRAMES = 100, 40  # in a waveform, in a spectrogram
# Without dropout, else two layers do not learn a batch by heart.
WAVES = {"hidden_sizes": [16, 32], "head_dim": 8, "num_random_features": 12}
WAVES |= {"hidden_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}
BINS = {
    "num_mel_bins": 12,
    "num_frames": 10,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 12,
    "intermediate_size": 40,
}
NO_EMBEDDINGS = {"test_model_get_set_embeddings": "samples of a waveform are not embedded"}
RANDOM_FEATURES = {
    "test_init_weights_can_init_buffers": "random features are drawn anew; tests/test_audiomer.py tests that they are"
}
# Random-feature attention has no probabilities.
NO_ATTENTIONS = {"has_attentions": False}
# Of the original's weights, this form does not read all.
UNUSED_CONTEXT = {"test_all_params_have_gradient": False}
WORDS = 12  # in a text
TEXT = {**TINY, "vocab_size": 40, "max_position_embeddings": WORDS}
SPEECH = {**TINY, "num_mel_bins": 20, "conv_depthwise_kernel_size": 7, "vocab_size": 11}
# Where the smallest variant, and so the default configuration, has two.
FOUR_LAYERS = {"num_hidden_layers": 4}
MASKED = {"use_mask_token": True, "encoder_stride": 6}
# A classifier's mask token gets no gradient.
UNUSED_MASK_TOKEN = {"test_all_params_have_gradient": False}
# A classifier reads the regional tokens; the last norm is for the local map that a backbone returns.
UNUSED_LAST_NORM = {"test_all_params_have_gradient": False}

VIDEO = ("AutoModel", "AutoModelForVideoClassification")
VIVIT = {**TINY, "image_size": 16, "num_frames": 4, "tubelet_size": [2, 4, 4]}  # 2 x 4 x 4 tubelets
MVIT_CLIPS = {
    "image_size": 32,
    "num_frames": 4,
    "patch_size": [3, 7, 7],
    "patch_stride": [2, 4, 4],
    "pooling_kernel_size": [3, 3, 3],
    "hidden_sizes": [16, 24, 32],
    "depths": [1, 1, 2],
    "num_attention_heads": [1, 2, 4],
    "key_value_stride": 4,
    "use_class_token": True,
    "initializer": "slowfast",
}

ROWS = (
    Row("ViT", "vit", 1 + 25, {**PATCHES, **MASKED}, flags=UNUSED_MASK_TOKEN),
    Row(
        "ViTBigVision",
        "vit",
        25,
        {
            **PATCHES,
            **MASKED,
            "use_class_token": False,
            "pooling": "map",
            "position_embedding_type": "sincos2d",
        },
        flags=UNUSED_MASK_TOKEN,
    ),
    Row("DeiT", "deit", 1 + 25, PATCHES),
    Row("DeiTDistilled", "deit", 2 + 25, {**PATCHES, "distilled": True}),
    Row(
        "DeiTParallel",
        "deit",
        1 + 4,
        {
            **IMAGE,
            "num_hidden_layers": 1,
            "image_size": 32,
            "patch_size": 16,
            "stem": "hierarchical_mlp",
            "num_parallel_branches": 2,
            "layer_scale_init_value": 0.1,
            "position_embedding_prefix": False,
        },
        attentions=2,
    ),
    Row("Cct", "cct", 8 * 8, {**IMAGE, "conv_hidden_size": 16}, backbone=FOUR_LAYERS),
    Row(
        "CctViTLite",
        "cct",
        1 + 25,
        {
            **IMAGE,
            "kernel_size": 6,
            "stride": 6,
            "padding": 0,
            "num_conv_layers": 1,
            "conv_bias": True,
            "conv_act": None,
            "use_max_pool": False,
            "pooling": "token",
            "position_embedding_type": "sine",
        },
        backbone=FOUR_LAYERS,
    ),
    Row(
        "Cvt",
        "cvt",
        1 + 2 * 2,
        {"image_size": 32, "hidden_sizes": [16, 24, 32], "depths": [1, 1, 2], "num_attention_heads": [1, 2, 4]},
        attentions=4,
        attention=(1, 8 * 8, 4 * 4),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
    Row(
        "CvtWindows",
        "cvt",
        2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "window_size": 3,
            "use_class_token": False,
        },
        attentions=4,
        attention=(1, 3 * 3, 3 * 3),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
    Row(
        "Qna",
        "qna",
        2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "window_depths": [0, 0, 1],
            "num_attention_heads": [1, 2, 4],
            "num_query_heads": [2, 2, 4],
            "window_sizes": [7, 7, 2],
            "kernel_sizes": [3, 3, 3],
        },
        attentions=1,
        attention=(4, 2 * 2, 2 * 2),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
    Row(
        "Coat",
        "coat",
        1 + 2 * 2,
        {
            "image_size": 64,
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [16, 24, 24, 24],
            "mlp_ratios": [2, 2, 2, 2],
            "num_attention_heads": 4,
            "relative_window_heads": [1, 1, 2],
            "num_parallel_layers": 1,
        },
        maps=((16, 16, 16), (16, 16, 16), (24, 8, 8), (24, 4, 4), (24, 2, 2)),
        # Of its final norms, one per scale, those whose class token is not read get no gradient.
        flags={"has_attentions": False, "test_all_params_have_gradient": False},
    ),
    Row(
        "Levit",
        "levit",
        2 * 2,
        {
            "image_size": 80,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "key_dim": 8,
        },
        attentions=6,
        attention=(1, 5 * 5, 5 * 5),
        maps=((16, 5, 5), (16, 5, 5), (24, 3, 3), (32, 2, 2)),
        skips={"test_can_load_ignoring_mismatched_shapes": "expects one head; tests/test_levit.py tests two"},
    ),
    Row(
        "LgTransformer",
        "lg_transformer",
        4 * 4,
        {
            "image_size": 32,
            "depths": [1, 2],
            "hidden_sizes": [16, 24],
            "num_attention_heads": [2, 4],
            "window_size": 4,
            "path_strides": [[1, 2], [1, 2]],
        },
        attentions=6,
        attention=(2, 4 * 4, 4 * 4),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4)),
    ),
    Row(
        "Cmt",
        "cmt",
        2 * 2,
        {
            "image_size": 64,
            "stem_hidden_size": 8,
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 1, 2],
            "num_attention_heads": [1, 2, 2, 4],
            "pooler_hidden_size": 40,
        },
        attentions=5,
        attention=(1, 16 * 16, 2 * 2),
        maps=((8, 16, 16), (8, 16, 16), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
    Row("DeiTLocality", "deit", 1 + 25, {**PATCHES, "feed_forward": "locality"}),
    Row(
        "Pvt",
        "pvt",
        1 + 2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 16, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "mlp_ratios": [2, 2, 2],
            "patch_sizes": [4, 2, 2],
            "sequence_reduction_ratios": [4, 2, 1],
            "squeeze_sizes": [4, 4, 4],
        },
        attentions=4,
        attention=(1, 8 * 8, 2 * 2),
        maps=((16, 8, 8), (16, 8, 8), (16, 4, 4), (32, 2, 2)),
    ),
    Row(
        "SwinLocality",
        "swin",
        4 * 4,
        {
            "image_size": 32,
            "hidden_sizes": [16, 32],
            "depths": [2, 1],
            "num_attention_heads": [2, 4],
            "window_size": 4,
            "feed_forward": "locality",
            "squeeze_sizes": [4, 4],
        },
        attentions=3,
        attention=(2, 4 * 4, 4 * 4),
        maps=((16, 8, 8), (16, 8, 8), (32, 4, 4)),
    ),
    Row(
        "TntLocality",
        "tnt",
        1 + 25,
        {
            **PATCHES,
            "pixel_stride": 3,
            "pixel_hidden_size": 8,
            "pixel_num_attention_heads": 2,
            "pixel_intermediate_size": 16,
            "feed_forward": "locality",
        },
        skips={"test_flex_attention_with_grads": "of a GPU, whose heads have 16 channels or more; pixels' have 4"},
    ),
    Row("T2T", "t2t", 1 + 2 * 2, {**IMAGE, "token_size": 8}),
    Row("T2TLocality", "t2t", 1 + 2 * 2, {**IMAGE, "token_size": 8, "feed_forward": "locality"}),
    Row(
        "Mvit",
        "mvit",
        2 * 2,
        {"image_size": 32, "hidden_sizes": [16, 24, 32], "depths": [1, 1, 2], "num_attention_heads": [1, 2, 4]},
        attentions=4,
        attention=(1, 8 * 8, 2 * 2),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
    Row(
        "MvitV1",
        "mvit",
        1 + 2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "use_class_token": True,
            "position_embedding_type": "absolute",
            "expand_in_attention": False,
            "pool_all_queries": False,
            "residual_pooling": False,
            "initializer": "slowfast",
        },
        attentions=4,
        attention=(1, 1 + 8 * 8, 1 + 2 * 2),
        maps=((16, 8, 8), (24, 8, 8), (32, 4, 4), (32, 2, 2)),
    ),
    Row(
        "MvitClips",
        "mvit",
        1 + 2 * 2 * 2,
        MVIT_CLIPS,
        attentions=4,
        attention=(1, 1 + 2 * 8 * 8, 1 + 2 * 2 * 2),
        maps=((16, 2, 8, 8), (16, 2, 8, 8), (24, 2, 4, 4), (32, 2, 2, 2)),
        auto_classes=VIDEO,
    ),
    Row(
        "MvitV1Clips",
        "mvit",
        1 + 2 * 2 * 2,
        {
            **MVIT_CLIPS,
            "position_embedding_type": "absolute",
            "expand_in_attention": False,
            "pool_all_queries": False,
            "residual_pooling": False,
        },
        attentions=4,
        attention=(1, 1 + 2 * 8 * 8, 1 + 2 * 2 * 2),
        maps=((16, 2, 8, 8), (24, 2, 8, 8), (32, 2, 4, 4), (32, 2, 2, 2)),
        auto_classes=VIDEO,
    ),
    Row("Vivit", "vivit", 1 + 2 * 16, VIVIT),
    Row(
        "VivitUniformFrames",
        "vivit",
        3 * 16,
        {**VIVIT, "tubelet_size": [1, 4, 4], "num_sampled_frames": 3, "pooling": "mean"},
    ),
    Row(
        "VivitFactorizedEncoder",
        "vivit",
        1 + 2,
        {**VIVIT, "attention_type": "factorized_encoder", "num_hidden_layers": 1, "num_temporal_layers": 1},
        layers=2,
        attentions=2,
        attention=(4, 1 + 16, 1 + 16),
    ),
    Row(
        "VivitFactorizedSelfAttention",
        "vivit",
        2 * 16,
        {
            **VIVIT,
            "num_hidden_layers": 1,
            "attention_type": "factorized_self_attention",
            "attention_order": "space_time",
            "pooling": "mean",
        },
        attentions=2,
        attention=(4, 16, 16),
    ),
    Row(
        "VivitFactorizedDotProduct",
        "vivit",
        2 * 16,
        {**VIVIT, "num_hidden_layers": 1, "attention_type": "factorized_dot_product", "pooling": "mean"},
        attentions=2,
        attention=(2, 16, 16),
    ),
    Row(
        "Audiomer",
        "audiomer",
        62,
        WAVES,
        maps=((1, 228), (16, 117), (32, 62)),
        flags=NO_ATTENTIONS,
        skips=NO_EMBEDDINGS | RANDOM_FEATURES,
    ),
    Row(
        "AudiomerReleased",
        "audiomer",
        62,
        {**WAVES, "attention_type": "self"},
        maps=((1, 228), (16, 117), (32, 62)),
        flags={**NO_ATTENTIONS, **UNUSED_CONTEXT},
        skips=NO_EMBEDDINGS | RANDOM_FEATURES,
    ),
    Row(
        "AudiomerConvolutions",
        "audiomer",
        30,
        {**WAVES, "use_attention": False, "use_squeeze_excitation": False, "pooling": "mean"},
        maps=((1, 100), (16, 53), (32, 30)),
        flags={**NO_ATTENTIONS, **UNUSED_CONTEXT},
        skips=NO_EMBEDDINGS
        | {"test_retain_grad_hidden_states_attentions": "its first hidden state is the waveform, without gradient"},
    ),
    Row("SepTr", "septr", 1 + 120, BINS, attentions=4, attention=(2, 13, 13), maps=((32, 12, 10),) * 3),
    Row(
        "SepTrTimeFirst",
        "septr",
        1 + 6 * 3,
        {**BINS, "axes": ["time", "frequency"], "pool_size": [2, 3], "num_attention_heads": 1, "head_dim": 32},
        attentions=4,
        attention=(1, 4, 4),
        maps=((32, 6, 3),) * 3,
    ),
    Row(
        "RegionViT",
        "regionvit",
        2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 16, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "window_size": 2,
        },
        attentions=8,
        attention=(1, 4 * 4, 4 * 4),
        maps=((16, 8, 8), (16, 8, 8), (16, 4, 4), (32, 2, 2)),
    ),
    Row(
        "RegionViTPadded",
        "regionvit",
        3 * 3,
        {
            "image_size": 36,
            "hidden_sizes": [16, 32],
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "patch_size": 6,
            "window_size": 5,
            "num_conv_layers": 1,
            "use_conv_position_embedding": True,
            "use_stage_norm": True,
        },
        attentions=4,
        attention=(1, 2 * 2, 2 * 2),
        maps=((16, 6, 6), (16, 6, 6), (32, 3, 3)),
        flags=UNUSED_LAST_NORM,
    ),
    Row(
        "LocallySag",
        "locally_sag",
        2 * 2,
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 1, 2],
            "num_attention_heads": [1, 2, 4],
            "patch_size": 4,
            "patch_stride": 4,
            "patch_padding": 0,
        },
        attentions=4,
        attention=(1, 1, 10),
        maps=((16, 8, 8), (16, 8, 8), (24, 4, 4), (32, 2, 2)),
    ),
    Row("Branchformer", "branchformer", 9, SPEECH),
    Row(
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
    Row(
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
    Row(
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
    Row("SiTTokens", "sit_classifier", 2 + 25, {**PATCHES, "distilled": True}),
    Row("SiTTokenAndMean", "sit_classifier", 1 + 25, {**PATCHES, "distilled": False, "head": "token_and_mean"}),
    Row("CctText", "cct_text", 7, {**TEXT, "word_embedding_size": 16, "kernel_size": 2}),
    Row(
        "CctTextTransformerLite",
        "cct_text",
        1 + WORDS,
        {
            **TEXT,
            "word_embedding_size": 32,
            "use_convolution": False,
            "pooling": "token",
            "position_embedding_type": "learned",
        },
        skips={"test_flex_attention_with_grads": "of a GPU; widens the layers, but not the words that they read"},
    ),
)

# Backbones of self-supervised models, and their heads.
TINY_DEIT = {"model_type": "hf_vits_deit", **PATCHES}
TINY_SWIN = {
    "model_type": "hf_vits_swin",
    "image_size": 32,
    "hidden_sizes": [16, 32],
    "depths": [2, 1],
    "num_attention_heads": [2, 4],
    "window_size": 4,
    "squeeze_sizes": [4, 4],
    "shift_like": "image_size",
}
TINY_HEAD = {"num_prototypes": 12, "head_hidden_size": 20, "head_bottleneck_size": 8}
TINY_IBOT = {**TINY_HEAD, "num_patch_prototypes": 12}
TINY_DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}
TINY_SIT = {"head_hidden_size": 20, "embedding_size": 8}
MASKED_VIEWS = ("views", "local_views", "patch_masks")
CORRUPTED_VIEWS = ("views", "corrupted_views")

PRETRAINING_ROWS = (
    PretrainingRow("MAE", "mae", {**PATCHES, **TINY_DECODER}, inputs=("images", "noise"), tokens=1 + 6),
    PretrainingRow("DINO", "dino", {"backbone_config": TINY_DEIT, **TINY_HEAD}),
    PretrainingRow("DINOSwin", "dino", {"backbone_config": TINY_SWIN, **TINY_HEAD}),
    PretrainingRow(
        "IBOT", "ibot", {"backbone_config": TINY_DEIT | {"use_mask_token": True}, **TINY_IBOT}, inputs=MASKED_VIEWS
    ),
    PretrainingRow(
        "IBOTSwinTwoHeads",
        "ibot",
        {
            "backbone_config": TINY_SWIN | {"use_mask_token": True},
            **TINY_IBOT,
            "share_head": False,
            "share_teacher_head": False,
        },
        inputs=MASKED_VIEWS,
    ),
    PretrainingRow("EsViT", "esvit", {"backbone_config": TINY_SWIN, **TINY_HEAD}),
    PretrainingRow("EsViTViews", "esvit", {"backbone_config": TINY_DEIT, **TINY_HEAD, "use_regions": False}),
    PretrainingRow("SiT", "sit", {"backbone_config": TINY_DEIT, **TINY_SIT}, inputs=CORRUPTED_VIEWS),
    PretrainingRow(
        "SiTRotation",
        "sit",
        {
            "backbone_config": TINY_DEIT | {"distilled": True},
            **TINY_SIT,
            "momentum_teacher": False,
            "tasks": ["rotation", "contrastive", "reconstruction"],
            "head": "mlp",
            "weighting": "inverse_square",
        },
        inputs=(*CORRUPTED_VIEWS, "rotations"),
    ),
)
# Of a model of several passes: the tests of what it returns of its layers.
SEVERAL_PASSES = dict.fromkeys(
    (
        "test_attention_outputs",
        "test_hidden_states_output",
        "test_retain_grad_hidden_states_attentions",
        "test_eager_matches_sdpa_inference",
        "test_can_capture_specific_layers_hidden_states",
    ),
    "views of several sizes pass two backbones, with no one sequence of states; an exported backbone returns its own",
)

VOCABULARY_TESTS = (
    "test_resize_tokens_embeddings",
    "test_resize_embeddings_untied",
    "test_resize_embeddings_untied_no_reinit_on_post_init",
)
ANY_INPUT = {
    "test_sdpa_can_dispatch_composite_models": "no model here is composite",
    "test_resize_position_vector_embeddings": "position tables are resized with the input, not in advance",
}
# {main input: {test: reason}} of tests that the mixins skip themselves, with reasons that would mislead here.
SKIPS = {
    "pixel_values": {**ANY_INPUT, **dict.fromkeys(VOCABULARY_TESTS, "images have no vocabulary")},
    "input_ids": ANY_INPUT,
    "input_values": {**ANY_INPUT, **dict.fromkeys(VOCABULARY_TESTS, "waveforms have no vocabulary")},
    "input_features": {**ANY_INPUT, **dict.fromkeys(VOCABULARY_TESTS, "spectrograms have no vocabulary")},
}

# Fields of the image processors, one form per convention; each ends in 20 x 20 pixels.
IMAGE_PROCESSORS = {
    "Torchvision": {"size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 20}},
    "VisionTransformer": {
        "convention": "vision_transformer",
        "size": {"height": 20, "width": 20},
        "do_center_crop": False,
        "resample": 2,
    },
    "BigVision": {
        "convention": "big_vision",
        "size": {"shortest_edge": 24},
        "crop_size": {"height": 20, "width": 20},
        "resample": 4,
    },
}

# Fields of the video processors, one form per convention.
VIDEO_PROCESSORS = {
    "Slowfast": {"convention": "slowfast"},
    "SlowfastSegments": {"convention": "slowfast_segments"},
    "Scenic": {"convention": "scenic", "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
}
