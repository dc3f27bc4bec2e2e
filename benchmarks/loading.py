"""Loading of ViT-L/16: conversion of a file beside the peer's way, and `from_pretrained` beside transformers'.

    python -m benchmarks.loading [--rounds N] [--size large|tiny] [--folder FOLDER] [--yaml FILE]

Every measurement is a process of its own that has imported everything, with one thread. The rounds are interleaved.
The peer's way is `torch.load`, or safetensors' `load_file`, and `load_state_dict` into timm's model, which exists
already. Rows hold the median ratios of CPU time and of wall time, and the memory at its peak divided by the file's
size, which counts mapped parts of the file as far as they were read.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from .commands import make_parser
from .memory import forget_peak, peak

# {size: timm's name and our variant of a ViT, fields of transformers' configuration}
SIZES = {
    "large": (
        "vit_large_patch16_224",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "tiny": (
        "vit_tiny_patch16_224",
        {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768},
    ),
}
FILES = {"safetensors": "timm.safetensors", ".pth": "timm.pth"}
LIMITS = {"convert": 1.2, "from_pretrained": 0.8}
MOST_MEMORY = 1.3


def write_files(folder: Path, size: str) -> None:
    """Write timm's file in both formats, and what transformers and hf_vits save of the same size."""
    import timm
    from safetensors.torch import save_file
    from transformers import ViTConfig, ViTForImageClassification

    from hf_vits.conversion import from_transformers

    name, fields = SIZES[size]
    tensors = timm.create_model(name).state_dict()
    save_file(tensors, folder / FILES["safetensors"])
    torch.save(tensors, folder / FILES[".pth"])
    theirs = ViTForImageClassification(ViTConfig(**fields, num_labels=1000))
    theirs.save_pretrained(folder / "theirs")
    from_transformers(theirs).save_pretrained(folder / "ours")


def task(kind: str, folder: Path, size: str) -> Callable[[], Any]:
    """Return what is timed: "convert <format> ours", "convert <format> peer", "from_pretrained ours" or "... peer"."""
    action, *formats, who = kind.split()
    name = SIZES[size][0]
    if action == "from_pretrained":
        import transformers

        import hf_vits

        library, place = (hf_vits, "ours") if who == "ours" else (transformers, "theirs")
        return lambda: library.ViTForImageClassification.from_pretrained(folder / place)
    path = folder / FILES[formats[0]]
    if who == "ours":
        from hf_vits import conversion
        from hf_vits.conversion.core import layouts_of  # pyright: ignore[reportMissingImports] - of conversion/

        layouts_of("vit")  # imports the layouts
        return lambda: conversion.convert("vit", name, conversion.load_checkpoint(path))
    import timm
    from safetensors.torch import load_file

    with torch.device("meta"):
        model = timm.create_model(name)
    model = model.to_empty(device="cpu")
    read = load_file if formats[0] == "safetensors" else lambda file: torch.load(file, weights_only=True)
    return lambda: model.load_state_dict(read(path))


def measure(kind: str, folder: Path, size: str) -> dict[str, float]:
    """Return the seconds and the memory at its peak of one task, in this process."""
    torch.set_num_threads(1)
    run = task(kind, folder, size)
    before = psutil.Process().memory_info().rss
    forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    kept = run()  # so that the model is in memory at the end
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    del kept
    return seconds | {"bytes": peak() - before}


def in_new_process(kind: str, folder: Path, size: str) -> dict[str, float]:
    """Return the result of `measure` in a new process."""
    arguments = [
        sys.executable,
        "-m",
        "benchmarks.loading",
        "--measure",
        kind,
        "--folder",
        str(folder),
        "--size",
        size,
    ]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(folder: Path, size: str, rounds: int) -> list[dict]:
    """Return the rows of the table."""
    rows = []
    for action in (*(f"convert {kind}" for kind in FILES), "from_pretrained"):
        measured = {who: [] for who in ("ours", "peer")}
        for _ in range(rounds):
            for who, results in measured.items():
                results.append(in_new_process(f"{action} {who}", folder, size))
        medians = {
            who: {name: statistics.median(result[name] for result in results) for name in results[0]}
            for who, results in measured.items()
        }
        file = folder / (FILES[action.split()[1]] if action.startswith("convert") else "ours/model.safetensors")
        rows.append(
            {
                "name": action,
                "cpu": {"ratio": round(medians["ours"]["cpu"] / medians["peer"]["cpu"], 2)},
                "wall": {"ratio": round(medians["ours"]["wall"] / medians["peer"]["wall"], 2)},
                "limit": LIMITS[action.split()[0]],
                "memory": round(medians["ours"]["bytes"] / file.stat().st_size, 2),
                "peer_memory": round(medians["peer"]["bytes"] / file.stat().st_size, 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("loading", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--size", choices=SIZES, default="large", help="default: %(default)s")
    parser.add_argument("--yaml", type=Path, help="file to write the table to")
    parser.add_argument("--measure", help="measure one task in this process and print the result as JSON")
    parser.add_argument("--folder", type=Path, help="folder for the files, which are kept; read if they are there")
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder, options.size)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "ours").is_dir():
            write_files(folder, options.size)
        rows = compare(folder, options.size, options.rounds)
    if options.yaml:
        write(options.yaml, rows, options.size)
    sys.exit(any(row["cpu"]["ratio"] > row["limit"] or row["memory"] > MOST_MEMORY for row in rows))


def write(path: Path, rows: list[dict], size: str) -> None:
    import timm
    import transformers

    versions = ", ".join(f"{library.__name__} {library.__version__}" for library in (torch, timm, transformers))
    columns = {
        "cpu": "ratio of CPU times",
        "wall": "ratio of wall times",
        "limit": "at most",
        "memory": "peak memory / file",
        "peer_memory": "peer's",
    }
    measured = {"device": "1 CPU core", "dtype": "float32", "date": date.today(), "versions": versions}
    data = {"command": "python -m benchmarks.loading", "measured": measured, "subject": f"ViT, {size}"}
    path.write_text(yaml.safe_dump(data | {"columns": columns, "rows": rows}, sort_keys=False, width=1000))


if __name__ == "__main__":
    main()
