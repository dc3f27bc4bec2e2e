"""Evaluation of features without fine-tuning: neighbours, linear probes, few shots, and the pictures."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import DataLoader
from transformers import AutoModelForImageClassification
from transformers import ViTConfig as TransformersViTConfig
from transformers import ViTForImageClassification as TransformersViTForImageClassification

from hf_vits import VitsImageProcessor
from hf_vits.cli import main
from hf_vits.evaluation import linear_probe as probing
from hf_vits.evaluation import low_shot, neighbours
from hf_vits.evaluation.features import extract, load_encoder, plain_encoder
from hf_vits.figures import features as pictures
from hf_vits.hub import model_card, save_for_hub
from hf_vits.layers.patch import square_grid
from hf_vits.pretraining.linear_probe.configuration_linear_probe import LinearProbeConfig
from hf_vits.pretraining.linear_probe.modeling_linear_probe import LinearProbeForImageClassification, layer_features
from hf_vits.pretraining.sit.configuration_sit import SiTConfig
from hf_vits.pretraining.sit.modeling_sit import SiTForPreTraining
from hf_vits.recipe import DataRecipe
from hf_vits.training import tasks, train

from ..pretraining.test_pretraining import dino, ibot, images, mae
from ..support.hub import TINY, model_class, tiny_model, tiny_processor

GREY = {"do_grayscale": True, "image_mean": [0.5], "image_std": [0.5]}
DIGITS = VitsImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False, **GREY)
# The mean of random patch features says more than a class token that nothing has trained.
BACKBONE = {
    "model_type": "hf_vits_vit",
    "image_size": 16,
    "patch_size": 4,
    "num_channels": 1,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "use_class_token": False,
    "pooling": "mean",
}
TASK = tasks.load("image-classification")


def encoder(name: str, **fields):
    """A tiny encoder of 32 x 32 pixels."""
    torch.manual_seed(0)
    cls = model_class(name, "AutoModel")
    return cls(cls.config_class(**TINY[name] | fields)).eval()


def digits_model():
    """DINO over a ViT of grey images of 16 x 16 pixels, as it starts."""
    return dino(backbone_config=BACKBONE)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A saved model that pretrains, with its processor."""
    directory = tmp_path_factory.mktemp("models") / "dino"
    return save_for_hub(digits_model(), directory, DIGITS, bundle=False)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    """A saved plain encoder, as it is exported."""
    directory = tmp_path_factory.mktemp("models") / "backbone"
    return save_for_hub(digits_model().export(), directory, DIGITS)


@pytest.fixture(scope="module")
def digits():
    """Features of three layers of the random encoder for training and test digits, with labels."""
    model = digits_model().export()
    splits = TASK.load_splits(DataRecipe(source="digits", validation_fraction=0.0, test_fraction=0.3))
    loaders = (DataLoader(TASK.evaluation_set(None, model, DIGITS, s), 128) for s in (splits.train, splits.test))
    (train_features, train_labels), (features, labels) = (extract(model, loader, 3) for loader in loaders)
    return train_features, train_labels, features, labels


# neighbours


@pytest.mark.parametrize("k", [1, 4, 20])
def test_neighbours_vote_as_those_of_scikit_learn(k):
    pixels, labels = load_digits(return_X_y=True)
    bank, known, asked, true = pixels[:1000], labels[:1000], pixels[1000:], labels[1000:]
    theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.1))
    expected = theirs.fit(bank, known).predict_proba(asked)
    votes = neighbours.vote(*map(torch.from_numpy, (asked, bank, known)), k, 10, temperature=0.1)
    np.testing.assert_allclose(votes / votes.sum(dim=1, keepdim=True), expected, atol=1e-9)
    measured = neighbours.accuracy(*map(torch.from_numpy, (bank, known, asked, true)), k=k, temperature=0.1)
    assert measured["top1"] == pytest.approx(theirs.score(asked, true), abs=2 / len(asked))  # ties
    assert measured["top1"] <= measured["top5"] <= 1


