"""Odd checkpoints: damaged files of every format, wrong tensors, damaged folders of saved models and of runs."""

import gzip
import io
import json
import pickle
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgpack
import numpy as np
import torch
from safetensors.torch import save as to_safetensors

from hf_vits import CctConfig, CctForImageClassification
from hf_vits.cli.models import load_model, load_processor
from hf_vits.conversion import convert, load_checkpoint
from hf_vits.conversion.checkpoint import unwrap
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.training import train
from tests.support.checkpoints import DAMAGES, conversion_of
from tests.support.training import tiny_recipe

from .harness import Case
from .media import odd_bytes

SMALL, LARGE = 100, 3500

# files

DTYPES = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.complex128, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)
NUMPY = (
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "?",
    "u1",
    "i1",
    "i2",
    "i4",
    "i8",
    "u8",
    ">f4",
    "g",
    "S3",
    "U3",
    "V2",
    "V7",
    "M8[s]",
    "O",
)


def odd_value(random: Random, depth: int = 0) -> Any:
    """Return what might be a value in a checkpoint: an array or tensor of any dtype, a container, another object."""
    kind = random.randrange(12)
    if kind < 4:
        shape = random.choice([(), (0,), (3,), (2, 3), (1, 1, 4), (0, 4)])
        return torch.zeros(shape, dtype=random.choice(DTYPES))
    if kind < 6:
        return np.zeros(random.choice([(), (0,), (3,), (2, 3)]), np.dtype(random.choice(NUMPY)))
    if kind == 6:
        return np.zeros(2, [("x", "f4"), ("y", "O" if random.random() < 0.5 else "i2")])
    if kind == 7 and depth < 4:
        return {odd_key(random): odd_value(random, depth + 1) for _ in range(random.randrange(4))}
    if kind == 8 and depth < 4:
        return [odd_value(random, depth + 1) for _ in range(random.randrange(3))]
    objects = [None, 1, 2.5, True, "text", b"bytes", 10**30, float("nan"), np.float32(2), np.int64(3), torch.float32]
    objects += [
        torch.zeros(3).to_sparse(),
        torch.nn.Parameter(torch.zeros(2)),
        torch.Size([1, 2]),
        complex(1, 2),
        range(3),
    ]
    objects += [torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8), torch.zeros(2, device="meta"), {1, 2}]
    objects += [SimpleNamespace(a=1), torch.zeros(4).expand(3, 4), torch.zeros(4, 4).t()]
    return random.choice(objects)


def odd_key(random: Random) -> Any:
    names = (
        "a",
        "b.weight",
        "model",
        "state_dict",
        "teacher",
        "student",
        "params",
        "target",
        "dino_loss",
        "module.a",
        "",
    )
    others = (
        1,
        None,
        True,
        2.5,
        b"a",
        ("a", "b"),
        "x" * 300,
        "\u00e9\U0001f600",
        "params/a",
        "batch_stats/a",
        "a/b",
        "opt",
    )
    return random.choice(names if random.random() < 0.8 else others)


def odd_tree(random: Random) -> Any:
    if random.random() < 0.1:
        return odd_value(random)
    tree: dict = {odd_key(random): odd_value(random) for _ in range(random.choice([0, 1, 2, 3, 6]))}
    if random.random() < 0.05:
        tree["model"] = tree
    if random.random() < 0.05:
        inner = tree
        for _ in range(random.choice([60, 70, 900])):
            inner["model"] = inner = {}
        inner["a"] = torch.zeros(2)
    return tree


def plain_tree(random: Random) -> dict[str, torch.Tensor]:
    """Return a few tensors as most checkpoints have them."""
    return {
        name: torch.rand(random.choice([(3,), (2, 3), (4, 3, 2, 2)])) for name in ("a.weight", "a.bias", "b.weight")
    }


def as_torch(tree: Any, random: Random) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file, _use_new_zipfile_serialization=random.random() < 0.5)
    return file.getvalue()


