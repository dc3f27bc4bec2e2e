"""Training runs from recipe to saved model, and the parts they are made of."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from hf_vits.data.images import SOURCES
from hf_vits.data.splits import load_classes
from hf_vits.optim.averaging import WeightAverage
from hf_vits.optim.optimizers import Adafactor, Lamb, build_optimizer, parameter_groups
from hf_vits.optim.schedules import build_schedule, learning_rate
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.recipe import ModelRecipe, OptimizerRecipe, ScheduleRecipe, load_recipe
from hf_vits.testing.hub import LoopbackHub
from hf_vits.training import building, tasks, train
from hf_vits.training.classification import label_fields
from hf_vits.training.loop.teacher import Teacher
from tests.support.paths import PARITY_CASES

from ..parity.golden import Case
from ..support.hub import tiny_model
from ..support.training import TINY_RECIPE, history, losses, tiny_recipe

DIGITS = [str(digit) for digit in range(10)]
IMAGE_CLASSIFICATION = tasks.load("image-classification")
TINY_DEIT = {
    "system": "deit",
    "variant": "deit_tiny_distilled_patch16_224",
    "config": {
        "image_size": 16,
        "patch_size": 8,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
}
LEARNING = {"train__length": "4 epochs", "augmentation": {}, "optimizer": {"learning_rate": 0.01}}


def build_model(recipe, class_names):
    return building.build_model(recipe, label_fields(class_names), IMAGE_CLASSIFICATION)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that learns the digits somewhat: its directory, recipe and results."""
    directory = tmp_path_factory.mktemp("run")
    recipe = tiny_recipe(directory, train__log_every="10 steps", train__evaluate_every="1 epoch", **LEARNING)
    return directory, recipe, train(recipe)


# a whole run


def test_a_run_learns(run):
    directory, _, results = run
    assert results["test"]["accuracy"] > 0.5
    assert results["test"]["accuracy"] <= results["test"]["top5_accuracy"] <= 1
    assert results["steps"] == 4 * (1293 // 32)
    assert (results["train_images"], results["validation_images"], results["test_images"]) == (1293, 144, 360)
    assert json.loads((directory / "results.json").read_text()) == results


def test_the_saved_model_gives_the_accuracy_that_was_reported(run):
    directory, recipe, results = run
    model = AutoModelForImageClassification.from_pretrained(directory).eval()
    processor = AutoImageProcessor.from_pretrained(directory)
    assert model.config.id2label == dict(enumerate(DIGITS))
    test = load_classes(load_recipe(recipe).data, SOURCES).test
    images = [test.inputs[i].convert("RGB") for i in range(len(test))]
    with torch.no_grad():
        predicted = model(**processor(images=images, return_tensors="pt")).logits.argmax(dim=1).numpy()
    assert (predicted == test.labels).mean() == pytest.approx(results["test"]["accuracy"])
    rows = list(csv.reader((directory / "confusion_matrix.csv").open()))
    assert rows[0] == ["true", *DIGITS]
    counts = np.array([[int(count) for count in row[1:]] for row in rows[1:]])
    assert counts.sum() == 360
    assert counts.trace() == (predicted == test.labels).sum()


def test_the_history_has_losses_rates_and_evaluations(run):
    entries = history(run[0])
    logged = [entry for entry in entries if "loss" in entry]
    assert [entry["step"] for entry in logged] == [1, *range(10, 161, 10)]
    assert {"loss", "learning_rate", "grad_norm", "epoch", "step"} <= logged[0].keys()
    evaluations = [entry for entry in entries if "eval_accuracy" in entry]
    assert [entry["epoch"] for entry in evaluations] == [1, 2, 3, 4]
    assert evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"]


def test_the_card_shows_the_run(run):
    directory, _, results = run
    card = (directory / "README.md").read_text()
    assert f"{results['test']['accuracy']:.6g}" in card
    for name in ("curves", "confusion_matrix", "predictions"):
        assert f"({name}.png)" in card
        with Image.open(directory / f"{name}.png") as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[1] > 500
        assert pixels.std() > 10, f"{name}.png is blank"
    assert "optimizer.learning_rate | 0.01" in card
    assert str(directory) not in card


def test_only_the_last_checkpoint_is_kept_and_nothing_half_written(run):
    directory = run[0]
    assert [path.name for path in (directory / "checkpoints").iterdir()] == ["checkpoint-160"]
    assert not [path.name for path in directory.iterdir() if path.name.startswith(".") or "partial" in path.name]


@pytest.mark.parametrize("loss", ["binary", "sigmoid"])
def test_other_losses_learn_too(tmp_path, loss):
    train(tiny_recipe(tmp_path, objective={"loss": loss}, train__length="25 steps", train__evaluate_every=None))
    assert np.mean(losses(tmp_path)[-5:]) < np.mean(losses(tmp_path)[:5])


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    recipe = tiny_recipe(tmp_path, optimizer={"name": "sgd", "learning_rate": 1e30}, train__ema_decay=None)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step \d+: a lower optimizer.learning_rate"):
        train(recipe, ["train.use_ema=false"])


def test_more_images_per_batch_than_there_are_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"1293 training samples are fewer than train.batch_size 2000"):
        train(tiny_recipe(tmp_path, train__batch_size=2000))