def test_neighbours_are_searched_for_once_for_several_numbers_and_in_parts(digits, monkeypatch):
    several = neighbours.accuracies(*digits, [5, 50])
    monkeypatch.setattr(neighbours, "SIMILARITIES", 7 * len(digits[0]))
    assert several == {k: neighbours.accuracy(*digits, k=k) for k in (5, 50)}
    with pytest.raises(ValueError, match="2000 neighbours cannot be found among 1257 images"):
        neighbours.accuracy(*digits, k=2000)


# features


def test_extract_is_what_the_model_pools_in_evaluation_mode():
    model = encoder("vit", pooling="token", hidden_dropout_prob=0.5).train()
    pixel_values, labels = images(5, 3, 32, 32), torch.arange(5)
    batches = [{"pixel_values": pixel_values[:3], "labels": labels[:3]}]
    batches.append({"pixel_values": pixel_values[3:], "labels": labels[3:]})
    features, found = extract(model, batches)
    assert model.training
    with torch.no_grad():
        expected = model.eval()(pixel_values).pooler_output
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(found, labels)
    features, _ = extract(model.to(torch.bfloat16), batches)
    assert features.dtype == torch.float32
    with pytest.raises(ValueError, match="at least one batch"):
        extract(model, [])


@pytest.mark.parametrize("patch_mean", [False, True])
def test_features_of_the_last_layers_of_a_vit(patch_mean):
    model, pixel_values = encoder("deit"), images(2, 3, 32, 32)
    with torch.no_grad():
        states = [model.norm(state) for state in model(pixel_values, output_hidden_states=True).hidden_states]
        features = layer_features(model, pixel_values, 2, patch_mean)
    expected = [states[1][:, 0], states[2][:, 0]] + [states[2][:, 2:].mean(dim=1)] * patch_mean  # two prefix tokens
    torch.testing.assert_close(features, torch.cat(expected, dim=1))


@pytest.mark.parametrize(("name", "has_class_token"), [("swin", False), ("cvt", True)])
def test_features_of_the_last_layers_of_an_encoder_in_stages(name, has_class_token):
    """Four layers, the last two in the last stage; the norm, and the class token, are that stage's alone."""
    fields = {"use_class_token": True} if has_class_token else {}
    model, pixel_values, seen = encoder(name, **fields), images(2, 3, 32, 32), []
    for stage in model.stages:
        for layer in stage.layers:
            layer.register_forward_hook(lambda module, arguments, output: seen.append(output))
    with torch.no_grad():
        model(pixel_values)
        features = layer_features(model, pixel_values, 3)
        last = [model.norm(tokens) for tokens in seen[2:4]]
    pooled = [tokens[:, 0] if has_class_token else tokens.mean(dim=1) for tokens in last]
    torch.testing.assert_close(features, torch.cat([seen[1].mean(dim=1), *pooled], dim=1))
    torch.testing.assert_close(features[:, -16:], model(pixel_values).pooler_output.detach())


def test_features_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="at most the backbone's 2 layers, got 3"):
        layer_features(encoder("deit"), images(1, 3, 32, 32), 3)
    with pytest.raises(ValueError, match="CoatModel does not record the outputs"):
        layer_features(encoder("coat"), images(1, 3, 32, 32), 2)
    with pytest.raises(ValueError, match="at most the backbone's 12 layers, got 13"):
        LinearProbeConfig(num_layers=13)


def test_the_encoder_in_any_model(tmp_path):
    pixel_values = images(2, 3, 32, 32)
    ours = {"dino": dino(), "ibot": ibot(), "mae": mae(), "probe": probe(), "classifier": tiny_model("vit")}
    expected = {
        "dino": ours["dino"].teacher.backbone,
        "ibot": ours["ibot"].teacher.backbone,
        "mae": ours["mae"].export(),
        "probe": ours["probe"].backbone,
        "classifier": ours["classifier"].model,
    }
    for name, model in ours.items():
        save_for_hub(model, tmp_path / name, tiny_processor(), bundle=False)
        for found in (plain_encoder(model), load_encoder(tmp_path / name)):
            with torch.no_grad():
                pooled = [one.eval()(pixel_values).pooler_output for one in (found, expected[name])]
            torch.testing.assert_close(*pooled)


