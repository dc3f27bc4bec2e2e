"""transformers' mixins on every self-supervised model: model and configuration."""

import json
import re
import unittest
from collections.abc import Iterator

import torch
from parameterized import parameterized
from transformers import AutoModelForPreTraining
from transformers.testing_utils import torch_device

from hf_vits.auto import PRETRAINING
from tests.support.forms import PretrainingForm, pretraining_forms

from . import mixins
from .table import SEVERAL_PASSES, SKIPS
from .test_architectures import ModelTests, skipped
from .testers import FormTests, PretrainingTester


class PretrainingTests(ModelTests):
    model_tester_class = PretrainingTester

    @property
    def additional_model_inputs(self) -> list[str]:
        """What a batch holds beside images."""
        _, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        return [name for name in inputs if name != "pixel_values"]

    def model_and_inputs(self, dtype: torch.dtype = torch.float32):
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        torch.manual_seed(0)
        model = AutoModelForPreTraining.from_config(config).to(torch_device, dtype).eval()
        return model, {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}

    @torch.no_grad()
    def test_output_shapes(self):
        """The Auto class builds the model; its first output is a loss, and there is no other that is one number."""
        model, inputs = self.model_and_inputs()
        assert type(model) in self.all_model_classes
        loss, logits, *_ = model(**inputs).to_tuple()
        assert loss.shape == ()
        assert loss.isfinite()
        assert self.model_tester.batch_size in logits.shape

    @torch.no_grad()
    def test_model_outputs_equivalence(self):
        """As in the mixin, which cannot compare the masks among the outputs."""
        model, inputs = self.model_and_inputs()
        for options in ({}, {"output_hidden_states": True}, {"output_attentions": True}):
            as_tuple, as_output = (model(**inputs, **options, return_dict=form) for form in (False, True))
            torch.testing.assert_close(as_tuple, as_output.to_tuple())

    @parameterized.expand([(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 3e-2)])
    @torch.no_grad()
    def test_eager_matches_sdpa_logits(self, dtype, tolerance):
        """As the mixin compares hidden states."""
        model, inputs = self.model_and_inputs(dtype)
        outputs = []
        for implementation in ("eager", "sdpa"):
            model.set_attn_implementation(implementation)
            outputs.append(model(**inputs)[1])
        torch.testing.assert_close(*outputs, atol=tolerance * outputs[0].abs().max().item(), rtol=0)


class ConfigurationTests(FormTests):
    model_tester_class = PretrainingTester

    def test_config(self):
        fields = dict(self.form.config)
        saved = json.loads(self.model_tester.get_config().to_json_string())
        nested = {name for name in fields if name.endswith("_config")}  # of which more is saved than the table says
        fields |= {name: saved[name] for name in nested}
        mixins.configuration.ConfigTester(
            self, self.config_class, has_text_modality=False, **fields
        ).run_common_tests()


def generate(form: PretrainingForm) -> Iterator[type]:
    """The test classes of one form."""
    skips = SKIPS["pixel_values"] | form.skips
    if form.tokens is None:
        skips |= SEVERAL_PASSES
    body = {"form": form, "__module__": __name__, "_is_composite": form.tokens is None, **form.flags}
    # A parameterized test's names begin with that of all.
    body |= {
        test: skipped(reason)
        for name, reason in skips.items()
        for test in dir(PretrainingTests)
        if test == name or re.match(rf"{name}_\d", test)
    }
    yield type(f"Test{form.name}Model", (PretrainingTests, unittest.TestCase), body)
    yield type(
        f"Test{form.name}Configuration",
        (ConfigurationTests, unittest.TestCase),
        {"form": form, "__module__": __name__},
    )


for _form in pretraining_forms():
    globals().update({cls.__name__: cls for cls in generate(_form)})


def test_every_method_has_a_form():
    assert {method.name for method in PRETRAINING} == {form.architecture for form in pretraining_forms()}
