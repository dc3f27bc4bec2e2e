"""VATT beyond what golden cases and conformance show."""

import multiprocessing

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from hf_vits import (
    VattAudioConfig,
    VattAudioModel,
    VattConfig,
    VattForAudioClassification,
    VattForImageClassification,
    VattForPreTraining,
    VattForVideoClassification,
    VattModel,
    VattProcessor,
    VattTextConfig,
    VattTextModel,
    VattTokenizer,
    VattVideoConfig,
    VattVideoModel,
    VitsVideoProcessor,
    VitsWaveformFeatureExtractor,
)
from hf_vits.conversion import convert
from hf_vits.conversion.systems.vatt import SUFFIX
from hf_vits.conversion.systems.vatt import sounds as sounds_processor
from hf_vits.layers.position import interpolate_positions
from hf_vits.models.vatt.contrastive_vatt import contrastive_loss
from hf_vits.models.vatt.modeling_vatt import VattBatchNorm
from hf_vits.objectives import FrequencyBalancedCrossEntropy

from ...support.video import encode, numbered
from .forms import ABSOLUTE, CLIPS, PROJECTED, SPACES, TEXTS, WAVES

SPECTROGRAMS = {key: value for key, value in WAVES.items() if key not in ("patch_size", "num_samples")}
SPECTROGRAMS |= {"input_type": "spectrogram", "patch_size": [4, 3], "num_frames": 8, "num_mel_bins": 6}
PARTS = {"video_config": CLIPS, "audio_config": WAVES, "text_config": TEXTS}
AGNOSTIC_PARTS = {
    "shared_encoder": True,
    "video_config": CLIPS | PROJECTED,
    "audio_config": WAVES | PROJECTED,
    "text_config": TEXTS | PROJECTED | ABSOLUTE,
}


def randomised(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


def build(model_class=VattForPreTraining, **fields):
    torch.manual_seed(0)
    return randomised(model_class(model_class.config_class(**fields)))


def clips(batch: int = 2, frames: int = 4, side: int = 16) -> torch.Tensor:
    return torch.randn(batch, frames, 3, side, side, generator=torch.Generator().manual_seed(1))


def sounds(batch: int = 2, samples: int = 96) -> torch.Tensor:
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(2))