def test_the_encoder_in_a_vit_of_transformers(tmp_path):
    config = TransformersViTConfig(image_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    theirs = TransformersViTForImageClassification(config).eval()
    theirs.vit.save_pretrained(tmp_path)
    pixel_values = images(2, 3, 32, 32)
    with torch.no_grad():
        pooled = load_encoder(tmp_path)(pixel_values).pooler_output
        torch.testing.assert_close(pooled, theirs.vit(pixel_values).last_hidden_state[:, 0], atol=1e-5, rtol=1e-4)


# linear probes


def probe(**fields) -> LinearProbeForImageClassification:
    return LinearProbeForImageClassification.from_backbone(encoder("deit"), num_labels=3, **fields).eval()


@pytest.mark.parametrize("name", probing.SETTINGS)
def test_a_linear_probe_learns_digits_on_random_features(digits, name):
    train_features, train_labels, features, labels = digits
    settings = probing.SETTINGS[name]
    settings = replace(settings, learning_rate=100 * settings.learning_rate)  # a few of the original's steps
    classifier = probing.train_probe(train_features, train_labels, 10, settings)
    again = probing.train_probe(train_features, train_labels, 10, settings)
    assert torch.equal(classifier(features), again(features))
    measured = probing.accuracy(classifier, features, labels)
    assert measured["top1"] > 0.6
    assert measured["top5"] > 0.9
    norm, linear = classifier
    assert isinstance(norm, torch.nn.BatchNorm1d) == (name == "mae")
    assert linear.weight.shape == (10, 144)


@pytest.mark.parametrize("fields", [{}, {"num_layers": 2, "patch_mean": True}, {"batch_norm": True}])
def test_a_probe_trains_its_classifier_alone(fields, tmp_path):
    model = probe(**fields).train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    pixel_values, labels = images(6, 3, 32, 32), torch.arange(6) % 3
    first = model(pixel_values, labels=labels).loss
    for _ in range(5):
        loss = model(pixel_values, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < first
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path).train()
    assert {name for name, p in loaded.named_parameters() if p.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }
    assert not loaded.backbone.training
    assert torch.equal(loaded.eval()(pixel_values).logits, model(pixel_values).logits)


def test_a_backbone_with_moving_averages_and_dropout_stays_as_it_is():
    """CvT has batch norms, which training mode would move."""
    model = LinearProbeForImageClassification.from_backbone(encoder("cvt", hidden_dropout_prob=0.5), num_labels=3)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.train()
    pixel_values = images(4, 3, 32, 32)
    assert torch.equal(model(pixel_values).logits, model(pixel_values).logits)
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())


def recipe(directory: Path, **model) -> dict:
    return {
        "model": {"probe": {"num_layers": 3, "batch_norm": True}, **model},
        "data": {"source": "digits", "test_fraction": 0.2},
        "optimizer": {"name": "sgd", "learning_rate": 0.3, "options": {"momentum": 0.9}},
        "schedule": {"warmup": "2 steps"},
        "train": {"length": "3 epochs", "batch_size": 64, "evaluate_every": None, "save_every": None},
        "output": {"directory": str(directory)},
    }


def test_a_recipe_trains_a_probe_on_a_pretrained_model(tmp_path, pretrained):
    results = train(recipe(tmp_path / "run", pretrained=str(pretrained)))
    assert results["test"]["accuracy"] > 0.5
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "run")
    assert isinstance(model, LinearProbeForImageClassification)
    exported = digits_model().export().state_dict()
    assert model.backbone.state_dict().keys() == exported.keys()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, exported[name]), name
    assert result_of("evaluate", tmp_path / "run", write(recipe(tmp_path, pretrained="x"), tmp_path))[
        "accuracy"
    ] == pytest.approx(results["test"]["accuracy"])
    card = (tmp_path / "run" / "README.md").read_text()
    assert "AutoModelForImageClassification" in card
    assert "This needs hf_vits" in card


def test_a_recipe_probes_plain_backbones_and_new_models(tmp_path, backbone):
    fields = {key: value for key, value in BACKBONE.items() if key not in ("model_type", "use_class_token", "pooling")}
    scratch = {"system": "dino", "variant": "vit_small_patch16", "config": fields, "processor": GREY}
    for index, model in enumerate(({"pretrained": str(backbone)}, scratch)):
        built = recipe(tmp_path / str(index), **model) | {"train": {"length": "2 steps", "batch_size": 8}}
        assert train(built)["steps"] == 2
    with pytest.raises(ValueError, match="ViTConfig has no field colour"):
        train(recipe(tmp_path / "bad", pretrained=str(backbone), config={"colour": 3}))


