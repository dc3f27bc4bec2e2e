"""Every model of every architecture runs `post_init` once, when all of its submodules are there."""

import importlib

import pytest
from torch import nn
from transformers import PreTrainedModel

from hf_vits.auto import ROWS
from hf_vits.models.deit.modeling_deit import DeiTForImageClassification
from tests.support.forms import TINY_DEIT, forms, pretraining_forms
from tests.support.hub import tiny_model

ARCHITECTURES = {row.name: row for row in ROWS}
PROBE = ("LinearProbe", "linear_probe", {"backbone_config": TINY_DEIT, "batch_norm": True}, ())
DENSE_PROBE = ("DenseProbe", "dense_probe", {"backbone_config": TINY_DEIT, "head": "fcn", "hidden_size": 8}, ())
# Name, architecture, fields and, where a form is not for all of them, Auto classes.
CASES = [
    PROBE,
    DENSE_PROBE,
    *((form.name, form.architecture, form.config, form.auto_classes) for form in forms()),
    *((form.name, form.architecture, form.config, ()) for form in pretraining_forms()),
]


def submodules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The submodules and their names, from outside in."""
    return list(model.named_modules())


@pytest.fixture
def calls(monkeypatch) -> list[tuple[PreTrainedModel, list[tuple[str, nn.Module]]]]:
    """(model, its submodules at that time) of each call of `post_init`, in order."""
    seen = []
    post_init = PreTrainedModel.post_init

    def counted(self):
        seen.append((self, submodules(self)))
        post_init(self)

    monkeypatch.setattr(PreTrainedModel, "post_init", counted)
    return seen


def test_forms_cover_every_architecture():
    assert {architecture for _, architecture, *_ in CASES} == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("architecture", "fields", "auto_classes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_post_init_runs_once_on_a_complete_model(architecture, fields, auto_classes, calls):
    row = ARCHITECTURES[architecture]
    module = importlib.import_module(row.model_module())
    for name in (row.models[auto_class] for auto_class in auto_classes or row.models):
        calls.clear()
        model = getattr(module, name)(row.config_class()(num_labels=3, **fields))
        # The objects themselves are compared: an inner model runs `post_init` once as well, before the outer one.
        models = [made for made, _ in calls]
        assert len({id(made) for made in models}) == len(models), f"{name}: post_init ran twice on one object"
        assert models[-1] is model
        assert submodules(model) == calls[-1][1], f"{name}: submodules were added or replaced after post_init"
        inner = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
        assert {id(part) for part in inner} <= {id(made) for made in models}


def test_loading_leaves_out_torchs_initialisation_of_empty_weights(tmp_path, monkeypatch):
    tiny_model("deit", num_labels=3).save_pretrained(tmp_path)
    drawn = []
    kaiming = nn.init.kaiming_uniform_
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda *args, **more: drawn.append(1) or kaiming(*args, **more))
    model = DeiTForImageClassification.from_pretrained(tmp_path)
    assert not drawn
    other = DeiTForImageClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert 0 < other.classifier.weight.std() < 0.05  # a new classifier is initialised as the model does it
    weights = model.state_dict()
    assert all(weights[key].equal(v) for key, v in other.state_dict().items() if "classifier" not in key)