def as_npz(tree: Any, random: Random) -> bytes:
    file, save = io.BytesIO(), random.choice([np.savez, np.savez_compressed])
    tree = tree if isinstance(tree, dict) else {"a": tree}
    save(file, **{str(key): np.asarray(value) for key, value in tree.items() if str(key) != "file"})
    return file.getvalue()


def as_msgpack(tree: Any, random: Random) -> bytes:
    def packed(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().float().numpy() if value.is_floating_point() else value.numpy()
        if isinstance(value, np.ndarray):
            name = random.choice([value.dtype.name] * 6 + ["bfloat16", "float33", "", "object", "U3", "f4,i4"])
            shape = random.choice([value.shape] * 6 + [(-1,), (2, 2, 2), (2**40,), ("a",), 3])
            fields = random.choice([(shape, name, value.tobytes())] * 8 + [(), (shape,), "abc", 3, {"a": 1}])
            return msgpack.ExtType(random.choice([1] * 8 + [2, 3, 4, 127]), msgpack.packb(fields))
        raise TypeError

    return msgpack.packb(tree, default=packed)


def as_safetensors(tree: Any, random: Random) -> bytes:
    kept = {str(key): value.contiguous().clone() for key, value in tree.items() if is_plain(value)}
    content = to_safetensors(kept or {"a": torch.zeros(2)})
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    name = random.choice([key for key in header if key != "__metadata__"])
    changes: list[Callable[[dict], Any]] = [
        *[lambda part: None] * 6,
        lambda part: part.update(
            dtype=random.choice(["F32", "C64", "BF16", "F8_E4M3", "BOOL", "F4", "X", "", None, 3])
        ),
        lambda part: part.update(shape=random.choice([[], [-1], [2**62, 4], [1.5], "a", None, [0]])),
        lambda part: part.update(data_offsets=random.choice([[0, 2**62], [4, 0], [0], [], [-1, 4], "a", None])),
        lambda part: part.clear(),
        lambda part: header.update({"__metadata__": random.choice([{}, {"a": 1}, [], None, {"format": "tf"}])}),
        lambda part: header.update({"b": header[name]}),
        lambda part: header.clear(),
    ]
    random.choice(changes)(header[name])
    text = (
        json.dumps(header).encode() if random.random() < 0.9 else random.choice([b"{", b"{}", b'{"a":' * 5000, b"[]"])
    )
    length = len(text) if random.random() < 0.9 else random.choice([0, 1, 2**40, 2**63, len(text) + 1])
    return length.to_bytes(8, "little") + text + content[8 + size :]


def is_plain(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor) and value.layout == torch.strided and not (value.is_meta or value.is_quantized)
    )