def test_folders_train_with_unreadable_files_only_if_asked(tmp_path):
    colours = {"dark": 40, "light": 200}
    for name, level in colours.items():
        for split in ("train", "test"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
        for number in range(24):
            noise = np.random.RandomState(number).randint(0, 40, (20, 20, 3))
            folder = tmp_path / "images" / ("train" if number % 4 else "test") / name
            Image.fromarray((level + noise).astype(np.uint8)).save(folder / f"{number}.png")
    for split in ("train", "test"):
        (tmp_path / "images" / split / "dark" / "broken.png").write_bytes(b"")
    data = {"source": "folder", "path": str(tmp_path / "images"), "validation_fraction": 0.0}
    recipe = tiny_recipe(tmp_path / "run", data=data, train__batch_size=8, train__length="10 epochs", augmentation={})
    with pytest.raises(OSError, match=r"broken\.png cannot be read: .*data\.skip_unreadable: true.*hf-vits check"):
        train(recipe)
    results = train(recipe, ["data.skip_unreadable=true"])  # goes on where it stopped
    assert (results["train_images"], results["test_images"]) == (37, 12)  # in training it is replaced
    assert results["unreadable_images"] == 1
    (named,) = (tmp_path / "run" / "unreadable.jsonl").read_text().splitlines()
    assert "broken.png" in named
    assert results["test"]["accuracy"] == 1.0
    assert "validation" not in results


def test_a_run_pushes_its_model_and_card(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home", hub.token):
        recipe = tiny_recipe(tmp_path / "run", output__push_to_hub="user/digits", output__private=True)
        train(recipe, ["train.length=5 steps"])
        pulled = AutoModelForImageClassification.from_pretrained("user/digits").state_dict()
        pushed = set(hub.repository("user/digits").at("main").files)
        assert hub.repository("user/digits").private
    saved = AutoModelForImageClassification.from_pretrained(tmp_path / "run").state_dict()
    assert all(torch.equal(pulled[name], value) for name, value in saved.items())
    assert {"README.md", "curves.png", "model.safetensors", "preprocessor_config.json"} <= pushed
    assert not {name for name in pushed if "checkpoint" in name or "training_args" in name or name == "recipe.yaml"}


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [({"workers": 2}, 0), ({"activation_checkpointing": True}, 1e-6), ({"precision": "bf16"}, 0.02)],
    ids=["workers", "checkpointing", "bf16"],
)
def test_how_a_run_is_computed_does_not_change_its_curve(short_run, tmp_path, change, tolerance):
    train(tiny_recipe(tmp_path, train__length="6 steps", **{f"train__{key}": value for key, value in change.items()}))
    assert losses(tmp_path) == pytest.approx(short_run, abs=tolerance)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """Losses of six steps of the tiny recipe."""
    directory = tmp_path_factory.mktemp("short")
    train(tiny_recipe(directory, train__length="6 steps"))
    return losses(directory)


# models


def test_fine_tuning_starts_from_the_saved_weights(run, tmp_path):
    directory = run[0]
    model, _ = build_model(ModelRecipe(pretrained=str(directory)), DIGITS)
    saved = AutoModelForImageClassification.from_pretrained(directory)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), saved.parameters(), strict=True))
    model, _ = build_model(ModelRecipe(pretrained=str(directory), config={"drop_path_rate": 0.3}), ["odd", "even"])
    assert model.classifier.weight.shape[0] == 2
    assert model.config.id2label == {0: "odd", 1: "even"}
    assert model.config.drop_path_rate == 0.3
    assert torch.equal(model.model.norm.weight, saved.model.norm.weight)
    train(
        tiny_recipe(
            tmp_path, model={"pretrained": str(directory)}, train__length="1 step", schedule={}, augmentation={}
        )
    )
    assert losses(tmp_path)[0] < 1.5


