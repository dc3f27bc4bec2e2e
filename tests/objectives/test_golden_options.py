"""Options of the originals' losses that no shown golden case has: the adapters read them, the losses follow."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ..parity import esvit, ibot, vivit
from ..parity.golden import Case

TEMPERATURES = {"warmup_teacher_temp": 0.04, "teacher_temp": 0.07, "warmup_teacher_temp_epochs": 3, "nepochs": 8}


def case(name: str, config: dict, shapes: dict[str, list[int]], outputs: tuple[str, ...] = ()) -> Case:
    inputs = {key: {"seed": seed, "shape": shape} for seed, (key, shape) in enumerate(shapes.items())}
    return Case(Path(name), {"config": config, "inputs": inputs, "outputs": dict.fromkeys(outputs), "keys": {}})


@pytest.mark.parametrize("name", ["mim_start_epoch", "pred_start_epoch"])
def test_ibots_patch_temperature_waits_for_the_masks(name):
    sizes = {"ngcrops": 2, "nlcrops": 0, "batch": 3, "epoch": 3, name: 2}
    config = TEMPERATURES | {"warmup_teacher_temp2": 0.05, "teacher_temp2": 0.09, "student_temp": 0.1} | sizes
    shapes = {key: [6, 8] for key in ("student_cls", "teacher_cls")}
    shapes |= {key: [6, 16, 8] for key in ("student_patch", "teacher_patch")}
    golden = case("ibot/loss_x.json", config, shapes | {"center": [1, 8], "center2": [1, 1, 8], "mask": [6, 4, 4]})
    inputs = golden.inputs()
    inputs["mask"] = inputs["mask"] > 0
    golden.inputs = lambda: {key: np.array(value) for key, value in inputs.items()}
    computed = ibot.compute(golden)
    expected = np.concatenate([[0.05] * 2, np.linspace(0.05, 0.09, 3), [0.09] * 3])  # main_ibot.py, `iBOTLoss`
    np.testing.assert_allclose(computed["teacher_temp2_schedule"], expected)
    student, teacher, center = (torch.from_numpy(inputs[key]) for key in ("student_patch", "teacher_patch", "center2"))
    targets = ((teacher - center) / expected[3]).softmax(-1)
    losses = -(targets * (student / 0.1).log_softmax(-1)).sum(-1)
    mask = torch.from_numpy(inputs["mask"]).flatten(1)
    loss = ((losses * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()
    torch.testing.assert_close(computed["loss_patch"][0], loss, atol=1e-5, rtol=1e-5)
    assert golden.config.unread() == []


def test_esvits_loss_of_mixed_images():
    config = TEMPERATURES | {"ncrops": 4, "batch": 3, "epoch": 1, "use_mixup": True, "mixup": 0.8, "cutmix": 1.0}
    shapes = {"student_output": [12, 8], "teacher_output": [6, 8], "center": [1, 8], "targets_mixup": [4, 3, 3]}
    golden = case("esvit/loss_dino_mixup.json", config, shapes)
    inputs = {key: torch.from_numpy(value) for key, value in golden.inputs().items()}
    computed = esvit.compute(golden)
    teacher = ((inputs["teacher_output"] - inputs["center"]) / np.linspace(0.04, 0.07, 3)[1]).softmax(-1).chunk(2)
    total, pairs = 0.0, 0
    for view, target in enumerate(teacher):  # main_esvit.py, `DINOLoss`
        for crop, logits in enumerate(inputs["student_output"].chunk(4)):
            if crop != view:
                scores = target @ (logits / 0.1).log_softmax(-1).T
                total, pairs = total - (inputs["targets_mixup"][crop] * scores).sum(-1).mean(), pairs + 1
    torch.testing.assert_close(computed["loss"][0], total / pairs, atol=1e-4, rtol=1e-5)
    assert golden.config.unread() == []


@pytest.mark.parametrize("config", [{}, {"label_smoothing": None}, {"label_smoothing": 0.0}], ids=str)
def test_two_heads_without_smoothing(config):
    golden = case("vivit/two_heads.json", config | {"class_splits": [5, 3]}, {"logits": [4, 8], "labels": [4, 2]})
    labels = torch.tensor([[0, 2], [4, 1], [3, 0], [1, 1]])
    golden.inputs = lambda: {"logits": np.tile(np.arange(8, dtype=np.float32), (4, 1)), "labels": labels.numpy()}
    logits = torch.arange(8.0).expand(4, 8)
    expected = (F.cross_entropy(logits[:, :5], labels[:, 0]) + F.cross_entropy(logits[:, 5:], labels[:, 1])) / 2
    torch.testing.assert_close(vivit.compute(golden)["loss"][0], expected)
    assert golden.config.unread() == []
