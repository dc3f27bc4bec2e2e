"""Perturbed top-k beside the plain implementation, which keeps a one-hot row for each sample and each of the k.

    python -m benchmarks.topk [--case NAME] [--json FILE] [--seconds S]

Forward and backward pass on the CPU in float32. The case "trafficsigns" has the sizes of the published traffic sign
model: 2,028 cells, k 5, 500 samples, a batch of 8. A row per case:

    case                       name of the case
    ours_ms, peers_ms          median milliseconds per step, {"one-hot": milliseconds}
    ratio, ratio_quartiles     our time divided by the other's, and the quartiles of this over the rounds
    rounds                     number of rounds
    ours_mib, peers_mib        peak memory in MiB (see `benchmarks.memory`)
"""

import argparse
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from hf_vits.layers.topk import perturbed_topk

from . import commands
from .memory import start_children
from .steps import Step

# {name: (batch, cells, k, samples)}
CASES = {"trafficsigns": (8, 2028, 5, 500), "billiard": (8, 900, 10, 500), "birds": (8, 1614, 4, 500)}
CONTESTANTS = ("ours", "one-hot")
SIGMA = 0.05


class OneHotTopk(torch.autograd.Function):
    """Perturbed top-k step by step: all one-hot rows are made, kept, and multiplied with the noise."""

    @staticmethod
    def forward(ctx, scores, k, num_samples):
        noise = torch.randn(scores.shape[0], num_samples, scores.shape[1])
        indices = (scores[:, None] + SIGMA * noise).topk(k, dim=-1).indices.sort(dim=-1).values
        rows = torch.nn.functional.one_hot(indices, scores.shape[1]).float()
        ctx.save_for_backward(rows, noise)
        return rows.mean(dim=1)

    @staticmethod
    def backward(ctx, gradient):
        rows, noise = ctx.saved_tensors
        expected = (rows * noise[:, :, None] / SIGMA).mean(dim=1)
        return (gradient * expected).sum(dim=1), None, None


def make_step(contestant: str, case: str) -> Step:
    """Return the step of a contestant on fixed random scores."""
    batch, cells, k, samples = CASES[case]
    torch.manual_seed(0)
    scores, gradient = torch.rand(batch, cells, requires_grad=True), torch.rand(batch, k, cells)

    def step() -> None:
        if contestant == "ours":
            indicators = perturbed_topk(scores, k, SIGMA, samples)
        else:
            indicators = OneHotTopk.apply(scores, k, samples)
        indicators.backward(gradient)
        scores.grad = None

    return step


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = commands.make_parser("topk", __doc__)
    parser.add_argument("--case", action="append", choices=list(CASES), help="repeatable; default: all")
    commands.add_timing(parser, seconds=10)
    return parser.parse_args(arguments)


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows."""
    torch.set_num_threads(arguments.threads)

    def measure(case: str, note) -> dict:
        makers = {name: partial(make_step, name, case) for name in CONTESTANTS}
        return {"case": case} | commands.measure_contestants(makers, arguments.seconds, children, note, min_rounds=3)

    with start_children() as children:
        return commands.measure_all(arguments.case or list(CASES), measure, str, arguments.json, console)


def table(rows: list[dict]) -> Table:
    """Return a table of MiB and milliseconds."""
    title = f"Perturbed top-k, forward and backward, CPU, float32, {torch.get_num_threads()} threads"
    columns = ("ours ms", "one-hot ms", "ratio", "quartiles", "rounds", "ours MiB", "one-hot MiB")
    result = commands.make_table(title, ("case",), columns)
    for row in rows:
        times = (f"{row['ours_ms']:.1f}", f"{row['peers_ms']['one-hot']:.1f}")
        memory = (f"{row['ours_mib']:.0f}", f"{row['peers_mib']['one-hot']:.0f}")
        result.add_row(row["case"], *times, *commands.ratio_cells(row), *memory)
    return result


def main(arguments: list[str] | None = None) -> None:
    parsed, console = parse_arguments(arguments), Console()
    commands.show(table(run(parsed, console)), console)


if __name__ == "__main__":
    main()