def words(texts: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(1, 50, (texts, length), generator=torch.Generator().manual_seed(3))


def batch(candidates: int = 2) -> dict[str, torch.Tensor]:
    texts = words(2 * candidates).unflatten(0, (2, candidates))
    return {"pixel_values": clips(), "input_values": sounds(), "input_ids": texts}


@pytest.fixture(scope="module")
def pretrained() -> VattForPreTraining:
    return build(**SPACES, **PARTS)


@pytest.fixture(scope="module")
def agnostic() -> VattForPreTraining:
    return build(**SPACES, **AGNOSTIC_PARTS)


# Inputs


@torch.no_grad()
def test_what_fills_no_patch_at_the_end_is_left_out():
    video, audio, spectra = (
        build(cls, **fields)
        for cls, fields in ((VattVideoModel, CLIPS), (VattAudioModel, WAVES), (VattAudioModel, SPECTROGRAMS))
    )
    longer = clips(frames=5, side=21)
    right = video(longer[:, :4, :, :16, :16]).last_hidden_state
    torch.testing.assert_close(video(longer).last_hidden_state, right)
    wave = sounds(samples=99)
    torch.testing.assert_close(audio(wave).pooler_output, audio(wave[:, :96]).pooler_output)
    features = torch.rand(2, 10, 8, generator=torch.Generator().manual_seed(4))
    right = spectra(input_features=features[:, :8, :6]).pooler_output
    torch.testing.assert_close(spectra(input_features=features).pooler_output, right)


@pytest.mark.parametrize(
    ("model_class", "fields", "inputs", "error", "message"),
    [
        (VattVideoModel, CLIPS, {"pixel_values": clips(frames=1)}, ValueError, "1 frames of 16x16 pixels is smaller"),
        (VattVideoModel, CLIPS, {"pixel_values": clips()[:, 0]}, ValueError, r"must be clips \(batch, frames, 3"),
        (VattVideoModel, CLIPS, {"pixel_values": clips()[:, :, :2]}, ValueError, "must be clips"),
        (VattVideoModel, CLIPS, {"pixel_values": clips().byte()}, TypeError, "must be floating point"),
        (VattAudioModel, WAVES, {"input_values": sounds(samples=7)}, ValueError, "at least 8 long, got shape"),
        (VattAudioModel, WAVES, {"input_values": sounds().long()}, TypeError, "must be floating point"),
        (
            VattAudioModel,
            WAVES,
            {"input_features": clips()[:, 0, 0]},
            ValueError,
            "for waveforms, got no input_values",
        ),
        (VattAudioModel, SPECTROGRAMS, {"input_values": sounds()}, ValueError, "got no input_features"),
        (VattTextModel, TEXTS, {"input_ids": words(length=0)}, ValueError, "input_ids must not be empty"),
        (VattTextModel, TEXTS, {"input_ids": words()[0]}, ValueError, r"\(batch, length\)"),
        (VattTextModel, TEXTS, {"input_ids": words().float()}, TypeError, "must be int64 indices"),
        (VattTextModel, TEXTS, {"input_ids": words().byte()}, TypeError, "must be int64 indices"),
        (VattTextModel, TEXTS, {"input_ids": words() + 10**6}, ValueError, r"input_ids must lie in \[0, "),
        (VattTextModel, TEXTS, {"input_ids": words(), "attention_mask": torch.ones(2, 3)}, ValueError, "the shape of"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(model_class, fields, inputs, error, message):
    with pytest.raises(error, match=message):
        build(model_class, **fields)(**inputs)


@torch.no_grad()
def test_silence_and_a_text_of_padding_have_finite_features(pretrained):
    assert pretrained.get_audio_features(torch.zeros(2, 96)).pooler_output.isfinite().all()
    assert pretrained.get_text_features(torch.zeros(2, 12, dtype=torch.long)).pooler_output.isfinite().all()


@pytest.mark.parametrize("fields", [TEXTS, TEXTS | ABSOLUTE], ids=["relative", "absolute"])
@torch.no_grad()
def test_padding_is_not_attended_to(fields):
    model = build(VattTextModel, **fields)
    text = words()
    text[:, 8:] = 0
    pooled = model(text).pooler_output
    torch.testing.assert_close(model(text, attention_mask=(text != 0).long()).pooler_output, pooled)
    other = text.clone()
    other[:, 8:] = 7
    torch.testing.assert_close(model(other, attention_mask=(text != 0).long()).pooler_output, pooled)
    assert not torch.allclose(model(other).pooler_output, pooled, atol=1e-3)


@torch.no_grad()
def test_an_image_is_a_clip_of_one_tubelet():
    model = build(VattForImageClassification, **CLIPS, num_labels=5)
    still = clips(frames=1).expand(-1, 2, -1, -1, -1)
    as_clip = VattForVideoClassification(model.config).eval()
    as_clip.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(still[:, 0]).logits, as_clip(still).logits)
    with pytest.raises(ValueError, match=r"must be \(batch, 3, height, width\)"):
        model(still)


# Positions


def test_positions_of_spectrograms_run_over_time_first():
    positions = build(VattAudioModel, **SPECTROGRAMS).embeddings.position_embedding
    times, frequencies = (table.table[0] for table in positions.tables)
    found = positions((2, 2))[0]
    for index in range(4):
        torch.testing.assert_close(found[index], positions.norm(times[index % 2] + frequencies[index // 2]))


@pytest.mark.parametrize(("old", "new"), [(14, 20), (60, 40), (1, 3)])
def test_the_spline_passes_through_the_table_and_reproduces_straight_lines(old, new):
    table = torch.randn(1, old, 4, generator=torch.Generator().manual_seed(5))
    doubled = interpolate_positions(table, (old,), (2 * old,), "polyharmonic_spline")
    torch.testing.assert_close(doubled[:, ::2], table, atol=1e-4, rtol=1e-4)
    line = torch.arange(old)[None, :, None] / old * 3 + 1
    expected = torch.arange(new)[None, :, None] / new * 3 + 1 if old > 1 else torch.ones(1, new, 1)
    found = interpolate_positions(line, (old,), (new,), "polyharmonic_spline")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# DropToken


def test_droptoken_keeps_the_first_of_one_permutation_for_the_batch():
    model = build(VattVideoModel, **CLIPS, kept_token_fraction=0.5)
    tokens = model.embeddings(clips())
    permutation = torch.tensor([5, 2, 7, 0, 1, 3, 4, 6])
    model.train()
    kept = model(clips(), token_permutation=permutation).last_hidden_state
    assert kept.shape == (2, 1 + 4, 32)
    torch.testing.assert_close(model.embeddings(clips(), permutation)[:, 1:], tokens[:, 1:][:, permutation[:4]])
    torch.testing.assert_close(model.embeddings(clips(), permutation)[:, 0], tokens[:, 0])
    # As many are kept of a shorter clip, whose tokens fit.
    assert model(clips(frames=2)).last_hidden_state.shape == (2, 1 + 4, 32)
    with pytest.raises(ValueError, match=r"8 tokens must have shape \(8,\), got \(4,\)"):
        model(clips(), token_permutation=permutation[:4])
    assert model.eval()(clips()).last_hidden_state.shape == (2, 1 + 8, 32)


# Training on several modalities


@torch.no_grad()
def test_the_loss_is_the_mean_of_both_and_features_are_those_of_the_output(pretrained):
    outputs = pretrained(**batch())
    torch.testing.assert_close(outputs.loss, (outputs.video_text_loss + outputs.video_audio_loss) / 2)
    video = pretrained.get_video_features(clips()).pooler_output
    torch.testing.assert_close(video, outputs.video_text_embeds)
    audio = pretrained.get_video_features(clips(), space="audio").pooler_output
    torch.testing.assert_close(audio, outputs.video_audio_embeds)
    torch.testing.assert_close(pretrained.get_audio_features(sounds()).pooler_output, outputs.audio_embeds)
    texts = words(4)
    torch.testing.assert_close(pretrained.get_text_features(texts).pooler_output, outputs.text_embeds)
    cosine = torch.cosine_similarity(video[:, None], outputs.text_embeds[None], dim=-1) / 0.07
    torch.testing.assert_close(outputs.logits_per_video, cosine)
    torch.testing.assert_close(outputs.logits_per_text, cosine.T)
    with pytest.raises(ValueError, match='space must be "text" or "audio"'):
        pretrained.get_video_features(clips(), space="video")
    heard = pretrained.get_audio_features(sounds(), space="text").pooler_output
    torch.testing.assert_close(heard, pretrained.model.projections.video_to_text(outputs.audio_embeds))
    alone = pretrained.model(input_values=sounds(), input_ids=texts)
    cosine = torch.cosine_similarity(heard[:, None], outputs.text_embeds[None], dim=-1) / 0.07
    torch.testing.assert_close(alone.logits_per_audio, cosine)
    with pytest.raises(ValueError, match='space must be "video" or "text"'):
        pretrained.get_audio_features(sounds(), space="audio")


@torch.no_grad()
def test_modalities_may_be_missing(pretrained):
    inputs = batch()
    whole = pretrained(**inputs)
    for missing, part in (("input_values", "audio"), ("input_ids", "text")):
        outputs = pretrained(**{name: value for name, value in inputs.items() if name != missing})
        assert outputs[f"video_{part}_loss"] == 0
        assert outputs.get(f"{part}_embeds") is None
    only = pretrained.model(input_ids=words())
    assert only.video_model_output is None
    masked = pretrained(**inputs, audio_mask=torch.tensor([1, 0]), text_mask=torch.tensor([0, 0]))
    assert masked.video_text_loss == 0
    assert not torch.allclose(masked.video_audio_loss, whole.video_audio_loss)
    # The sound of a clip that is masked changes nothing.
    inputs["input_values"] = inputs["input_values"] * torch.tensor([[1.0], [9.0]])
    again = pretrained(**inputs, audio_mask=torch.tensor([1, 0]))
    torch.testing.assert_close(again.video_audio_loss, masked.video_audio_loss)
    with pytest.raises(ValueError, match="at least one of pixel_values"):
        pretrained.model()
    with pytest.raises(ValueError, match="with which sounds and texts are compared"):
        pretrained(input_ids=words())
    with pytest.raises(ValueError, match="2 clips need as many sounds, got 4"):
        pretrained(clips(), input_values=sounds(4))
    with pytest.raises(ValueError, match="text_mask must have a value for each of 2 clips, got 4"):
        pretrained(clips(), input_ids=words(4), text_mask=torch.ones(4))


def naive_loss(video: np.ndarray, other: np.ndarray, temperature: float) -> float:
    """Return the asymmetric loss, sum by sum."""
    video, other = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (video, other))
    losses = []
    for clip in range(len(video)):
        own = np.exp(other[clip] @ video[clip] / temperature)
        row = np.exp(np.einsum("cld,d->cl", other, video[clip]) / temperature)
        column = np.exp(other[clip] @ video.T / temperature)
        losses.append(np.log(row.sum() + column.sum()) - np.log(own.sum()))
    return float(np.mean(losses))


def test_positives_are_in_the_denominator_twice():
    random = np.random.default_rng(0)
    video, other = random.standard_normal((3, 5)), random.standard_normal((3, 2, 5))
    found = contrastive_loss(torch.tensor(video), torch.tensor(other), 0.1)
    assert found.item() == pytest.approx(naive_loss(video, other, 0.1), rel=1e-5)


def test_a_shared_encoder_is_one_and_learns_from_all(agnostic, tmp_path):
    assert agnostic.model.video_model.encoder is None
    outputs = agnostic(**batch(), output_hidden_states=True)
    assert len(outputs.text_model_output.hidden_states) == len(outputs.video_model_output.hidden_states) == 3
    outputs.loss.backward()
    assert all(p.grad is not None for p in agnostic.model.encoder.parameters())
    agnostic.zero_grad()
    agnostic.save_pretrained(tmp_path)
    again = VattModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**batch()).text_embeds, outputs.text_embeds)
    with pytest.raises(ValueError, match="was made without an encoder"):
        again.video_model(clips())


def test_words_are_frozen_unless_wanted():
    for train in (False, True):
        model = VattTextModel(VattTextConfig(**TEXTS, train_word_embeddings=train))
        assert model.embeddings.patch_embedding.weight.requires_grad == train


def test_batch_norm_keeps_the_biased_variance():
    ours, theirs = VattBatchNorm(3), nn.BatchNorm1d(3)
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(ours(values), theirs(values))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, 0.9 + 0.1 * values.var(0, unbiased=False))


def on_each_process(rank: int, store: str, results) -> None:
    """Compute loss and gradients of half of the clips, as one of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = loss_and_gradient(slice(2 * rank, 2 * rank + 2))
    results[rank] = [value.tolist() for value in found]
    dist.destroy_process_group()


def loss_and_gradient(part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss of some clips, its gradient for all, and the batch norm's running variance."""
    random = torch.Generator().manual_seed(8)
    clips, others = torch.randn(4, 6, generator=random).requires_grad_(), torch.randn(4, 2, 6, generator=random)
    norm = VattBatchNorm(6)
    loss = contrastive_loss(norm(clips[part]), others[part], 0.1)
    loss.backward()
    assert clips.grad is not None
    return loss.detach(), clips.grad, norm.running_var


def test_two_processes_learn_as_one_with_all_clips(tmp_path):
    """Losses and gradients are averaged over processes, as DistributedDataParallel does."""
    context = multiprocessing.get_context("spawn")  # autograd has threads, which do not survive a fork
    with context.Manager() as manager:
        results = manager.dict()
        arguments = (str(tmp_path / "store"), results)
        processes = [context.Process(target=on_each_process, args=(rank, *arguments)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        both = [[torch.tensor(value) for value in results[rank]] for rank in range(2)]
    loss, gradient, variance = loss_and_gradient(slice(None))
    torch.testing.assert_close((both[0][0] + both[1][0]) / 2, loss)
    torch.testing.assert_close((both[0][1] + both[1][1]) / 2, gradient)
    for found in both:
        torch.testing.assert_close(found[2], variance)


def test_rare_labels_weigh_more():
    labels = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 0]])
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(7))
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1)
    expected = (losses * torch.tensor([(1 / 2 + 1) / 2, 1 / 2, 0])).mean()
    torch.testing.assert_close(FrequencyBalancedCrossEntropy()(logits, labels)[0], expected)


