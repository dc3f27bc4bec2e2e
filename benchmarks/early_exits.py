"""DVT with early exits, beside all of its networks for every image.

    python -m benchmarks.early_exits [--variant NAME] [--batch N] [--json FILE] [--seconds S] [--threads N]

A batch of random images, with random weights and thresholds at which half of the images leave at the first exit and a
quarter at the second, in eval mode on the CPU in float32. Both run in interleaved rounds in one process. The predicted
time is the time of all networks times the fraction of their multiply-adds that the exits need. A row per variant:

    variant, batch            the case
    all_ms, adaptive_ms       median milliseconds of a batch
    predicted_ms              from the multiply-adds
    ratio                     adaptive time divided by the time of all networks
    to_predicted              adaptive time divided by the predicted time
    exits                     images that left at each exit
    rounds                    number of rounds
"""

import argparse
import statistics

import torch
from rich.console import Console
from rich.table import Table

from hf_vits.conversion import variants
from hf_vits.evaluation.exits import exit_costs
from hf_vits.models.dvt.configuration_dvt import DvtConfig
from hf_vits.models.dvt.exits_dvt import choose_exits, confidence, find_thresholds
from hf_vits.models.dvt.modeling_dvt import DvtForImageClassification

from . import commands
from .rounds import interleave

FRACTIONS = (0.5, 0.25, 0.25)
BATCH = 32


@torch.inference_mode()
def measure(fields: dict, batch: int, seconds: float) -> dict:
    """Time all networks and early exits of one configuration."""
    torch.manual_seed(0)
    model = DvtForImageClassification(DvtConfig(**fields)).eval()
    size = model.config.image_size
    images = torch.randn(batch, model.config.num_channels, size, size)
    confidences = confidence(model.classify_all(images).transpose(0, 1))
    thresholds = find_thresholds(confidences, torch.tensor(FRACTIONS))
    times = interleave(
        {"all": lambda: model.classify_all(images), "adaptive": lambda: model.adaptive(images, thresholds)}, seconds
    )
    exits = choose_exits(confidences, thresholds).bincount(minlength=len(FRACTIONS))
    costs = exit_costs(model)
    fraction = float((exits / batch * costs).sum() / costs[-1])
    whole, adaptive = statistics.median(times["all"]), statistics.median(times["adaptive"])
    # Of each round, since other load changes between rounds.
    ratio = statistics.median(one / other for one, other in zip(times["adaptive"], times["all"], strict=True))
    return {
        "all_ms": whole,
        "adaptive_ms": adaptive,
        "predicted_ms": fraction * whole,
        "ratio": ratio,
        "to_predicted": ratio / fraction,
        "exits": exits.tolist(),
        "rounds": len(times["all"]),
    }


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    names = list(variants("dvt"))
    parser = commands.make_parser("early_exits", __doc__)
    parser.add_argument("--variant", choices=names, action="append", help="repeatable; default: all")
    parser.add_argument("--batch", type=int, default=BATCH, help="images (default: %(default)s)")
    commands.add_timing(parser, seconds=60)
    return parser.parse_args(arguments)


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows."""
    torch.set_num_threads(arguments.threads)
    fields, batch = variants("dvt"), arguments.batch

    def measure_one(name: str, note) -> dict:
        note("rounds")
        return {"variant": name, "batch": batch} | measure(fields[name], batch, arguments.seconds)

    return commands.measure_all(arguments.variant or list(fields), measure_one, str, arguments.json, console)


def table(rows: list[dict]) -> Table:
    """Return a table of milliseconds and ratios."""
    title = f"CPU, float32, {torch.get_num_threads()} threads"
    columns = ("batch", "all ms", "adaptive ms", "predicted ms", "to all", "to predicted", "exits", "rounds")
    result = commands.make_table(title, ("variant",), columns)
    for row in rows:
        times = (f"{row[name]:.1f}" for name in ("all_ms", "adaptive_ms", "predicted_ms"))
        ratios = (f"{row[name]:.3f}" for name in ("ratio", "to_predicted"))
        exits = " ".join(map(str, row["exits"]))
        result.add_row(row["variant"], str(row["batch"]), *times, *ratios, exits, str(row["rounds"]))
    return result


def main(arguments: list[str] | None = None) -> None:
    console, parsed = Console(), parse_arguments(arguments)
    commands.show(table(run(parsed, console)), console)


if __name__ == "__main__":
    main()