def as_other(tree: Any, random: Random) -> bytes:
    """Return a file of no format that is read, or an archive that holds something else."""
    file = io.BytesIO()
    kind = random.randrange(10)
    if kind == 0:
        with zipfile.ZipFile(file, "w") as archive:
            for name in random.choice([["a.txt"], ["archive/data.pkl"], ["a.npy"], ["a.npy", "b.txt"], []]):
                archive.writestr(name, random.randbytes(random.choice([0, 10, 200])))
    elif kind == 1:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name in ("pickle", "storages", "sys_info"):
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    elif kind == 2:
        np.save(file, np.zeros(3))
    elif kind == 3:
        file.write(pickle.dumps({"a": np.zeros(2), "b": random}, protocol=random.randrange(6)))
    elif kind == 4:
        file.write(random.choice([gzip.compress, zlib.compress])(as_torch({"a": torch.zeros(2)}, random)))
    elif kind == 5:
        file.write(b"<!DOCTYPE html><html>404: not found</html>")
    elif kind == 6:
        file.write(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    elif kind == 7:
        file.write(json.dumps({"a": [1, 2]}).encode())
    elif kind == 8:
        file.write(
            random.choice([b"", b"\0", b"PK", b"PK\3\4", b"\x80\x02", b"\x81", b"\xde\0", b"\xdf" + b"\xff" * 4])
        )
    else:
        file.write(
            random.choice([b"\x80\x04", b"PK\3\4", b"\x82", b"\x08\0\0\0\0\0\0\0{", b""]) + random.randbytes(100)
        )
    return file.getvalue()


def file_case(random: Random) -> Case:
    write = random.choice([as_torch, as_torch, as_torch, as_npz, as_msgpack, as_safetensors, as_other])
    odd = random.random() < 0.6
    name = f"weights.{random.choice(['pth', 'pt', 'bin', 'npz', 'msgpack', 'safetensors', 'ckpt'])}"
    for _ in range(100):
        tree = odd_tree(random) if odd else plain_tree(random)
        try:
            content = write(tree, random)
            break
        except Exception:  # the format has no such values
            continue
    else:
        content = b"nothing"
    damage = odd_bytes(random, 0.3 if odd else 0.7)
    if damage and content:
        content = damage(content)
    is_folder = random.random() < 0.01

    def run(folder: Path) -> None:
        path = folder / name
        path.mkdir() if is_folder else path.write_bytes(content)
        tensors = load_checkpoint(path)
        assert tensors
        for key, tensor in tensors.items():
            assert isinstance(key, str)
            assert isinstance(tensor, torch.Tensor)
            assert not tensor.is_complex()

    keys = re_keys(tree)
    return Case(f"file {write.__name__} {name} {keys[:4]} {damage and damage.__name__}", (name, *keys), run)


def re_keys(tree: Any) -> list[str]:
    """Return the keys that an error may name instead of the file: those of the tree, at any depth."""
    found, pending = [], [(tree, 0)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, dict) and depth < 6:
            found += [str(key) for key in value if len(str(key)) > 1]
            pending += [(part, depth + 1) for part in value.values()]
    return found


# tensors

CONVERTED = (
    *(
        "audiomer/audiomer_m_sc20",
        "branchformer/asr_hybrid_tiny",
        "branchformer/tiny_learned_ave",
        "cct/text_cct_2_k1",
    ),
    *("dino/step_tiny", "ibot/step_tiny_unshared", "septr/septr_tiny", "septr/septr_tiny_down", "sit/gen1_step_tiny"),
    *("sit/gen3_step_tiny", "vit/bv_mu16_map_sharp", "vivit/init_central_tile_fsa", "vivit/mu16x2_fe_sharp"),
)
RARELY = (
    *(
        "cct/cct_6_3x2_32",
        "cmt/cmt_ti_160",
        "coat/coat_lite_tiny_224",
        "cvt/cvt_13_meanpool_128",
        "esvit/step_tiny_cvt_dense",
    ),
    *("deit/deit_tiny_distilled_patch16_224", "levit/levit_192_img160", "locally_sag/cifar10_tiny", "mvit/v2_t_in1k"),
    *("localvit/localvit_tiny_mlp4_act4", "qna/qna_vit_tiny_resnetstem", "regionvit/tiny_224_on_256"),
)


@cache
def original(name: str) -> tuple[tuple, dict, dict[str, torch.Tensor], tuple[str, ...]]:
    """Return system and variant, overrides, tensors, and the keys and fields of the model of a golden case."""
    (system, variant, state), overrides = conversion_of(name)
    tensors = unwrap(state)
    model = convert(system, variant, dict(tensors), **overrides)
    names = (*model.state_dict(), *type(model.config).__dataclass_fields__)
    return (system, variant), overrides, tensors, names


def changed_tensors(tensors: dict[str, torch.Tensor], keys: list[str], kind: str, random: Random) -> dict[str, Any]:
    """Return tensors with those of `keys` damaged."""
    odd: dict[Any, Any] = dict(tensors)
    for key in keys:
        value = tensors[key]
        if kind == "missing":
            del odd[key]
        elif kind == "extra":
            odd[
                random.choice(["extra", "head.weight", f"{key}.weight", f"{key}2", f"module.{key}", "0", 3, ("a",)])
            ] = value
        elif kind == "renamed":
            odd[random.choice([key.upper(), key + "_", key.replace("weight", "kernel"), key[1:], key * 2])] = odd.pop(
                key
            )
        elif kind == "dtype":
            odd[key] = value.to(random.choice(DTYPES))
        elif kind == "transposed":
            odd[key] = value.transpose(0, -1) if value.ndim else value
        elif kind == "swapped":
            other = random.choice(list(tensors))
            odd[key], odd[other] = tensors[other], value
        elif kind == "value":
            number = random.choice([0.0, float("nan"), float("inf"), 1e30, -1.0])
            odd[key] = torch.full_like(value, number if value.is_floating_point() else 2**40)
        elif kind == "object":
            odd[key] = odd_value(random)
        elif kind == "nested":
            odd[key] = {"weight": value}
        else:
            odd[key] = DAMAGES[kind](value)
    return odd


def tensor_case(random: Random) -> Case:
    name = random.choice(CONVERTED if random.random() < 0.9 else RARELY)
    (system, variant), overrides, tensors, converted = original(name)
    others = ("missing", "extra", "renamed", "dtype", "dtype", "transposed", "swapped", "value", "object", "nested")
    kind = random.choice([*DAMAGES, *others])
    keys = random.sample(list(tensors), min(random.choice([1, 1, 1, 2, 5]), len(tensors)))
    if random.random() < 0.05:
        keys = list(tensors)

    # Errors of the whole file, of its keys, and of sizes that were read from tensors.
    general = ("holds no tensors", "unexpected: ", "misshapen: ", "hidden_size=", "patch_size=")
    # Errors name the modules of Flax with dots, and their parameters as PyTorch's.
    modules = (key.replace("/", ".").rpartition(".")[0] for key in tensors)

    def run(folder: Path) -> None:
        model = convert(system, variant, changed_tensors(tensors, keys, kind, random), **overrides)
        assert len(model.state_dict()) >= 2
        for key, value in model.state_dict().items():
            assert value.dtype == (torch.float32 if value.is_floating_point() else value.dtype), key
            assert not value.is_complex(), key
        for parameter in model.parameters():
            assert parameter.dtype == torch.float32

    return Case(
        f"tensors {name} {kind} {keys[:3]}",
        (*(key for key in (*tensors, *modules) if len(key) > 3), *converted, *general),
        run,
    )


# folders of saved models

TINY = {"image_size": 16, "hidden_size": 16, "intermediate_size": 16, "conv_hidden_size": 8, "num_hidden_layers": 1}


@cache
def saved_model() -> dict[str, bytes]:
    """Return {file name: content} of a saved model in three shards, and of its processor."""
    with tempfile.TemporaryDirectory() as folder:
        model = CctForImageClassification(CctConfig(**TINY, num_attention_heads=2, num_labels=3))
        model.save_pretrained(folder, max_shard_size="4KB")
        VitsImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        model.save_pretrained(folder)
        return files | {"model.safetensors": Path(folder, "model.safetensors").read_bytes()}


def odd_json(content: bytes, random: Random) -> bytes:
    """Return JSON with other text or a value changed."""
    kind = random.randrange(8)
    if kind == 0:
        return content[: random.randrange(len(content))]
    if kind == 1:
        others = (
            b"",
            b"[]",
            b"null",
            b"3",
            b'"text"',
            b"{}",
            b"[" * 100_000,
            b'{"a": ' * 3000,
            b"\xff\xfe",
            b"{'a': 1}",
        )
        return random.choice([*others, b"\xef\xbb\xbf" + content, content.decode().encode("utf-16"), b"\0" * 50])
    if kind == 2:
        changed = bytearray(content)
        for _ in range(random.choice([1, 5])):
            changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed)
    values = json.loads(content)
    odd = (
        None,
        True,
        -1,
        0,
        1.5,
        10**30,
        1e308,
        float("nan"),
        "",
        "text",
        [],
        [None],
        [1, "a"],
        {},
        {"a": 1},
        "../..",
        "\ud800",
    )
    place = values
    key = random.choice(list(place))
    while isinstance(place[key], dict) and place[key] and random.random() < 0.7:
        place = place[key]
        key = random.choice(list(place))
    if kind == 3:
        del place[key]
    elif kind == 4:
        place[random.choice(["extra", "auto_map", "quantization_config", "dtype", "model_type"])] = random.choice(odd)
    else:
        place[key] = random.choice(odd)
    return json.dumps(values).encode()


