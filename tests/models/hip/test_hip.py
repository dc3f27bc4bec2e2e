"""HiP: groups, sizes, modalities, masks, training latents, classification, conversion."""

import json

import numpy as np
import pytest
import torch

from hf_vits import conversion
from hf_vits.cli import main
from hf_vits.hub import model_card
from hf_vits.models.hip.configuration_hip import HipConfig
from hf_vits.models.hip.grouping_hip import Concatenation, Grouping, Span, regroup, spans
from hf_vits.models.hip.modeling_hip import (
    HipForAudioClassification,
    HipForImageClassification,
    HipForPreTraining,
    HipModel,
    random_subset,
)
from tests.parity.golden import Case
from tests.support.paths import PARITY_CASES

from .forms import BLOCKS, ONE_BLOCK

MODALITIES = {"image": (50, 3), "sound": (21, 2), "label": (5, 1)}


def model(model_class=HipModel, **fields):
    torch.manual_seed(0)
    built = model_class(HipConfig(**{"modalities": MODALITIES, **BLOCKS, **fields})).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(std=0.2)
    return built


def inputs(batch: int = 2, **changes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(batch, *size, generator=generator) for name, size in MODALITIES.items()}
    return drawn | changes


def test_groups_go_to_the_longest_modality():
    # perceiver_helpers.py: 1024 pixels and 32 labels in 16 groups are 15 of 69 and 1 of 32 rows
    assert spans(16, [1024, 32]) == [Span(15, 11, 0), Span(1, 0, 37)]
    assert spans(2, [4, 4]) == [Span(1, 0, 0), Span(1, 0, 0)]
    assert [span.count for span in spans(3, [4, 4])] == [2, 1]  # the first of equals


@pytest.mark.parametrize("grouping", [Grouping(4), Concatenation()])
def test_groups_are_divided_as_they_were_joined(grouping):
    values = inputs()
    values = {name: value[..., :1] for name, value in values.items()}
    split = grouping.split(grouping(values), {name: value.shape[1] for name, value in values.items()})
    assert list(split) == list(values)
    for name, value in values.items():
        torch.testing.assert_close(split[name], value)


def test_latents_lack_the_padding_of_the_inputs():
    """perceiver_blocks.py slices with the difference of latents and padding, which may be negative."""
    grouping, counts = Grouping(2), {"image": 50, "label": 5}
    assert spans(2, [50, 5]) == [Span(1, 0, 0), Span(1, 0, 45)]
    kept = {rows: grouping.split(torch.zeros(1, 2, rows, 1), counts)["label"].shape[1] for rows in (50, 45, 30, 20)}
    assert kept == {50: 5, 45: 0, 30: 15, 20: 0}


def test_regrouping_keeps_or_mixes_neighbours():
    latents = torch.arange(6.0).reshape(1, 2, 3, 1)  # groups 0 1 2 and 3 4 5
    assert regroup(latents, 1, transpose=False).flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert regroup(latents, 3, transpose=True)[0, :, :, 0].tolist() == [[0, 3], [1, 4], [2, 5]]


@torch.no_grad()
def test_any_order_of_the_inputs_is_the_configurations():
    encoder, values = model(), inputs()
    expected, found = encoder(values), encoder(dict(reversed(values.items())))
    assert list(found.reconstruction) == list(MODALITIES)
    for name, size in MODALITIES.items():
        assert found.reconstruction[name].shape == (2, *size)
        torch.testing.assert_close(found.reconstruction[name], expected.reconstruction[name])


def test_the_order_of_modalities_survives_saving(tmp_path):
    config = HipConfig(modalities={"z": (4, 1), "a": (9, 2)}, **BLOCKS)
    config.save_pretrained(tmp_path)
    assert list(HipConfig.from_pretrained(tmp_path).sizes) == ["z", "a"]


@torch.no_grad()
def test_first_block_stays_inside_its_groups():
    encoder, values = model(), inputs()
    before = encoder(values, output_hidden_states=True).hidden_states
    changed = inputs(sound=values["sound"] + 1)
    after = encoder(changed, output_hidden_states=True).hidden_states
    differs = [(one - other).abs().amax(dim=(0, 2, 3)) > 1e-6 for one, other in zip(before, after, strict=True)]
    assert differs[1].tolist() == [False, False, True, False]  # groups: two of the image, sound, label
    assert differs[2].all()


@torch.no_grad()
def test_label_modalities_enter_at_the_processor():
    encoder, values = model(label_modalities=["label"]), inputs()
    before = encoder(values, output_hidden_states=True)
    after = encoder(inputs(label=values["label"] + 1), output_hidden_states=True)
    states = [torch.equal(*pair) for pair in zip(before.hidden_states, after.hidden_states, strict=True)]
    assert states == [True, True, False, False]
    assert list(before.reconstruction) == ["image", "sound", "label"]
    assert list(before.latents) == ["image", "sound"]


