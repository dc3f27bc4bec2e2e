"""Every recipe of the project: it parses, its model can be built, its optimizer reaches every parameter once."""

from dataclasses import replace

import pytest
import torch

from hf_vits.optim.optimizers import build_optimizer
from hf_vits.optim.schedules import learning_rate
from hf_vits.recipe import flat, load_recipe
from hf_vits.recipe.fields import steps_of
from hf_vits.recipe.loading import RENAMED
from hf_vits.training import tasks
from hf_vits.training.building import build_model
from hf_vits.training.building.trainer import mixing_steps, training_arguments
from hf_vits.training.classification import label_fields
from tests.support.paths import RECIPES

from ..support.training import tiny_recipe

FILES = sorted(RECIPES.glob("*.yaml"))
IMAGENET = 1_281_167


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def recipe(request):
    return load_recipe(request.param)


@pytest.fixture
def model(recipe):
    return untrained(recipe)


def untrained(recipe):
    """The recipe's model, with a head for as many classes or tokens as the data have."""
    head = label_fields([f"class {i}" for i in range(recipe.data.num_classes or 10)])
    if isinstance(columns := recipe.data.columns.get("label"), list):
        head["head_sizes"] = [len(head["id2label"]) // len(columns)] * len(columns)
    if recipe.tokenizer:
        head = {"vocab_size": recipe.tokenizer.vocab_size or 30}
    with torch.device("meta"):
        return build_model(
            replace(recipe.model, checkpoint=None, target=None, initialize_from=None), head, tasks.load(recipe.task)
        )[0]


def named(name):
    return load_recipe(next(path for path in FILES if path.stem == name))


def test_there_are_recipes():
    assert {path.stem for path in FILES} >= {
        "audiomer_s_speech_commands",
        "branchformer_aishell",
        "branchformer_librispeech_100",
        "branchformer_slurp",
        "branchformer_speech_commands",
        "cct_7_3x1_cifar10",
        "cct_fashion_mnist",
        "deit3_small_imagenet1k",
        "deit_small_distilled_imagenet1k",
        "deit_small_imagenet1k",
        "demo_digits",
        "dino_vit_small_linear_probe_imagenet1k",
        "mae_vit_base_linear_probe_imagenet1k",
        "moving_digits_mvit",
        "moving_digits_vivit_factorised_dot_product",
        "moving_digits_vivit_factorised_encoder",
        "moving_digits_vivit_factorised_self_attention",
        "moving_digits_vivit_spacetime",
        "mvitv2_small_kinetics400",
        "mvitv2_small_ssv2",
        "septr_crema_d",
        "septr_esc50",
        "septr_speech_commands",
        "spoken_digits_branchformer",
        "spoken_keywords_audiomer",
        "spoken_keywords_septr",
        "vit_b16_imagenet1k",
        "vit_s16_imagenet1k",
        "vit_scaling_g14",
    }


def test_recipe_cites_its_source():
    for path in FILES:
        header = path.read_text().splitlines()[0]
        assert header.startswith("# "), path
        ours = any(
            name in path.stem for name in ("demo", "digit", "fashion", "moving", "scenes", "speaking", "spoken")
        )
        assert ours or "arXiv" in path.read_text(), path


def test_optimizer_groups_hold_every_parameter_once(recipe, model):
    optimizer = build_optimizer(model, recipe.optimizer)
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(map(id, grouped)) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if parameter.ndim <= 1:
                assert group["weight_decay"] == 0, name
            elif name == "classifier.weight":
                expected = recipe.optimizer.head_weight_decay or recipe.optimizer.weight_decay
                assert group["weight_decay"] == expected


def test_schedule_warms_up_and_ends_low(recipe):
    steps_per_epoch = IMAGENET // recipe.train.batch_size
    total = steps_of(recipe.train.length, steps_per_epoch)
    rate = learning_rate(recipe.schedule, recipe.optimizer.learning_rate, total, steps_per_epoch)
    warmup = steps_of(recipe.schedule.warmup, steps_per_epoch)
    if warmup:
        assert rate(0) == recipe.schedule.warmup_learning_rate
    assert rate(warmup) == pytest.approx(recipe.optimizer.learning_rate)
    if recipe.schedule.kind not in ("constant", "rsqrt") or steps_of(recipe.schedule.cooldown, steps_per_epoch):
        assert rate(total) == pytest.approx(recipe.schedule.min_learning_rate, abs=1e-9)
    assert max(map(rate, range(0, total + 1, 997))) <= recipe.optimizer.learning_rate


def test_objective_and_arguments_can_be_made(recipe):
    tasks.load(recipe.task).objective(recipe)
    steps_per_epoch = IMAGENET // recipe.train.batch_size
    arguments = training_arguments(recipe, steps_per_epoch)
    assert arguments.max_steps == steps_of(recipe.train.length, steps_per_epoch)
    assert 0 <= mixing_steps(recipe, steps_per_epoch) <= arguments.max_steps


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cct_7_3x1_cifar10", 3_760_139),
        ("deit_small_imagenet1k", 22_050_664),
        ("deit_small_distilled_imagenet1k", 22_436_432),
        ("deit3_small_imagenet1k", 22_059_496),
        # ViT-g/14 with its MAP head, and a classifier of 1,000 classes instead of JFT's 29,593.
        ("vit_scaling_g14", 1_036_448_384 + 1408 * 1000 + 1000),
        # The last four class tokens of 384 channels, and one of 768, to 1,000 classes.
        ("dino_vit_small_linear_probe_imagenet1k", 21_665_664 + 4 * 384 * 1000 + 1000),
        ("mae_vit_base_linear_probe_imagenet1k", 85_798_656 + 768 * 1000 + 1000),
    ],
)
def test_models_have_the_published_sizes(name, parameters):
    model = untrained(named(name))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_scaling_vit_decays_head_and_body_apart():
    recipe = named("vit_scaling_g14")
    model = untrained(recipe)
    decay = {
        name: group["weight_decay"]
        for group in build_optimizer(model, recipe.optimizer).param_groups
        for name in group["names"]
    }
    assert decay["classifier.weight"] == 3.0
    assert {value for name, value in decay.items() if name.endswith("weight") and "norm" not in name} == {0.03, 3.0}
    assert decay["model.embeddings.position_embedding.table"] == 0
    assert decay["model.pooler.attention_pooling.probe"] == 0


