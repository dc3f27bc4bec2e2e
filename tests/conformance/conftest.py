"""Says at the end how many of transformers' tests passed, and why the others were skipped."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import torch

# As transformers' own conftest: what a GPU rounds to TF32 is compared with what it does not.
torch.backends.cudnn.allow_tf32 = False

MARKERS = (
    "accelerate_tests",
    "flash_attn_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "is_pipeline_test",
    "is_training_test",
    "slow",
    "torch_compile_test",
)
FOLDER = Path(__file__).parent
CLASS_NAME = re.compile(r"<class '[\w.]+'>|\b[A-Z]\w+(Model|Backbone|For[A-Z]\w+)\b")


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", f"{marker}: a marker of transformers' mixins")


def pytest_terminal_summary(terminalreporter, config):
    prefix = FOLDER.relative_to(config.rootpath).as_posix()
    outcomes, reasons = defaultdict(set), {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            # Deselected tests stand here too, as items that have no outcome.
            if getattr(report, "nodeid", "").startswith(prefix) and hasattr(report, "outcome"):
                outcomes[report.nodeid].add(report.outcome)
                if report.outcome == "skipped":
                    reasons[report.nodeid] = reason(report)
    if not outcomes:
        return
    # A test whose subtests end differently counts as the worst of them.
    counts = Counter(
        next(outcome for outcome in ("failed", "skipped", "passed") if outcome in found) for found in outcomes.values()
    )
    terminalreporter.section("conformance with transformers")
    for text, count in Counter(reasons.values()).most_common():
        terminalreporter.write_line(f"{count:5} skipped: {text}")
    terminalreporter.write_line(
        f"conformance: passed={counts['passed']} skipped={counts['skipped']} failed={counts['failed']}"
    )


def reason(report) -> str:
    """Why a test was skipped, without the name of the model."""
    _, _, text = report.longrepr
    return CLASS_NAME.sub("the model", text.removeprefix("Skipped: "))