def test_a_probe_has_the_card_of_its_backbone():
    card = model_card(probe())
    assert card.data.license == "apache-2.0"
    assert "DeiT" in card.text


# few shots


def test_few_shots_are_drawn_class_by_class():
    labels, generator = np.repeat([0, 1, 4], [100, 40, 3]), np.random.default_rng(0)
    for shots, expected in ((2, [2, 2, 2]), (0.1, [10, 4, 1]), (0.01, [1, 1, 1]), (1.0, [100, 40, 3])):
        chosen = low_shot.choose(labels, shots, generator)
        assert len(set(chosen)) == len(chosen)
        assert [int((labels[chosen] == label).sum()) for label in (0, 1, 4)] == expected
    with pytest.raises(ValueError, match="cannot draw 4 images of class 4, which has 3"):
        low_shot.choose(labels, 4, generator)


def test_the_penalty_is_over_the_number_of_images(digits):
    """At its end the mean loss's gradient is the penalty's, which DINO's authors weigh by 0.1 / images."""
    features, labels = digits[0][:200].double().numpy(), digits[1][:200].numpy()
    classifier = low_shot.fit(features, labels, penalty=0.1)
    errors = classifier.predict_proba(features) - np.eye(10)[labels]
    gradient = errors.T @ features / len(features)
    np.testing.assert_allclose(gradient, -0.1 / len(features) * classifier.coef_, atol=2e-4)
    assert (classifier.intercept_ == 0).all()


def test_more_shots_tell_more(digits):
    few, more = (low_shot.accuracy(*digits, shots=shots) for shots in (1, 20))
    assert few["images"] == 10
    assert more["images"] == 200
    assert 0.15 < few["top1"] < more["top1"] - 0.1
    assert more["top1"] <= more["top5"] <= 1
    assert low_shot.accuracy(*digits, shots=1) == few


# the command


def command(*arguments) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def result_of(*arguments):
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def error_of(*arguments) -> str:
    code, out, err = command(*arguments)
    assert (code, out) == (2, ""), err
    return err


def write(recipe: dict, directory: Path) -> Path:
    path = directory / "recipe.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path


def test_evaluate_by_neighbours(backbone, pretrained):
    result = result_of("evaluate", backbone, "digits", "--method", "knn")
    assert [row["neighbours"] for row in result["results"]] == [10, 20, 100, 200]
    assert (result["train_images"], result["images"], result["channels"]) == (1437, 360, 48)
    assert all(0.3 < row["top1"] < row["top5"] <= 1 for row in result["results"])
    again = result_of("evaluate", pretrained, "digits", "--method", "knn", "--neighbours", 20)
    assert again["results"] == [result["results"][1]]
    code, out, _ = command("evaluate", backbone, "digits", "--method", "knn")
    assert code == 0
    assert "neighbours" in out
    assert f"{result['results'][0]['top1']:.4g}" in out


def test_evaluate_by_linear_probes(backbone):
    options = ("evaluate", backbone, "digits", "--method", "linear", "--epochs", 30)
    result = result_of(*options, "--layers", 2, "--patch-mean", "--learning-rate", 0.3)
    assert (result["probe"], result["channels"], result["epochs"]) == ("dino", 3 * 48, 30)
    assert [row["learning_rate"] for row in result["results"]] == [0.3]
    assert result["results"][0]["top1"] > 0.5
    rows = result_of(*options, "--probe", "mae")["results"]
    assert [row["learning_rate"] for row in rows] == [0.1, 1, 10]
    assert rows[0]["top1"] < rows[2]["top1"]
    assert rows[2]["top1"] > 0.5
    assert "at most the backbone's 3 layers, got 4" in error_of(*options)


