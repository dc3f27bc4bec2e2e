"""Every golden case through our conversion, against what the original's own code computed.

`pytest tests/test_parity.py --cases DIR` runs the cases found below DIR (repeatable): case files, or folders of them
whose name is the system. Without it, the small cases kept in tests/parity_cases.
"""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.golden import Case
from tests.support.paths import PARITY_CASES

LARGE = 60_000_000  # parameters; CI leaves such cases out

# Outputs that are left out: {(system, regular expression for the whole name): why they are not compared}.
NOT_COMPARED: dict[tuple[str, str], str] = {
    (
        "dense_descriptors",
        r"labels\d+|clusters|sum_of_squared_distances|(part_)?centroids",
    ): "of the original's k-means, a library's with its own random numbers; the later steps start from what is stored",
    ("vatt", "float32_.+"): "the original solves for the spline in single precision; exact_ is the same in double",
}
# Fields of a configuration that change nothing that is compared: {(system, regular expression): reason}.
NOT_USED: dict[tuple[str, str], str] = {
    ("audiomer", "input_size"): "samples of a clip in training; the network takes others, and cases hold others",
    ("vivit", "size"): "the name of what hidden_size, mlp_dim, num_heads and num_layers say",
    ("vatt", "name|__match_args__"): "the variant's name, and what Python adds to a class",
    ("vatt", "backbone_config|final_endpoint"): "always the defaults, which name what the network returns",
    ("vatt", "freeze_backbone"): "of training alone",
    ("vatt", "mask_rate|d_post_proj|patch_sampling_rate"): "of masking, projection or DropToken, where there is none",
    (
        "patch_topk",
        "seed|trial|dataset|batch_size|num_train_steps|optimizer|learning_rate.*|momentum|weight_decay.*|warmup_ratio|"
        "cosine_decay|gradient_.*|pretrained_.*|.*_preprocess_str|skip_nan_updates",
    ): "of data and training, where one step is compared at most",
    ("patch_topk", "log_.*|.*_every_steps|do_eval_only|debug"): "of what the original logs, saves and evaluates",
    ("patch_topk", "part_dropout|downsample_input_factor"): "nothing in the original reads it",
    ("patch_topk", "use_iterative_extraction"): "both ways of extraction give the same patches",
}


def pytest_generate_tests(metafunc):
    folders = metafunc.config.getoption("--cases") or [PARITY_CASES]
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*.json"))
    parameters = [
        pytest.param(case, id=f"{case.system}/{case.path.stem}", marks=[pytest.mark.large] if is_large(case) else [])
        for case in map(Case.load, paths)
    ]
    if not parameters:
        raise pytest.UsageError(f"no golden case (*.json with *.safetensors) below {', '.join(map(str, folders))}")
    metafunc.parametrize("case", parameters)


def is_large(case: Case) -> bool:
    return case.meta.get("parameters", 0) > LARGE


def is_listed(table: dict[tuple[str, str], str], system: str, name: str) -> bool:
    return any(listed == system and re.fullmatch(pattern, name) for listed, pattern in table)


def test_parity(case: Case):
    system = importlib.import_module(f"tests.parity.{case.system}")
    with torch.no_grad():
        computed = system.compute(case)
    different = []
    for name, golden in case.outputs().items():
        if is_listed(NOT_COMPARED, case.system, name):
            continue
        assert computed.get(name) is not None, f"{name} is in the golden case but was not computed"
        ours = case.part(name, computed[name].detach().numpy())
        assert ours.shape == golden.shape, f"{name}: shape {ours.shape}, golden {golden.shape}"
        error, allowed = float(np.abs(ours - golden).max()), case.tolerance(name, golden)
        if not error <= allowed:
            different.append(f"{name}: off by {error:.3g}, allowed {allowed:.3g}")
    unread = [name for name in case.config.unread() if not is_listed(NOT_USED, case.system, name)]
    assert not unread, f"nothing has read these fields of the case's configuration: {', '.join(unread)}"
    assert not different, "\n".join(different)