@torch.no_grad()
def test_one_block_is_perceiver_io_with_all_modalities_in_a_group():
    outputs = model(**ONE_BLOCK)(inputs(), output_hidden_states=True)
    assert outputs.hidden_states[0].shape == (2, 1, 50 + 21 + 5, 16)
    assert {name: value.shape[1] for name, value in outputs.latents.items()} == {"image": 6, "sound": 0, "label": 0}


def test_two_datasets_share_blocks_and_projections():
    fields = {"datasets": [["image", "label"], ["sound"]]}
    encoder, values = model(**fields), inputs()
    assert len(encoder.embeddings.position_projections) == 2
    assert list(encoder({"sound": values["sound"]}).reconstruction) == ["sound"]
    assert list(encoder({"label": values["label"], "image": values["image"]}).reconstruction) == ["image", "label"]
    with pytest.raises(ValueError, match="image, label or sound; missing: label"):
        encoder({"image": values["image"]})


def test_training_uses_a_random_subset_of_the_processors_latents():
    encoder = model(num_training_latents=4)
    states = encoder.train()(inputs(), output_hidden_states=True).hidden_states
    assert [state.shape[2] for state in states[1:]] == [6, 4, 6]
    assert encoder.eval()(inputs(), output_hidden_states=True).hidden_states[2].shape[2] == 8
    table = torch.arange(8.0)[None, None, :, None].expand(2, 3, -1, 1)
    drawn = random_subset(table, 5)[..., 0]
    assert drawn.shape == (2, 3, 5)
    assert all(len(set(row.tolist())) == 5 for row in drawn.flatten(0, 1))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sound": None}, ValueError, "missing: sound"),
        ({"smell": torch.zeros(2, 3, 1)}, ValueError, "unknown or of another dataset: smell"),
        ({"image": torch.zeros(2, 50, 4)}, ValueError, r"\(batch, 50, 3\), got shape \(2, 50, 4\)"),
        ({"image": torch.zeros(2, 49, 3)}, ValueError, "another one needs a model with another position table"),
        ({"image": torch.zeros(3, 50, 3)}, ValueError, "same batch, got 3 and, of sound, 2"),
        ({"label": torch.zeros(2, 5, 1, dtype=torch.long)}, TypeError, "modality label must be .* got torch.int64"),
        ({"label": [[1.0]]}, TypeError, "got list"),
    ],
)
def test_inputs_that_do_not_fit(changes, error, message):
    values = {name: value for name, value in inputs(**changes).items() if value is not None}
    with pytest.raises(error, match=message):
        model()(values)


def test_a_batch_of_none():
    with pytest.raises(ValueError, match="a batch of one or more"):
        model()({name: value[:0] for name, value in inputs().items()})


@pytest.mark.parametrize("given", [None, torch.zeros(2, 50, 3)])
def test_inputs_that_are_no_dict(given):
    with pytest.raises(ValueError, match="You have to specify inputs: a dict"):
        model()(given)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modalities": []}, "one or more"),
        ({"modalities": {"image": (0, 3)}}, "positive sizes"),
        ({"modalities": {"a.b": (4, 3)}}, "names of letters"),
        ({"modalities": [["image", 4]]}, "list of .name, index count, channels"),
        ({"modalities": [["image", 4, 1], ["image", 5, 1]]}, "different names"),
        ({"num_groups": [4, 1]}, "num_latents needs one value per block"),
        ({"num_groups": [4, 2, 4]}, "middle of one group"),
        ({"num_latents": [6, 7, 6]}, "7 latents of block 1 cannot be divided into 4 groups"),
        ({"num_latents": [6, 8, 8]}, "block 2 adds the output of block 0"),
        ({"num_training_latents": 9}, "at most the processor's num_latents=8"),
        ({"num_training_latents": 3}, "3 latents of block 1 cannot be divided"),
        ({"num_attention_heads": [3, 4, 2]}, "of block 0 must divide its 16 channels"),
        ({"label_modalities": ["smell"]}, "label_modalities must be names"),
        ({"label_modalities": list(MODALITIES)}, "not only labels"),
        ({"datasets": [["image"]]}, "datasets must contain the modalities"),
        ({"num_groups": [2, 1, 2]}, "a group for each of 3 modalities"),
    ],
)
def test_configurations_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        HipConfig(**{"modalities": MODALITIES, **BLOCKS, **fields})


def test_a_modality_cannot_have_the_name_of_a_method():
    with pytest.raises(ValueError, match="cannot be called 'items'"):
        HipModel(HipConfig(modalities={"items": (4, 1)}, **BLOCKS))