def test_mixing_of_cifar_ends_at_epoch_175():
    assert mixing_steps(named("cct_7_3x1_cifar10"), 390) == 175 * 390


# reading recipes


def test_overrides_replace_values_and_keep_the_others(tmp_path):
    overrides = [
        "train.batch_size=64",
        "optimizer.learning_rate=1e-4",
        "model.config.hidden_size=64",
        "objective.loss=binary",
    ]
    base = tiny_recipe(tmp_path, objective={})
    recipe = load_recipe(base, overrides)
    assert (recipe.train.batch_size, recipe.optimizer.learning_rate, recipe.objective.loss) == (64, 1e-4, "binary")
    assert recipe.model.config == base["model"]["config"] | {"hidden_size": 64}
    assert base["train"]["batch_size"] == 32
    assert load_recipe(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.batchsize=3",
            r"train: there is no key 'batchsize'; did you mean batch_size or evaluation_batch_size\?",
        ),
        ("trian.length=3", r"there is no key 'trian'; did you mean train"),
        ("train.length=30", r"train: .* '30' is no duration; write a number and its unit, as in '300 epochs'"),
        ("train.length=30 days", "'30 days' is no duration"),
        ("train.length=0 epochs", "train.length 0 epochs trains for no step"),
        ("train.batch_size=many", "'batch_size' expected int, got str"),
        ("train.batch_size=0", "must be positive, got 0"),
        ("train.seed=-1", "must not be negative, got -1"),
        (
            "objective.loss=l1",
            r"expected one of \('cross_entropy', 'focal', 'binary', 'sigmoid', 'asymmetric', 'masked', 'mse'\)",
        ),
        ("objective.label_smoothing=2", "must lie between 0 and 1, got 2.0"),
        ("objective.distillation=hard", "objective.distillation is hard, and there is no teacher"),
        ("teacher.pretrained=somewhere", "objective.distillation is none, and there is a teacher"),
        ("objective.cosub=true", "cosub goes with loss: binary or sigmoid"),
        ("train.ema_decay=null", "use_ema needs train.ema_decay"),
        ("augmentation.crop_scale=0.5", "crop_scale"),
        ("augmentation={crop_clipped: true}", "crop_clipped is about augmentation.crop_scale, which is missing"),
        (
            "augmentation.randaugment.magnitude=15",
            "randaugment.magnitude of policy timm must lie between 0 and 10, got 15.0",
        ),
        ("model.pretrained=somewhere", "`pretrained` excludes the others"),
        ("model.variant=null", "name either `system` and `variant`, or `pretrained`"),
        (
            "data.columns.sound=a",
            "data.columns has the keys image, video, audio, label, labels, targets, objects, text, split, not sound",
        ),
        ("data.columns.label=[a, a]", "a list of 2 or more, got"),
        ("data.columns.audio=[a, b]", "data.columns.audio is one column"),
        ("data.splits.dev=a", "data.splits maps train, validation and test"),
        ("data.test_fraction=0.95", "leave nothing to train on"),
        ("train=3", "train: expected keys and values, got 3"),
        ("train.seed.more=3", "seed is a value, it has no keys"),
        ("train.seed", "an override has the form section.key=value, got 'train.seed'"),
        ("train.seed=[", "is not valid YAML"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, override, message):
    base = tiny_recipe(tmp_path, train__seed=0)
    with pytest.raises(ValueError, match=message):
        load_recipe(base, [override])


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_former_name_of_a_key_is_answered_with_the_present_one(tmp_path, old, new):
    with pytest.raises(ValueError, match=f"recipe: {old} is now called {new}"):
        load_recipe(tiny_recipe(tmp_path), [f"{old}=0.5"])
    with pytest.raises(ValueError, match="expected keys and values"):
        load_recipe(tiny_recipe(tmp_path, **{old.split(".")[0]: 3}))
    assert new in flat(load_recipe(tiny_recipe(tmp_path), [f"{new}=0.5"]).to_dict())


def test_missing_sections_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="missing data, optimizer, train, output"):
        load_recipe({"model": {"system": "cct", "variant": "cct_2_3x2_32"}})
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(ValueError, match=r"list\.yaml: expected keys and values"):
        load_recipe(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("duration", "steps"),
    [("3 epochs", 300), ("1 epoch", 100), ("0.5epochs", 50), ("250 steps", 250), ("1e3 steps", 1000)],
)
def test_durations(duration, steps):
    assert steps_of(duration, steps_per_epoch=100) == steps