def test_any_classifier_of_transformers_is_trained(tmp_path):
    config = ViTConfig(
        image_size=16, patch_size=8, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    train(tiny_recipe(tmp_path / "run", model={"pretrained": str(tmp_path / "vit")}, train__length="6 steps"))
    trained = AutoModelForImageClassification.from_pretrained(tmp_path / "run")
    assert isinstance(trained, ViTForImageClassification)
    assert trained.config.num_labels == 10


def test_an_original_checkpoint_keeps_its_head_where_the_classes_agree(tmp_path):
    case = Case.load(PARITY_CASES / "cct" / "cct_6_3x2_32.json")
    original = {key: torch.from_numpy(value) for key, value in case.checkpoint().items()}
    torch.save(original, tmp_path / "cct.pth")
    recipe = ModelRecipe(system="cct", variant="cct_6_3x2_32", checkpoint=str(tmp_path / "cct.pth"))
    model, _ = build_model(recipe, DIGITS)
    assert torch.equal(model.classifier.weight, original["classifier.fc.weight"])
    other, processor = build_model(recipe, ["a", "b", "c"])
    assert other.classifier.weight.shape[0] == 3
    assert other.config.label2id == {"a": 0, "b": 1, "c": 2}
    body = dict(model.model.named_parameters())
    assert all(torch.equal(value, body[name]) for name, value in other.model.named_parameters())
    assert processor.crop_size["height"] == 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "cat"}, "unknown system 'cat', did you mean 'coat'"),
        ({"variant": "cct_3"}, "model.variant: cct has no 'cct_3'"),
        ({"config": {"hidden_sise": 3}}, "model.config: CctConfig has no field hidden_sise"),
        ({"config": {"pooling": "best"}}, "pooling"),
        ({"processor": {"mean": 0}}, "model.processor: VitsImageProcessor has no mean"),
        ({"variant": "text_cct_2"}, "text_cct_2 is a CctForSequenceClassification; this task trains"),
        ({"checkpoint": "nowhere.pth"}, "nowhere.pth"),
    ],
)
def test_a_wrong_model_is_refused(changes, message):
    with pytest.raises((ValueError, OSError), match=message):
        build_model(ModelRecipe(**{"system": "cct", "variant": "cct_2_3x2_32"} | changes), DIGITS)


def test_an_unknown_field_of_a_pretrained_model_is_refused(run):
    with pytest.raises(ValueError, match="CctConfig has no field depth"):
        build_model(ModelRecipe(pretrained=str(run[0]), config={"depth": 3}), DIGITS)


# distillation


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("student", [TINY_DEIT, TINY_RECIPE["model"]], ids=["two heads", "one head"])
def test_a_student_follows_its_teacher(run, tmp_path, kind, student):
    """With alpha 1 nothing but the teacher is learned from; a distilled DeiT's second head follows it."""
    objective = {"distillation": kind, "alpha": 1.0, "temperature": 2.0}
    often = {"train__log_every": "10 steps", "train__save_every": None, "train__evaluate_every": None}
    changes = LEARNING | {"train__length": "60 steps", "train__use_ema": False} | often
    train(tiny_recipe(tmp_path, model=student, teacher={"pretrained": str(run[0])}, objective=objective, **changes))
    entries = [entry for entry in history(tmp_path) if "loss" in entry]
    assert entries[-1]["distillation_loss"] < 0.8 * entries[0]["distillation_loss"]
    assert entries[0]["loss"] == pytest.approx(entries[0]["distillation_loss"], rel=1e-4)
    assert "base_loss" in entries[0]


def test_a_distilled_model_trains_both_heads_without_a_teacher(tmp_path):
    train(tiny_recipe(tmp_path / "after", model=TINY_DEIT, train__length="8 steps", train__use_ema=False))
    before, _ = build_model(ModelRecipe(**TINY_DEIT), DIGITS)
    after = AutoModelForImageClassification.from_pretrained(tmp_path / "after")
    assert after.distillation_classifier.bias.abs().max() > 0
    assert before.distillation_classifier.bias.abs().max() == 0


