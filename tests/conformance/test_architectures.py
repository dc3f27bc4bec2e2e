"""transformers' mixins on every form of every architecture: model, backbone, configuration, training and pipelines."""

import dataclasses
import json
import unittest
from collections.abc import Iterator
from math import prod

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.testing_utils import torch_device

from hf_vits.auto import ARCHITECTURES
from hf_vits.models.detection.modeling_detection import DetectorPreTrainedModel
from tests.support.forms import Form, forms

from . import mixins
from .pipelines import PipelineTests
from .table import SKIPS
from .testers import FormTests, ModelTester


class ModelTests(FormTests, mixins.common.ModelTesterMixin):
    # Without it a configuration file that names no copyright year counts as older than 2023, and is let off.
    test_can_init_all_missing_weights_before_2023 = True

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """As in the mixin, which makes no labels for models that write texts of speech, and none for detectors."""
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and self.model_tester.models.get("AutoModelForSpeechSeq2Seq") is model_class:
            del inputs["decoder_input_ids"]  # follows from the labels
            inputs["labels"] = torch.ones(self.model_tester.batch_size, 3, dtype=torch.long, device=torch_device)
        if return_labels and issubclass(model_class, DetectorPreTrainedModel):
            inputs["labels"] = [objects(self.model_tester) for _ in range(self.model_tester.batch_size)]
        return inputs

    def _prepare_config_headdim(self, config, requested_dim):
        """As in the mixin, which wants wide heads for flex attention on a GPU and for them widens the layers."""
        try:
            return super()._prepare_config_headdim(config, requested_dim)
        except AttributeError as error:
            if "has no setter" not in str(error):
                raise
            self.skipTest(f"how wide heads are follows from what each stage has: {error}")

    def test_model_get_set_embeddings(self):
        """As in the mixin, but for any kind of embedding, as transformers has it in the tests of its image models."""
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            assert isinstance(model.get_input_embeddings(), nn.Module)
            embedding = nn.Identity()
            model.set_input_embeddings(embedding)
            assert model.get_input_embeddings() is embedding
            assert model.get_output_embeddings() is None

    def test_num_layers_is_small(self):
        """As in the mixin; an encoder in stages has at least one layer in each."""
        if self.form.maps:
            config = self.model_tester.get_config()
            assert max(getattr(config, "depths", [config.num_hidden_layers])) <= 2
        else:
            super().test_num_layers_is_small()

    def test_hidden_states_output(self):
        """As in the mixin; of an encoder in stages, the maps that the table says."""
        if not self.form.maps:
            super().test_hidden_states_output()
            return
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        expected = [(self.model_tester.batch_size, *sizes) for sizes in self.form.maps]
        for model_class in self.all_model_classes:
            by_argument = model_class(config).to(torch_device).eval()
            by_config = model_class(self.model_tester.get_config(output_hidden_states=True)).to(torch_device).eval()
            for outputs in (by_argument(**inputs, output_hidden_states=True), by_config(**inputs)):
                assert [tuple(hidden_state.shape) for hidden_state in outputs.hidden_states] == expected

    def test_output_shapes(self):
        """The sizes that the table, not the model, says; also with a single colour channel."""
        tester, form = self.model_tester, self.form
        if form.inputs == "modalities":
            self.check_spaces(tester)
            return
        is_image = tester.main_input_name == "pixel_values" and "num_channels" in vars(tester.get_config())
        for changes in ({}, {"num_channels": 1}) if is_image else ({},):
            config = tester.get_config(**changes)
            inputs = tester.inputs(config)
            for auto_class, model_class in tester.models.items():
                model = model_class(config).to(torch_device).eval()
                with torch.no_grad():
                    outputs = model(**inputs)
                if auto_class == "AutoModel":
                    tokens = (tester.batch_size, form.tokens, tester.hidden_size)
                    assert outputs.last_hidden_state.shape == tokens
                    assert outputs.pooler_output.shape == (tester.batch_size, config.pooler_size)
                elif auto_class == "AutoBackbone":
                    batch, channels, *grid = outputs.feature_maps[-1].shape
                    assert (batch, channels) == (tester.batch_size, model.channels[-1])
                    assert prod(grid) == tester.mask_length
                elif issubclass(model_class, DetectorPreTrainedModel):
                    detections = (tester.batch_size, config.max_detections)
                    assert outputs.scores.shape == outputs.pred_labels.shape == detections
                    assert outputs.pred_boxes.shape == (*detections, 4)
                    if model_class.needs_masks:
                        sides = (2 * config.mask_pool_size,) * 2
                        assert outputs.pred_masks.shape == (*detections, *sides)
                elif auto_class == "AutoModelForPreTraining":
                    assert outputs.loss.shape == ()
                    assert [value.shape for value in outputs.reconstruction.values()] == [inputs["inputs"].shape]
                elif auto_class == "AutoModelForMaskedImageModeling":
                    assert outputs.reconstruction.shape == inputs["pixel_values"].shape
                elif auto_class == "AutoModelForSpeechSeq2Seq":
                    texts = (tester.batch_size, tester.decoder_seq_length)
                    assert outputs.logits.shape == (*texts, config.vocab_size)
                elif auto_class == "AutoModelForCTC":
                    assert outputs.logits.shape == (tester.batch_size, form.tokens, config.vocab_size)
                else:
                    assert outputs.logits.shape == (tester.batch_size, tester.num_labels)

    @torch.no_grad()
    def check_spaces(self, tester: ModelTester) -> None:
        """Of a model of several modalities, the sizes of what is compared and, of its training, the loss."""
        config = tester.get_config()
        for auto_class, model_class in tester.models.items():
            outputs = model_class(config).to(torch_device).eval()(**tester.inputs(config))
            assert outputs.video_audio_embeds.shape == (tester.batch_size, config.video_audio_size)
            assert outputs.video_text_embeds.shape == (tester.batch_size, config.video_text_size)
            assert outputs.video_audio_embeds.shape == outputs.audio_embeds.shape
            assert outputs.video_text_embeds.shape == outputs.text_embeds.shape
            assert outputs.logits_per_video.shape == outputs.logits_per_audio.shape == (tester.batch_size,) * 2
            assert (outputs.loss is not None) == (auto_class == "AutoModelForPreTraining")