def test_evaluate_by_few_shots_on_a_folder(backbone, tmp_path):
    pixels, labels = load_digits(return_X_y=True)
    for index in range(200):
        split = tmp_path / ("train" if index < 150 else "test") / str(labels[index])
        split.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels[index].reshape(8, 8) * 15).astype(np.uint8)).save(split / f"{index}.png")
    result = result_of("evaluate", backbone, tmp_path, "--method", "low-shot", "--shots", 1, "50%")
    assert [row["shots"] for row in result["results"]] == [1, "50%"]
    assert (result["train_images"], result["images"]) == (150, 50)
    assert result["results"][0]["top1"] < result["results"][1]["top1"]
    (tmp_path / "train" / "3" / "bad.png").write_text("no image")
    options = ("evaluate", backbone, tmp_path, "--method", "knn", "--neighbours", 3)
    assert "--skip-unreadable" in error_of(*options)
    assert result_of(*options, "--skip-unreadable")["train_images"] == 150


def test_bad_evaluations_are_refused(backbone, tmp_path):
    knn = ("evaluate", backbone, "digits", "--method", "knn")
    assert "--shots goes with --method low-shot, not knn" in error_of(*knn, "--shots", 3)
    assert "--figure goes with --method classify" in error_of(*knn, "--figure", tmp_path / "x.png")
    assert "learns from the training split" in error_of(*knn, "--split", "train")
    assert "must be above 0" in error_of(*knn, "--temperature", 0)
    assert "2000 neighbours cannot be found among 1437" in error_of(*knn, "--neighbours", 2000)
    assert "--method knn, linear and low-shot" in error_of("evaluate", backbone, "digits")
    assert "there is no folder" in error_of("evaluate", backbone, "./gone", "--method", "knn")
    save_for_hub(tiny_model("septr", "AutoModel"), tmp_path / "sound")
    assert "does not encode images" in error_of("evaluate", tmp_path / "sound", "digits", "--method", "knn")
    save_for_hub(digits_model().export(), tmp_path / "bare")
    assert "preprocessing is not known" in error_of("evaluate", tmp_path / "bare", "digits", "--method", "knn")


# pictures


PHOTOGRAPHS = images(2, 3, 32, 32)


def sit() -> SiTForPreTraining:
    torch.manual_seed(0)
    config = SiTConfig(backbone_config=dino().config.backbone_config, embedding_size=8, head_hidden_size=8)
    return SiTForPreTraining(config)


@pytest.mark.parametrize(
    ("draw", "model"),
    [
        (pictures.draw_method, mae),
        (pictures.draw_method, lambda: mae(normalize_targets=True)),
        (pictures.draw_method, sit),
        (pictures.draw_method, dino),
        (pictures.draw_attention, dino),
        (pictures.draw_attention, lambda: encoder("vit")),
        (pictures.draw_method, ibot),
        (pictures.draw_method, lambda: ibot(masking="high")),
        (pictures.draw_patch_components, lambda: encoder("swin")),
        (pictures.draw_patch_components, mae),
    ],
)
def test_pictures_are_drawn_the_same_each_time(draw, model, tmp_path):
    model = model().train()
    for name in ("first.png", "second.png"):
        draw(model, PHOTOGRAPHS, tiny_processor(), tmp_path / "pictures" / name)
    first, second = (Image.open(tmp_path / "pictures" / name) for name in ("first.png", "second.png"))
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert first.height > first.width / 2
    assert model.training
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["first.png", "second.png"]


def test_a_picture_of_attention_needs_a_class_token(tmp_path):
    with pytest.raises(ValueError, match="no class token"):
        pictures.draw_attention(encoder("swin"), PHOTOGRAPHS, tiny_processor(), tmp_path / "x.png")


def test_what_is_hidden_and_shown():
    processor = tiny_processor()
    image = np.random.default_rng(0).random((4, 8, 8, 3))
    mask = torch.zeros(4, 2, 2, dtype=torch.bool)
    mask[:, 0, 1] = True
    seen = pictures.hide(image, mask)
    assert (seen[:, :4, 4:] == pictures.GREY).all()
    np.testing.assert_array_equal(seen[:, 4:], image[:, 4:])
    pixel_values = processor(torch.from_numpy(image).permute(0, 3, 1, 2).float(), do_rescale=False, do_resize=False,
                             return_tensors="pt")["pixel_values"]  # fmt: skip
    np.testing.assert_allclose(pictures.denormalized(pixel_values, processor), image, atol=1e-6)
    assert square_grid(28, (32, 56)) == (4, 7)