# Configurations


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (VattVideoConfig, {"tubelet_size": [4, 16]}, "tubelet_size must have 3 values"),
        (VattVideoConfig, {"num_frames": 3}, "at least one tubelet"),
        (VattVideoConfig, {"kept_token_fraction": 1.5}, r"kept_token_fraction must lie in \(0, 1\]"),
        (VattVideoConfig, {"num_attention_heads": 7}, "hidden_size must be a multiple"),
        (VattAudioConfig, {"patch_size": [16, 5]}, '"waveform" needs a patch_size that is one number'),
        (VattAudioConfig, {"input_type": "spectrogram"}, '"spectrogram" needs a patch_size that is'),
        (VattAudioConfig, {"num_samples": 100}, "at least one patch"),
        (VattTextConfig, {"pre_projection": False}, "needs pre_projection=True"),
        (VattTextConfig, {"relative_attention_max_distance": 8}, "relative_attention_max_distance larger"),
        (VattConfig, {"video_text_weight": -1.0}, "must not be negative"),
        (VattConfig, {"shared_encoder": True}, "hidden_size must be the same"),
        (
            VattConfig,
            AGNOSTIC_PARTS | {"text_config": TEXTS | {"use_bias": True}},
            'position_embedding_type="absolute"',
        ),
    ],
)
def test_configurations_that_cannot_be(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_class(**fields)


# Files


def split_and_transposed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a video classifier as TensorFlow names and lays them out."""
    names = {
        "classifier.": "_ops/cls/",
        "model.embeddings.aggregation_token": "_base/agg_embedding",
        "model.embeddings.patch_embedding.projection.": "_base/voxel_to_patch/",
        "model.embeddings.position_embedding.norm.": "_base/pos_embedding_lookup/layernorm/",
        "model.encoder.norm.": "_base/tx/final_layer_norm/",
        "model.encoder.layers.": "_base/tx/layers/",
    }
    parts = {".attention_norm.": "/layer_norm/", ".mlp_norm.": "/feed_forward/layer_norm/"}
    parts |= {".attention.projection.": "/mha/o/", ".mlp.up.": "/feed_forward/mlp/wi/"}
    parts |= {".mlp.down.": "/feed_forward/mlp/wo/"}
    tensors = {}
    for key, value in state.items():
        if ".tables." in key:
            axis = ("temporal", "vertical", "horizontal")[int(key.split(".")[-2])]
            tensors[f"_base/pos_embedding_lookup/{axis}_position_embeddings/embeddings"] = value[0]
            continue
        name = next(new + key.removeprefix(old) for old, new in names.items() if key.startswith(old))
        for old, new in parts.items():
            name = name.replace(old, new)
        is_norm = "norm" in name
        stem, _, leaf = name.rpartition("/")
        leaf = {"weight": "gamma" if is_norm else "kernel", "bias": "beta" if is_norm else "bias"}.get(leaf, leaf)
        if ".attention.qkv." in name:
            layer, kind = name.split(".attention.qkv.")
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                leaf = "kernel" if kind == "weight" else "bias"
                tensors[f"{layer}/mha/{part}/{leaf}"] = piece.T if piece.ndim == 2 else piece
            continue
        if leaf == "kernel":
            value = value.permute(*range(2, value.ndim), 1, 0)
        tensors[f"{stem}/{leaf}"] = value
    return {f"model/layer_with_weights-0/{key}{SUFFIX}": value for key, value in tensors.items()}


WIDE = {"hidden_size": 128, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 40}


@torch.no_grad()
def test_a_checkpoint_tells_its_sizes_and_a_training_state_is_read():
    model = build(VattForVideoClassification, **CLIPS | WIDE, num_labels=5)
    tensors = split_and_transposed(model.state_dict())
    tensors["save_counter" + SUFFIX] = torch.tensor(3)
    kernel = "model/layer_with_weights-0/_ops/cls/kernel"
    tensors[f"{kernel}/.OPTIMIZER_SLOT/optimizer/momentum{SUFFIX}"] = torch.zeros(128, 5)
    ours = convert("vatt", "vit_base_k400", tensors)
    assert (ours.config.num_labels, ours.config.num_frames, ours.config.image_size) == (5, 4, 16)
    assert (ours.config.tubelet_size, ours.config.num_attention_heads) == ([2, 8, 8], 2)
    torch.testing.assert_close(ours(clips()).logits, model(clips()).logits)
    longer = convert("vatt", "vit_base_k400", tensors, num_frames=8)
    torch.testing.assert_close(longer(clips(frames=8)).logits, model(clips(frames=8)).logits, atol=1e-5, rtol=1e-5)
    del tensors[f"{kernel.removesuffix('kernel')}bias{SUFFIX}"]
    with pytest.raises(ValueError, match="does not fit"):
        convert("vatt", "vit_base_k400", tensors)


# The processor


def test_the_processor_joins_clips_sounds_and_words(pretrained, tmp_path):
    tokenizer = VattTokenizer.of_words(["a", "dog", "barks", "don't"], max_words=12)
    video = VitsVideoProcessor(
        convention="scenic",
        num_frames=4,
        sampling_rate=1,
        size={"shortest_edge": 16},
        crop_size={"height": 16, "width": 16},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    waves = VitsWaveformFeatureExtractor(sampling_rate=48_000, padding="max_length", max_length=96, truncation=True)
    processor = VattProcessor(video, waves, tokenizer)
    clip = encode(tmp_path / "clip.mp4", numbered([0, 0, 4095, 4095] * 2))
    sound = np.zeros(200, dtype=np.float32)
    given = {"videos": str(clip), "audio": sound, "text": ["A dog barks!", "don't, cat"], "sampling_rate": 48_000}
    inputs = processor(**given, return_tensors="pt")
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {
        "pixel_values": (1, 4, 3, 16, 16),
        "input_values": (1, 96),
        "input_ids": (2, 12),
    }
    assert inputs["input_ids"][:, :4].tolist() == [[1, 2, 3, 0], [4, 0, 0, 0]]
    padded = tokenizer(["A dog barks!", "don't " * 20], padding=True, return_tensors="pt")["input_ids"]
    assert padded.shape == (2, 12)
    assert -1 <= inputs["pixel_values"].min() < -0.5 < 0.5 < inputs["pixel_values"].max() <= 1
    assert pretrained.model(**inputs).logits_per_video.shape == (1, 2)
    processor.save_pretrained(tmp_path / "saved")
    again = VattProcessor.from_pretrained(tmp_path / "saved")(**given, return_tensors="pt")
    for name, value in inputs.items():
        assert torch.equal(again[name], value), name
    assert processor(text="", return_tensors="pt")["input_ids"].tolist() == [[0] * 12]
    with pytest.raises(ValueError, match="at least one of `videos`, `audio` and `text`"):
        processor()
    for texts, found in (([], "got none"), (["a", None], "got NoneType, str")):
        with pytest.raises(ValueError, match=found):
            processor(text=texts)


def test_spectrograms_are_tensorflows():
    """`tf.signal.stft` has a periodic window, `linear_to_mel_weight_matrix` filters that are triangular in mel."""
    waveform = np.random.default_rng(0).uniform(-1, 1, 153_600)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    padded = np.pad(waveform, (0, 2048))
    frames = np.stack([padded[1024 * frame : 1024 * frame + 2048] * window for frame in range(150)])

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    bins, edges = mel(np.linspace(0, 24_000, 1025))[:, None], np.linspace(mel(80), mel(7600), 82)
    rising, falling = bins - edges[:-2], edges[2:] - bins
    filters = np.minimum(rising / np.diff(edges)[:-1], falling / np.diff(edges)[1:]).clip(min=0)
    expected = np.log(1 + 10_000 * np.abs(np.fft.rfft(frames)) @ filters)
    expected = (expected - expected.min()) / np.ptp(expected)
    config = VattAudioConfig(input_type="spectrogram", patch_size=[16, 5], num_frames=150, num_mel_bins=80)
    found = sounds_processor(config, 48_000)(waveform, return_tensors="np")["input_features"][0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("vocabulary", [[], ["a", "a"], ["two words"], ["Upper"]])
def test_vocabularies_that_cannot_be(vocabulary):
    with pytest.raises(ValueError, match="expected"):
        VattTokenizer.of_words(vocabulary)


def test_classifiers_of_sounds_start_with_rare_classes():
    model = VattForAudioClassification(VattAudioConfig(**WAVES, num_labels=11))
    torch.testing.assert_close(model.classifier.bias, torch.full((11,), -np.log(10), dtype=torch.float32))