def test_the_teacher_sees_the_images_as_it_expects_them(run):
    model, processor = build_model(ModelRecipe(pretrained=str(run[0])), DIGITS)
    other = VitsImageProcessor(
        size={"height": 16, "width": 16}, do_center_crop=False, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.4, 0.3]
    )
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (16, 16, 3), dtype=np.uint8))
    theirs = processor(images=image, return_tensors="pt")["pixel_values"]
    students = other(images=image, return_tensors="pt")["pixel_values"]
    teacher = Teacher(model, processor, other)
    teacher.train()
    with torch.no_grad():
        torch.testing.assert_close(teacher(students), model.eval()(theirs).logits, rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher(torch.zeros(2, 3, 24, 24)).shape == (2, 10)  # resized to its own 16 pixels


def test_a_teacher_of_other_classes_is_refused(run, tmp_path):
    model, processor = build_model(ModelRecipe(pretrained=str(run[0])), ["a", "b", "c"])
    model.save_pretrained(tmp_path / "teacher")
    processor.save_pretrained(tmp_path / "teacher")
    recipe = tiny_recipe(
        tmp_path, teacher={"pretrained": str(tmp_path / "teacher")}, objective={"distillation": "hard"}
    )
    with pytest.raises(ValueError, match="has 3 classes, the data have 10"):
        train(recipe)


# averaged weights


def test_the_average_starts_at_the_first_weights_and_decays():
    model = nn.Linear(2, 1, bias=False)
    weights = [torch.full((1, 2), float(value)) for value in (1, 5, 2)]
    model.weight.data = weights[0].clone()
    average = WeightAverage(model, decay=0.75)
    expected = weights[0]
    for weight in weights[1:]:
        model.weight.data = weight.clone()
        average.on_step_end(None, None, None, model=model)
        expected = 0.75 * expected + 0.25 * weight
    with average.applied_to(model):
        torch.testing.assert_close(model.weight.data, expected)
    assert torch.equal(model.weight.data, weights[-1])


def test_the_average_is_the_result_only_if_asked(tmp_path):
    for use in (True, False):
        train(
            tiny_recipe(tmp_path / str(use), train__length="6 steps", train__save_every="6 steps", train__use_ema=use)
        )
    averaged, plain = (
        AutoModelForImageClassification.from_pretrained(tmp_path / str(use)).state_dict() for use in (True, False)
    )
    stored = torch.load(tmp_path / "False" / "checkpoints" / "checkpoint-6" / "averaged_weights.pt", weights_only=True)
    assert all(torch.equal(stored[name], value) for name, value in averaged.items())
    assert not all(torch.equal(value, averaged[name]) for name, value in plain.items())


# optimizers


def gradients(shape, steps=4):
    return np.random.RandomState(0).standard_normal((steps, *shape)).astype(np.float32)


def optimized(optimizer, start, steps, **settings):
    parameter = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = optimizer([parameter], **settings)
    for gradient in steps:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lamb(decay):
    start, steps = gradients((5, 4), 1)[0], gradients((5, 4))
    p, m, v = start.astype(np.float64), 0, 0
    for t, g in enumerate(steps.astype(np.float64), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        update = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * p
        trust = np.linalg.norm(p) / np.linalg.norm(update) if decay else 1
        p = p - 0.01 * trust * update
    np.testing.assert_allclose(optimized(Lamb, start, steps, lr=0.01, weight_decay=decay), p, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 50), (40, 3, 33), (20, 50), (7,)])
def test_adafactor(shape):
    """Matrices of at least 32 rows and columns are factored; momentum is kept with bfloat16's eight bits."""
    start, steps = gradients(shape, 1)[0], gradients(shape)
    factored = sum(size >= 32 for size in shape) >= 2
    p, m, second = start.astype(np.float64), np.zeros(shape), 0
    for t, g in enumerate(steps.astype(np.float64), 1):
        beta = min(0.999, 1 - t**-0.8)
        second = beta * second + (1 - beta) * (g**2 + 1e-30)
        root = second
        if factored:
            small, large = np.argsort(shape)[-2:]
            rows, columns = second.mean(axis=large, keepdims=True), second.mean(axis=small, keepdims=True)
            root = rows * columns / rows.mean(axis=small, keepdims=True)
        m = 0.9 * m + 0.1 * g / np.sqrt(root)
        p = p - 0.01 * (m + 0.03 * p)
        m = torch.from_numpy(m).bfloat16().double().numpy()
    result = optimized(Adafactor, start, steps, lr=0.01, weight_decay=0.03)
    np.testing.assert_allclose(result, p, rtol=1e-4, atol=2e-5)