def test_masked_auto_encoding_hides_and_scores_the_same_values():
    learner, values = model(HipForPreTraining), inputs()
    outputs = learner(values)
    assert {name: int(mask.sum()) for name, mask in outputs.mask.items()} == {"image": 76, "sound": 32, "label": 8}
    masks = {name: mask.bool() for name, mask in outputs.mask.items()}
    torch.testing.assert_close(learner(values, mask=masks).loss, outputs.loss)
    # What is hidden cannot be seen, so that only the targets differ.
    other = inputs(image=values["image"] + masks["image"][..., None])
    again = learner(other, mask=masks)
    torch.testing.assert_close(again.reconstruction, outputs.reconstruction)
    errors = [
        (outputs.reconstruction[name] - values[name])[mask].square().mean().item() for name, mask in masks.items()
    ]
    assert outputs.loss.item() == pytest.approx(sum(errors) / 3, rel=1e-5)
    assert not torch.equal(learner.train()(values).mask["image"], outputs.mask["image"])


@pytest.mark.parametrize(
    "masks",
    [torch.ones(2, 50, dtype=torch.bool), {"image": torch.ones(2, 50)}, dict.fromkeys(MODALITIES, torch.ones(2, 5))],
)
def test_masks_that_do_not_fit(masks):
    with pytest.raises(ValueError, match="mask"):
        model(HipForPreTraining)(inputs(), mask=masks)
    with pytest.raises(TypeError, match=r"mask of image must be a boolean tensor .* got a list"):
        model(HipForPreTraining)(inputs(), mask={name: [[True]] for name in MODALITIES})