def objects(tester: ModelTester) -> dict[str, torch.Tensor]:
    """Two objects of an image, of which the second covers a half of it."""
    side = tester.get_config().image_size
    boxes = torch.tensor([[2.0, 3.0, 14.0, 12.0], [0.0, 0.0, side / 2, side]], device=torch_device)
    masks = torch.zeros(2, side, side, dtype=torch.bool, device=torch_device)
    masks[0, 4:12, 3:14], masks[1, :, : side // 2] = True, True
    return {"boxes": boxes, "class_labels": torch.tensor([0, 2], device=torch_device), "masks": masks}


class GenerativeModelTests(ModelTests, mixins.common.GenerationTesterMixin):
    """Of models with `generate`, whose tests the source distribution leaves out; see those of the architecture."""


class BackboneTests(FormTests, mixins.backbone.BackboneTesterMixin):
    def setUp(self):
        super().setUp()
        self.all_model_classes = (self.model_tester.models["AutoBackbone"],)
        if self.form.backbone:
            self.config_class = with_defaults(self.config_class, self.form.backbone)


def with_defaults(config_class: type, fields: dict) -> type:
    """The configuration class with other defaults."""
    types = {field.name: field.type for field in dataclasses.fields(config_class)}  # inherited ones as well
    body = {**fields, "__annotations__": {name: types[name] for name in fields}}
    return strict(type(config_class.__name__, (config_class,), body))


class ConfigurationTests(FormTests):
    def test_config(self):
        text = self.model_tester.main_input_name == "input_ids"
        # Of the configurations of parts, more is saved than the table says.
        saved = json.loads(self.model_tester.get_config().to_json_string())
        fields = self.form.config | {name: saved[name] for name in self.config_class.sub_configs}
        tester = mixins.configuration.ConfigTester(self, self.config_class, has_text_modality=text, **fields)
        sizes = ["hidden_size", "num_attention_heads", "num_hidden_layers"]
        sizes = [name for name in sizes if hasattr(self.config_class(), name)]
        tester.common_properties = [] if self.config_class.sub_configs else sizes
        tester.run_common_tests()


class TrainingTests(FormTests, mixins.training.TrainingTesterMixin):
    """The mixin knows how to make a batch of text for a language model alone; classifiers get theirs here.

    On the CPU, where it trains whatever else there is.
    """

    model_tester = None

    def setUp(self):
        super().setUp()
        # The mixin reads vocab_size off every configuration.
        self.model_tester.fields = {"vocab_size": 0} | self.model_tester.fields

    def _get_model_modality(self) -> str:
        return "text"

    def _create_text_training_batch(self, batch_size: int, seq_length: int, vocab_size: int) -> dict:
        _, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        labels = torch.arange(batch_size) % self.model_tester.num_labels
        return {name: value[:batch_size].cpu() for name, value in inputs.items()} | {"labels": labels}


def generate(form: Form) -> Iterator[type]:
    """The test classes of one form."""
    tester = ModelTester(form)
    generates = any(model.can_generate() for model in tester.models.values())
    kinds = {"Model": GenerativeModelTests if generates else ModelTests, "Configuration": ConfigurationTests}
    if "AutoBackbone" in tester.models:
        kinds["Backbone"] = BackboneTests
    if tester.classifier_class:
        kinds["Training"] = TrainingTests
    if PipelineTests.tasks(tester):
        kinds["Pipeline"] = PipelineTests
    skips = SKIPS[tester.main_input_name] | form.skips
    if stale := [test for test in skips if not any(hasattr(base, test) for base in kinds.values())]:
        raise ValueError(f"form {form.name} skips tests that do not exist: {stale}")
    for kind, base in kinds.items():
        body = {"form": form, "__module__": __name__, **form.flags}
        body |= {test: skipped(reason) for test, reason in skips.items() if hasattr(base, test)}
        if base is PipelineTests:
            body |= dict.fromkeys(base.other_tests(tester))
        yield type(f"Test{form.name}{kind}", (base, unittest.TestCase), body)


def skipped(reason: str):
    return unittest.skip(reason)(lambda self: None)


for _form in forms():
    globals().update({cls.__name__: cls for cls in generate(_form)})


def test_every_architecture_has_a_form():
    assert {architecture.name for architecture in ARCHITECTURES} == {form.architecture for form in forms()}
