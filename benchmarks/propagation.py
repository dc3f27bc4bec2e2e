"""Label propagation through a video, beside the code of SFC.

    python -m benchmarks.propagation --originals DIR [--channels C] [--contexts N] [--json FILE] [--seconds S]

DIR has a clone of the original, DIR/Alxead/SFC. A step finds, for each cell of one frame of 480 x 854 pixels at stride
8 (60 x 107 cells), the 10 most similar cells of the first frame and of N frames before it, all different, within a
radius of 12 cells (SFC's settings for one network). The original compares two frames at a time, so it is given two and
its time is halved; its peak includes the features of the contexts that it gathers, of these two frames. Rows as in
`benchmarks.pretraining`, without a method.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch.nn.functional import normalize

from hf_vits.evaluation.propagation import similar_cells

from . import commands
from .memory import start_children
from .originals import definitions
from .steps import Step

GRID = (60, 107)
TOPK, RADIUS, TEMPERATURE = 10, 12, 0.05


def features(count: int, channels: int) -> torch.Tensor:
    """Return random features (count, channels, rows, columns) of length 1."""
    return normalize(torch.randn(count, channels, *GRID, generator=torch.Generator().manual_seed(0)), dim=1)


def ours(channels: int, contexts: int) -> Step:
    """Return the step for two frames."""
    cells = features(contexts + 3, channels).permute(0, 2, 3, 1).contiguous()

    def step() -> None:
        for frame in (contexts + 1, contexts + 2):
            before = [cells[0], *cells[frame - contexts : frame]]
            similar_cells(cells[frame], before, TOPK, TEMPERATURE, RADIUS, 1, [1] * len(before))

    return step


def original(channels: int, contexts: int, clone: Path) -> Step:
    """Return the step for two frames, as code/test_vos.py has it."""
    tools = definitions(clone, "code/utils/test_utils.py")
    attention = definitions(clone, "code/utils/__init__.py").MaskedAttention(RADIUS, flat=False)
    maps = features(contexts + 3, channels).transpose(0, 1)[None]

    def step() -> None:
        indices = torch.stack(
            [torch.tensor([0, *range(frame - contexts, frame)]) for frame in (contexts + 1, contexts + 2)]
        )
        keys, query = maps[:, :, indices].flatten(-2), maps[:, :, contexts + 1 :].flatten(-2)
        mask = attention.make(*GRID)[None].flatten(-4, -3).flatten(-2)
        mask[mask == 0] = -1e10
        mask[mask == 1] = 0
        tools.mem_efficient_batched_affinity(query, keys, mask, TEMPERATURE, TOPK, [0], "cpu")

    return step


def main(arguments: list[str] | None = None) -> None:
    parser = commands.make_parser("propagation", __doc__)
    parser.add_argument("--originals", type=Path, metavar="DIR", required=True, help="folder of clones")
    parser.add_argument("--channels", type=int, default=256, help="of the features (default: %(default)s)")
    parser.add_argument("--contexts", type=int, default=20, help="frames before a frame (default: %(default)s)")
    commands.add_timing(parser, seconds=60)
    parsed, console = parser.parse_args(arguments), Console()
    torch.set_num_threads(parsed.threads)
    run(parsed, console)


def run(parsed: argparse.Namespace, console: Console) -> list[dict]:
    """Measure the row."""
    sizes = (parsed.channels, parsed.contexts)
    clone = (parsed.originals / "Alxead/SFC").resolve()
    makers = {"ours": partial(ours, *sizes), "original": partial(original, *sizes, clone)}
    with start_children() as children:

        def measure(name, note) -> dict:
            return commands.measure_contestants(makers, parsed.seconds, children, note, "cpu")

        return commands.measure_all(["propagation"], measure, str, parsed.json, console)


if __name__ == "__main__":
    main()