def test_adafactor_resumes_with_its_momentum_in_bfloat16():
    parameter = nn.Parameter(torch.randn(3, 4))
    optimizer = Adafactor([parameter], lr=0.1)
    parameter.grad = torch.randn(3, 4)
    optimizer.step()
    resumed = Adafactor([parameter], lr=0.1)
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.state[parameter]["momentum"].dtype == torch.bfloat16
    assert torch.equal(resumed.state[parameter]["momentum"], optimizer.state[parameter]["momentum"])


@pytest.fixture
def small_model():
    return build_model(ModelRecipe(system="vit", variant="mu/16", config={"num_hidden_layers": 3}), DIGITS)[0]


def test_layer_decay_lowers_the_rate_from_the_head_down(small_model):
    groups = parameter_groups(small_model, OptimizerRecipe(learning_rate=1.0, layer_decay=0.5))
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert rates["classifier.weight"] == rates["model.norm.bias"] == 1.0
    assert [rates[f"model.layers.{i}.mlp.up.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert rates["model.embeddings.patch_embedding.projection.weight"] == 0.0625


def test_layer_decay_counts_the_layers_of_all_stages():
    groups = parameter_groups(tiny_model("cvt"), OptimizerRecipe(learning_rate=1.0, layer_decay=0.5))
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    layers = ("stages.0.layers.0", "stages.1.layers.0", "stages.2.layers.0", "stages.2.layers.1")
    assert [rates[f"model.{layer}.mlp.up.weight"] for layer in layers] == [0.0625, 0.125, 0.25, 0.5]
    assert rates["model.stages.1.embeddings.projection.weight"] == 0.125
    assert rates["model.embeddings.projection.weight"] == 0.03125
    assert rates["model.norm.bias"] == rates["classifier.bias"] == 1.0


def test_layer_decay_needs_layers():
    class Stages(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1)])}) for _ in range(2))

    with pytest.raises(ValueError, match=r"one stack of layers or of stages; Stages has a\.layers, b\.layers"):
        parameter_groups(Stages(), OptimizerRecipe(learning_rate=1.0, layer_decay=0.5))


def test_frozen_parameters_are_left_out(small_model):
    small_model.model.requires_grad_(False)
    (names,) = [group["names"] for group in parameter_groups(small_model, OptimizerRecipe(learning_rate=1.0))]
    assert names == ["classifier.weight", "classifier.bias"]


def test_options_that_an_optimizer_does_not_have_are_refused(small_model):
    recipe = OptimizerRecipe(name="sgd", learning_rate=1.0, options={"betas": [0.9, 0.99]})
    with pytest.raises(ValueError, match=r"do not suit optimizer.name: sgd: .*betas"):
        build_optimizer(small_model, recipe)


# schedules


def rates(total=100, per_epoch=10, peak=1.0, **settings):
    rate = learning_rate(ScheduleRecipe(**settings), peak, total, per_epoch)
    return [rate(step) for step in range(total + 1)]


def test_cosine_with_warmup_and_cooldown():
    values = rates(warmup="1 epoch", warmup_learning_rate=0.2, min_learning_rate=0.1, cooldown="20 steps")
    assert values[:11] == pytest.approx([0.2 + 0.08 * step for step in range(11)])
    assert values[45] == pytest.approx(0.55)  # halfway down
    assert values[80:] == pytest.approx([0.1] * 21)
    assert values == sorted(values[:11]) + sorted(values[11:], reverse=True)


def test_rsqrt_with_cooldown_as_big_vision():
    values = rates(kind="rsqrt", warmup="10 steps", timescale="20 steps", cooldown="50 steps")
    for step, value in enumerate(values):
        expected = 1 / math.sqrt(1 + (step - 10) / 20) if step >= 10 else 1.0
        assert value == pytest.approx(expected * min(1, step / 10) * min(1, (100 - step) / 50))


def test_linear_and_constant():
    assert rates(kind="linear", warmup="20 steps")[60] == pytest.approx(0.5)
    assert rates(kind="constant")[50] == 1.0


def test_groups_keep_their_proportions(small_model):
    optimizer = build_optimizer(small_model, OptimizerRecipe(learning_rate=0.2, layer_decay=0.5))
    schedule = build_schedule(optimizer, ScheduleRecipe(kind="linear"), 0.2, 10, 1)
    before = [group["lr"] for group in optimizer.param_groups]
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate / 2 for rate in before])


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match=r"schedule.warmup \(200 steps\) .* longer than the run of 100 steps"):
        rates(warmup="20 epochs")