def test_masked_auto_encoding_learns_positions():
    """Each index has a value of its own: it is predicted from the position alone."""
    torch.manual_seed(0)
    learner = HipForPreTraining(HipConfig(modalities={"points": (12, 2)}, **BLOCKS)).train()
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    points = torch.randn(12, 2).expand(4, -1, -1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = learner(points).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert learner.model.embeddings.modalities["points"].position_embedding.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_classifiers_read_pixels_line_by_line_and_neighbouring_samples():
    fields = {"modalities": {"image": (12, 3), "label": (5, 1)}, "label_modalities": ["label"]}
    classifier = model(HipForImageClassification, num_labels=4, **fields)
    pixels = torch.randn(2, 3, 3, 4)
    rows = pixels.permute(0, 2, 3, 1).reshape(2, 12, 3)
    pooled = classifier.model({"image": rows, "label": torch.zeros(2, 5, 1)}).pooler_output
    torch.testing.assert_close(classifier(pixels).logits, classifier.classifier(pooled))
    listener = model(HipForAudioClassification, num_labels=4, modalities={"waveform": (6, 4)})
    samples = torch.randn(2, 24)
    pooled = listener.model(samples.reshape(2, 6, 4)).pooler_output
    torch.testing.assert_close(listener(samples).logits, listener.classifier(pooled))


@pytest.mark.parametrize(
    ("model_class", "modalities", "given", "message"),
    [
        (HipForImageClassification, {"image": (12, 3)}, torch.zeros(2, 3, 4, 4), r"height \* width = 12, got shape"),
        (HipForImageClassification, {"image": (12, 3)}, torch.zeros(2, 1, 3, 4), "of 3 channels"),
        (HipForImageClassification, {"image": (12, 3)}, None, "got nothing"),
        (HipForAudioClassification, {"waveform": (6, 4)}, torch.zeros(2, 23), r"of 24 samples, got shape \(2, 23\)"),
        (HipForAudioClassification, {"waveform": (6, 4)}, None, "got nothing"),
    ],
)
def test_images_and_waveforms_that_do_not_fit(model_class, modalities, given, message):
    with pytest.raises(ValueError, match=message):
        model(model_class, modalities=modalities)(given)


def test_a_classifier_needs_its_modality():
    with pytest.raises(ValueError, match="classifies the modality 'waveform', but modalities are image"):
        HipForAudioClassification(HipConfig(modalities={"image": (9, 1)}, **BLOCKS))


def test_a_classifier_starts_from_pretraining(tmp_path):
    learner = model(HipForPreTraining, modalities={"image": (12, 3)})
    learner.save_pretrained(tmp_path)
    classifier, info = HipForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    rows = torch.randn(2, 12, 3)
    with torch.no_grad():
        pooled = classifier.model(rows).pooler_output
        torch.testing.assert_close(pooled, learner.model(rows).pooler_output)
        torch.testing.assert_close(learner.export()(rows).pooler_output, pooled)


def test_initialisation_is_haikus():
    encoder = HipModel(HipConfig(modalities={"image": (4096, 3)}, hidden_sizes=[128, 256, 128]))
    positions = encoder.embeddings.modalities["image"].position_embedding.weight
    assert positions.std().item() == pytest.approx(4096**-0.5, rel=0.02)
    assert encoder.encoder[0].queries.weight.std().item() == pytest.approx(2048**-0.5, rel=0.02)
    assert encoder.encoder[1].layers[0].attention.qkv.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert not encoder.reconstruction.projections["image"].weight.any()


@torch.no_grad()
def test_a_tree_of_two_datasets_is_that_of_the_variant():
    case = Case.load(PARITY_CASES / "hip" / "perceiver_io_mini.json")
    tree = {key.split(":")[0]: value for key, value in case.checkpoint().items()}
    for name, count, channels in (("image", 1024, 3), ("label", 32, 1)):
        tree[f"perceiver/embedder/~embed/embed_imagenet_{name}/w"] = np.ones((channels, 128), dtype=np.float32)
        tree[f"perceiver/embedder/~embed/embed_imagenet_{name}/b"] = np.zeros(128, dtype=np.float32)
        tree[f"perceiver/embedder/~unembed/unembed_imagenet_{name}/w"] = np.ones((128, channels), dtype=np.float32)
        tree[f"perceiver/embedder/~unembed/unembed_imagenet_{name}/b"] = np.zeros(channels, dtype=np.float32)
        positions = np.zeros((count, 128), dtype=np.float32)
        tree[f"perceiver/position_encoder/pos_emb_mae_imagenet_{name}/pos_embs"] = positions
    both = conversion.convert("hip", "perceiver_io_mini", tree)
    assert both.config.datasets == conversion.variants("hip")["perceiver_io_mini"]["datasets"]
    assert both.num_parameters() == 677_156
    values = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    found = both(values).reconstruction["audioset_label"].numpy()
    np.testing.assert_allclose(found, case.outputs()["reconstruction/audioset_label"], atol=1e-4)
    assert both({"imagenet_image": torch.zeros(1, 1024, 3), "imagenet_label": torch.zeros(1, 32, 1)}).latents
    del tree["perceiver/block_0/~/self_attend_id_0/layer_norm/scale"]
    with pytest.raises(ValueError, match=r"1 missing: encoder\.0\.layers\.0\.attention_norm\.weight"):
        conversion.convert("hip", "perceiver_io_mini", tree)


@torch.no_grad()
def test_a_bottleneck_without_labels_keeps_the_place_of_their_read_out():
    case = Case.load(PARITY_CASES / "hip" / "hip_class_bottleneck_mini.json")
    tree = {key: value for key, value in case.checkpoint().items() if "label" not in key and "head/" not in key}
    built = conversion.convert("hip", "hip_class_bottleneck_mini", tree)
    assert built.config.sizes == {"imagenet_image": (1024, 3)}
    assert built.label_reconstruction is None


@torch.no_grad()
def test_a_tree_without_sizes_of_a_variant_has_its_own():
    case = Case.load(PARITY_CASES / "hip" / "perceiver_io_mini.json")
    alone = conversion.convert("hip", "perceiver_io_mini", case.checkpoint())
    assert alone.config.sizes == {"audioset_audio": (128, 16), "audioset_label": (16, 16)}
    assert alone.config.datasets is None


def test_processors_of_pixels_and_waveforms():
    made = conversion.processor("hip", "hip_mini", model(modalities={"image": (64, 3)}))
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    assert made(image, return_tensors="pt")["pixel_values"].shape == (1, 3, 8, 8)
    extractor = conversion.processor("hip", "hip_mini", model(modalities={"waveform": (6, 4)}))
    clip = np.zeros(100, dtype=np.float32)
    assert extractor(clip, sampling_rate=16000, return_tensors="pt")["input_values"].shape == (1, 24)
    assert conversion.processor("hip", "hip_mini", model(modalities={"points": (64, 3)})) is None
    with pytest.raises(ValueError, match="50 pixels are not square"):
        conversion.processor("hip", "hip_mini", model(modalities={"image": (50, 3)}))


def test_the_command_line_and_the_card_describe_it(capsys):
    assert main(["info", "hip/hip_class_bottleneck_mini", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["parameters"] == 21_114_788
    assert described["input"] == "imagenet_image 1024x3 and imagenet_label 32x1"
    for encoder, kind in ((model(), "feature-extraction"), (model(HipForPreTraining), "feature-extraction")):
        card = model_card(encoder)
        assert card.data.pipeline_tag == kind
        assert "model.config.batches[0]" in card.content
    listener = model(HipForAudioClassification, modalities={"waveform": (6, 4)})
    assert model_card(listener).data.pipeline_tag == "audio-classification"