def folder_case(random: Random) -> Case:
    files = dict(saved_model())
    if random.random() < 0.5:
        files = {name: content for name, content in files.items() if "index" not in name and "-of-" not in name}
    else:
        del files["model.safetensors"]
    name = random.choice(sorted(files))
    kind = random.choice(["bytes", "bytes", "missing", "folder", "json", "json", "json"])
    if kind == "missing":
        del files[name]
    elif kind == "json" and name.endswith(".json"):
        files[name] = odd_json(files[name], random)
    elif kind == "bytes" or not name.endswith(".json"):
        files[name] = odd_bytes(random, 1.0)(files[name])
    else:
        del files[name]
    by_class = random.random() < 0.3

    def run(folder: Path) -> None:
        source = folder / "saved_model"
        source.mkdir()
        for file, content in files.items():
            (source / file).write_bytes(content)
        if kind == "folder":
            (source / name).mkdir(exist_ok=True)
        model = load_by_class(source) if by_class else load_model(str(source))
        pixels = torch.zeros(1, 3, 16, 16)
        if (processor := load_processor(str(source))) is not None:
            processor(images=np.zeros((20, 20, 3), np.uint8), return_tensors="pt")
        assert isinstance(model.num_parameters(), int)
        if isinstance(model, CctForImageClassification) and model.config.image_size == 16:
            model(pixels)

    fields = [*json.loads(saved_model()["config.json"]), *json.loads(saved_model()["preprocessor_config.json"])]
    known = ("saved_model", name, *fields)
    return Case(f"folder {kind} {name} {'class' if by_class else 'cli'}", known, run)


