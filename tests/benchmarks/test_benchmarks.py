"""The speed benchmark, on models so small that nothing depends on the speed of the machine."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks import contestants, import_time, rounds, speed, steps
from hf_vits import ViTConfig, ViTForImageClassification
from hf_vits.conversion import convert

KEYS = {"name", "mode", "batch", "engine", "ours_ms", "peers_ms", "ratio", "ours_mib", "peers_mib"}


class Peer(nn.Sequential):
    """A network that returns logits as a tensor, like those of timm and torchvision."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


def our_tiny() -> nn.Module:
    return ViTForImageClassification(
        ViTConfig(image_size=32, hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_labels=10)
    )


TINY = contestants.Subject({"ours": our_tiny, "peer": Peer}, image_size=32, num_classes=10)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(speed.SUBJECTS, "tiny", TINY)


def test_every_round_runs_every_contestant_once_in_changing_order():
    ran = []
    names = ["a", "b", "c"]
    times = rounds.interleave({name: partial(ran.append, name) for name in names}, seconds=0, min_rounds=12)
    timed = ran[len(names) * rounds.WARM_UP_STEPS :]
    orders = [tuple(timed[start : start + 3]) for start in range(0, len(timed), 3)]
    assert len(orders) == 12
    assert all(sorted(order) == names for order in orders)
    assert len(set(orders)) > 1
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys(names, 12)


def test_ratio_is_to_the_peer_with_the_smallest_median():
    row = rounds.summarize({"ours": [1, 2, 3, 2, 2], "fast": [4, 4, 4, 4, 4], "slow": [1, 9, 9, 9, 1]})
    assert row["ours_ms"] == 2
    assert row["peers_ms"] == {"fast": 4, "slow": 9}
    assert row["ratio"] == 0.5
    low, high = row["ratio_quartiles"]
    assert 0.25 <= low <= 0.5 <= high <= 0.75
    assert row["rounds"] == 5


def test_inputs_are_images_or_clips():
    clips = contestants.Subject({}, image_size=8, num_frames=4).inputs(2)
    assert TINY.inputs(2).shape == (2, 3, 32, 32)
    assert clips.shape == (2, 4, 3, 8, 8)
    channels_first = contestants.ChannelsBeforeFrames(lambda: lambda clips: clips)
    assert torch.equal(channels_first(clips), clips.movedim(2, 1))


@pytest.mark.parametrize("mode", steps.MODES)
def test_a_step_does_what_its_mode_says(mode):
    model = our_tiny()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    steps.make_step(lambda: model, TINY, mode, batch=2, engine="eager")()
    changed = any(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert (changed, model.training) == ((True, True) if mode == "training" else (False, False))


def test_flops_grow_with_the_batch_and_backward_costs_twice_the_forward_pass():
    forward, both = (steps.count_flops(TINY, mode, 1) for mode in steps.MODES)
    assert steps.count_flops(TINY, "inference", 8) == 8 * forward
    # But no gradient flows on to the pixels: a product is saved of 4 patches of 3 * 16 * 16 values to 12 channels.
    assert both == 3 * forward - 2 * 4 * (3 * 16 * 16) * 12


def test_rows_are_written_and_shown(tiny, tmp_path, capsys):
    path = tmp_path / "rows.json"
    chosen = ["--only", "tiny", "--batch", "1", "--batch", "2", "--mode", "training", "--engine", "eager"]
    speed.main([*chosen, "--seconds", "0", "--threads", str(torch.get_num_threads()), "--json", str(path)])
    rows = json.loads(path.read_text())
    assert [(row["name"], row["mode"], row["batch"], row["engine"]) for row in rows] == [
        ("tiny", "training", 1, "eager"),
        ("tiny", "training", 2, "eager"),
    ]
    for row in rows:
        assert row.keys() >= KEYS
        assert row["peers_ms"].keys() == row["peers_mib"].keys() == {"peer"}
        assert row["ratio"] == pytest.approx(row["ours_ms"] / row["peers_ms"]["peer"])
        assert min(row["ours_mib"], row["peers_mib"]["peer"], row["peak_share"]) > 0
    assert list(tmp_path.iterdir()) == [path]
    assert "tiny" in capsys.readouterr().out


def test_an_unknown_architecture_is_refused(capsys):
    with pytest.raises(SystemExit):
        speed.parse_arguments(["--only", "ViT-X"])
    assert "ViT-B/16" in capsys.readouterr().err


def test_all_rows_are_run_by_default_eager_before_compiled():
    cases = speed.cases(speed.parse_arguments([]))
    untrainable = sum(subject.smallest_training_batch > 1 for subject in contestants.SUBJECTS.values())
    assert len(cases) == len(set(cases)) == 8 * len(contestants.SUBJECTS) - 2 * untrainable
    engines = [engine for *_, engine in cases]
    assert engines == sorted(engines, key=steps.ENGINES.index)


@pytest.mark.parametrize("name", [name for name, subject in contestants.SUBJECTS.items() if subject.has_peers])
def test_contestants_have_equally_many_parameters(name):
    with torch.device("meta"):
        models = {who: build() for who, build in contestants.SUBJECTS[name].builders.items()}
    left_out = (
        "position" if name == "VATT-B 32x224" else None
    )  # a table for each axis, and its peer one for all tokens
    counts = {
        sum(parameter.numel() for key, parameter in model.named_parameters() if not left_out or left_out not in key)
        for model in models.values()
    }
    assert len(counts) == 1


def test_contestants_compute_the_same():
    builders = contestants.SUBJECTS["DeiT-Ti"].builders
    peer = builders["timm"]().eval()
    ours = builders["ours"]().eval()
    ours.load_state_dict(convert("deit", "deit_tiny_patch16_224", peer.state_dict()).state_dict())
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images).logits, peer(images), atol=1e-5, rtol=0)


def test_import_time_is_what_a_new_interpreter_measures():
    assert 0 < import_time.import_seconds() < float("inf")