def load_by_class(source: Path) -> CctForImageClassification:
    try:
        return CctForImageClassification.from_pretrained(source)
    except RuntimeError as error:
        # transformers' own tests expect it, after a report that names the tensors and their shapes.
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise ValueError(f"{source}: {error}") from error


# folders of runs


@cache
def stopped_run() -> Path:
    """Return the folder of a tiny run that stopped after its first checkpoint."""
    directory = Path(tempfile.mkdtemp(prefix="hf-vits-fuzz-run-"))
    with_checkpoint = run_recipe(directory, "2 steps")
    train(with_checkpoint)
    (directory / "results.json").rename(directory / "results.json.away")
    return directory


def run_recipe(directory: Path, length: str) -> dict:
    return tiny_recipe(
        directory, train__length=length, train__save_every="1 step", train__evaluate_every=None, schedule={}
    )


def run_case(random: Random) -> Case:
    source = stopped_run()
    files = [path for path in sorted(source.rglob("*")) if path.is_file() and path.suffix != ".png"]
    used = [path for path in files if "checkpoint" in str(path) or path.name in ("recipe.yaml", "results.json.away")]
    path = random.choice(used)
    kind = random.choice(["bytes", "bytes", "missing", "json"])
    content = path.read_bytes()
    if kind == "json" and path.suffix in (".json", ".away"):
        content = odd_json(content, random)
    elif kind != "missing":
        content = odd_bytes(random, 1.0)(content)

    def run(folder: Path) -> None:
        directory = folder / "run"
        shutil.copytree(source, directory, ignore=shutil.ignore_patterns("*.png"))
        damaged = directory / path.relative_to(source)
        damaged.unlink()
        if damaged.suffix == ".away":
            damaged = damaged.with_suffix("")
        if kind != "missing":
            damaged.write_bytes(content)
        train(run_recipe(directory, "2 steps"))

    return Case(f"run {kind} {path.name}", ("checkpoint-", path.name.removesuffix(".away")), run)


def prepare() -> None:
    torch.set_num_threads(1)


def make(random: Random) -> Case:
    """Make a file, a state dict, or a folder of a model or a run."""
    kinds = [file_case] * 40 + [tensor_case] * 40 + [folder_case] * 18 + [run_case] * 2
    return random.choice(kinds)(random)
