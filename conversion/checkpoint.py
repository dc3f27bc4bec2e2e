"""Reading of checkpoint files in every format that the originals use, without running code from them."""

import argparse
import codecs
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgpack
import numpy as np
import safetensors
import safetensors.torch
import torch

from .tensorbundle import is_index, read_bundle

# Keys under which training scripts save the weights; the first that contains tensors is read.
WRAPPERS = ("model", "model_state", "model_state_dict", "state_dict", "teacher", "params", "target", "SiT_model")
# Keys of the weights and of the batch norm statistics in the state that clu saves of a `flax.deprecated.nn` model.
FLAX_STATE = ("model_params", "model_state")
# Keys of the two networks of self-distillation; a training state needs both.
BRANCHES = ("student", "teacher")
# Prefixes that module wrappers add to every key.
PREFIXES = ("module.", "_orig_mod.", "params/", "opt/target/", "optimizer/target/")
# Prefix of the batch norm statistics that Flax saves beside the weights.
STATISTICS = "batch_stats/"
# What torch's messages say where a pickle contains code; other messages mean a damaged file.
REFUSED = re.compile(r"[Uu]nsupported (global|GLOBAL|class|operand)|Trying to call|Can only (build|create)")
# Name of one of several files that a checkpoint was saved in.
PART = re.compile(r"-0*(\d+)-of-(?!0*1\D)0*(\d+)\.")
# {first bytes of a file that contains a model, but no checkpoint: what it is}
OTHER_FORMATS = {
    b"GGUF": "a GGUF file, whose weights are quantised for llama.cpp",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x08": "an ONNX graph",
    b"TFL3": "a TFLite graph",
}
# What follows the first two bytes of a PyTorch file from before version 1.6: the opcode of a long number, and it.
MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
# Nested dicts deeper than this are refused, as is a dict that contains itself.
MAX_DEPTH = 64


def load_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint file.

    The format is recognised by the content, not by the file's name: PyTorch (.pth, .pt, .bin; read with
    `weights_only=True`), a pickle of numpy arrays and nothing else (.pkl, as detectron2 writes), the tensors of a
    TorchScript archive, safetensors, numpy's .npz (read with `allow_pickle=False`), Flax msgpack, and TensorFlow 2's
    checkpoints, of which `path` is the .index file, or its name without the ending. Weights below `model`,
    `state_dict`, `teacher` and the like are unwrapped, prefixes such as `module.` are removed, and the keys of nested
    trees are joined by "/".

    Returns:
        {key: CPU tensor}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or of no known format, contains no weights, or is a pickle that could only
            be read by running its code.
    """
    path = Path(path)
    if not path.is_file() and Path(f"{path}.index").is_file():
        path = Path(f"{path}.index")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}")
    if part := PART.search(path.name):
        raise ValueError(
            f"{path.name} is part {int(part[1])} of {int(part[2])} of a checkpoint that was saved in pieces. Give the "
            "folder or repository, or join the parts to one file first"
        )
    if path.name.endswith(".index.json"):
        raise ValueError(
            f"{path.name} lists the parts of a checkpoint that was saved in pieces. Give the folder or repository, or "
            "join the parts to one file first"
        )
    read = READERS[file_format(path)]
    try:
        tree = read(path)
    except Exception as error:  # damaged bytes make the parsers raise nearly every type
        refused = isinstance(error, pickle.UnpicklingError) and REFUSED.search(str(error))
        if not refused or is_cut_pickle(path):
            raise ValueError(f"{path.name} cannot be read, it may be truncated: {first_line(error)}") from error
        raise ValueError(
            f"{path.name} is a pickle of more than weights. Reading it would run code, so it was not read: "
            f"{first_line(error)}. Ask its author for a safetensors file, or in a sandbox that you trust save "
            "torch.load(...)['model'] as a new file"
        ) from error
    try:
        return unwrap(tree, path.name)
    except ValueError as error:
        if path.name in str(error):
            raise
        raise ValueError(f"{path.name}: {error}") from error


def first_line(error: Exception) -> str:
    """Return the first line of a message without torch's advice to read the file unsafely; else the error's type."""
    message = str(error).strip().rpartition("WeightsUnpickler error: ")[2].partition(" Please use `torch")[0].strip()
    return (message or type(error).__name__).splitlines()[0].rstrip(".")


def is_cut_pickle(path: Path) -> bool:
    """Return whether a file of plain pickles, as PyTorch wrote before 1.6, ends inside one of them; runs no code."""
    if zipfile.is_zipfile(path):
        return False
    with path.open("rb") as file:
        for _ in range(5):  # magic number, protocol, system, content, storage keys; then raw bytes
            if not file.peek(1):
                return False
            try:
                for _ in pickletools.genops(file):
                    pass
            except Exception:  # as for any parser of damaged bytes
                return True
    return False


def file_format(path: Path) -> str:
    """Return the key of `READERS` for a file, by its first bytes; ValueError for an unknown format."""
    if is_index(path):
        return "tensorflow"
    with path.open("rb") as file:
        head = file.read(16)
    for start, kind in OTHER_FORMATS.items():
        if head.startswith(start) and (start != b"\x08" or head[2:3] == b"\x12" or path.suffix == ".onnx"):
            raise ValueError(
                f"{path.name} is {kind}, no checkpoint that converts: give the weights it was made from, as PyTorch, "
                "safetensors, .npz or Flax msgpack"
            )
    if head[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception as error:  # zipfile raises several types for damaged directories
            raise ValueError(
                f"{path.name} is a zip archive that is truncated or damaged: {first_line(error)}"
            ) from error
        if any(name.endswith("/constants.pkl") for name in names):
            return "script"
        return "npz" if names and all(name.endswith(".npy") for name in names) else "torch"
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        # The format from before PyTorch 1.6 begins with a pickled number.
        return "torch" if head[2:].startswith(MAGIC) else "pickle"
    if head[:1] and (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return "msgpack"  # a non-empty map
    raise ValueError(
        f"{path.name} is no checkpoint of a known format: expected PyTorch, safetensors, .npz, Flax msgpack or "
        f"the .index of a TensorFlow checkpoint, got a file that starts with {head!r}"
    )


class LightningCallback:
    """Placeholder for a class of PyTorch Lightning, by which its checkpoints name the state of a callback."""


# Classes that are saved beside weights and run no code when they are read: the arguments of training scripts, and the
# callbacks of Lightning up to 1.4, as (placeholder, dotted name).
HARMLESS = [
    argparse.Namespace,
    (LightningCallback, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (LightningCallback, "pytorch_lightning.callbacks.early_stopping.EarlyStopping"),
]

# {class of a storage in a pickle: dtype of its numbers}
STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}


class ScriptModule:
    """A module of a TorchScript archive, of which only the attributes are kept."""


class ScriptUnpickler(pickle.Unpickler):
    """Unpickler of the attributes of a TorchScript archive; it makes tensors and containers, and runs no code."""

    def __init__(self, file: BinaryIO, read_storage: Callable[[str, int], bytes]):
        super().__init__(file)
        self.read_storage = read_storage

    def find_class(self, module: str, name: str):
        if module.startswith("__torch__"):
            return ScriptModule
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_type_tag")):
            return lambda value, *types: value
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor, ("collections", "OrderedDict"): dict}
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: tuple) -> torch.Tensor:
        _, dtype, key, _, length = pid
        data = self.read_storage(key, length * dtype.itemsize)
        return torch.frombuffer(bytearray(data), dtype=dtype, count=length) if length else torch.empty(0, dtype=dtype)


def rebuild_tensor(storage: torch.Tensor, offset: int, shape: tuple, stride: tuple, *more) -> torch.Tensor:
    """Return a copy of a tensor in a flat storage."""
    return storage.as_strided(shape, stride, offset).clone()


def read_script(path: Path) -> dict[str, torch.Tensor]:
    """Read the parameters and buffers of a TorchScript archive, as OpenAI saved CLIP, without its code."""

    def tensors(module: ScriptModule, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in vars(module).items():
            if isinstance(value, ScriptModule):
                yield from tensors(value, f"{prefix}{name}.")
            elif isinstance(value, torch.Tensor):
                yield f"{prefix}{name}", value

    with zipfile.ZipFile(path) as archive:
        (content,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        folder = content.rpartition("/")[0]

        def read_storage(key: str, size: int) -> bytes:
            data = archive.read(f"{folder}/data/{key}")
            if len(data) < size:
                raise ValueError(f"storage {key} has {len(data)} bytes, expected {size}")
            return data[:size]

        with archive.open(content) as file:
            return dict(tensors(ScriptUnpickler(file, read_storage).load()))


def read_torch(path: Path):
    with path.open("rb") as file, torch.serialization.safe_globals(HARMLESS):
        # torch.load would choose the format by the suffix of a path.
        return torch.load(file, map_location="cpu", weights_only=True)


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler of numpy arrays in containers, as detectron2 publishes its models; it runs no other code."""

    def find_class(self, module: str, name: str):
        place = module.replace("numpy._core", "numpy.core"), name
        if place not in ARRAYS:
            raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
        return ARRAYS[place]


def rebuild_array(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str, axes=None) -> np.ndarray:
    """Return a contiguous array, which the fifth version of pickles holds as bytes; `axes` order its axes."""
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")
    return array if axes is None else array.transpose(axes)


# {place of a function or class that numpy's pickles name: it}
ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float32(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): rebuild_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
    ("collections", "OrderedDict"): dict,
}


def read_pickle(path: Path):
    with path.open("rb") as file:
        return ArrayUnpickler(file, encoding="latin1").load()  # latin1: of strings that Python 2 wrote


def read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def read_msgpack(path: Path):
    """Read Flax's serialization: extension type 1 is an array, type 3 a numpy scalar (flax/serialization.py)."""

    def extension(code: int, data: bytes):
        if code not in (1, 3):
            raise ValueError(f"msgpack extension type {code} is not an array")
        shape, dtype, buffer = msgpack.unpackb(data, raw=True)
        name = dtype.decode()
        array = np.frombuffer(buffer, dtype="V2" if name == "bfloat16" else np.dtype(name))
        return array.reshape([int(size) for size in shape])

    return msgpack.unpackb(path.read_bytes(), ext_hook=extension, raw=False, strict_map_key=False)


READERS = {
    "torch": read_torch,
    "pickle": read_pickle,
    "script": read_script,
    "safetensors": lambda path: safetensors.torch.load_file(path),
    "npz": read_npz,
    "msgpack": read_msgpack,
    "tensorflow": read_bundle,
}


def unwrap(tree, name: str = "checkpoint") -> dict[str, torch.Tensor]:
    """Return the weights in what a training script saved, as {key: tensor}.

    Args:
        tree: the content of a file, a dict of tensors, arrays and nested dicts.
        name: name of the file, for messages.

    Raises:
        ValueError: there are no weights, a tensor is not of real numbers, or dicts are nested too deep; the message
            says what was found instead.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"{name} holds a {type(tree).__name__}, expected a dict of tensors")
    arrays = dict(leaves(tree))
    if {"state", "param_groups"} <= tree.keys():
        raise ValueError(f"{name} is the state of an optimizer: give the file of the model's weights")
    if all(isinstance(tree.get(branch), Mapping) for branch in BRANCHES):
        return training_state(tree)
    if isinstance(tree.get(FLAX_STATE[0]), Mapping):
        # Weights and batch norm statistics beside each other, and their paths begin with "/".
        parts = {part: tree[part] for part in FLAX_STATE if isinstance(tree.get(part), Mapping)}
        return {re.sub("/+", "/", key): as_tensor(value, key) for key, value in leaves(parts)}
    for wrapper in WRAPPERS:
        if isinstance(tree.get(wrapper), Mapping) and any(True for _ in leaves(tree[wrapper])):
            return unwrap(tree[wrapper], name) | statistics(tree)
    if any(isinstance(part, Mapping) and {"state", "param_groups"} <= part.keys() for part in tree.values()):
        raise ValueError(
            f"{name} holds the state of an optimizer, but no weights under {', '.join(WRAPPERS)}: give the file of "
            f"the model's weights, got the keys {sorted(map(str, tree))[:10]}"
        )
    tensors = {key: as_tensor(value, key) for key, value in arrays.items()}
    if not tensors:
        raise ValueError(f"{name} holds no tensors, only the keys {sorted(map(str, tree))[:10]}")
    for prefix in PREFIXES:
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        # A Flax training state has the optimizer's slots beside the weights; a wrapped module has no other keys.
        if inside and (prefix.endswith("/") or len(inside) == len(tensors)):
            tensors = inside | statistics(tree)
    return tensors


def training_state(tree: Mapping) -> dict[str, torch.Tensor]:
    """Return the tensors of student, teacher and loss; each key begins with the part's name, such as "student."."""
    parts = {
        f"{name}.": part
        for name, part in tree.items()
        if isinstance(part, Mapping) and (name in BRANCHES or str(name).endswith("_loss"))
    }
    arrays = {f"{name}{key}": value for name, part in parts.items() for key, value in leaves(part)}
    return {key: as_tensor(value, key) for key, value in arrays.items()}


def statistics(tree: Mapping) -> dict[str, torch.Tensor]:
    """Return the batch norm statistics of a Flax training state, under the keys of their modules."""
    return {
        key.removeprefix(STATISTICS): as_tensor(value, key)
        for key, value in leaves(tree)
        if key.startswith(STATISTICS)
    }


def leaves(tree: Mapping, path: str = "", depth: int = 1):
    """Yield (key, array) for every tensor or array in a nested dict, keys joined by "/"."""
    if depth > MAX_DEPTH:
        raise ValueError(
            f"the checkpoint nests dicts more than {MAX_DEPTH} deep, or one contains itself: {path[:60]}..."
        )
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}/", depth + 1)
        elif isinstance(value, torch.Tensor | np.ndarray) or hasattr(value, "__array__"):
            yield f"{path}{key}", value


def as_tensor(value, key: str) -> torch.Tensor:
    """Return `value` as a dense torch tensor; ValueError that names `key` if it is not one of real numbers.

    numpy has no bfloat16: it reads such values as two opaque bytes (V2).
    """
    if isinstance(value, torch.Tensor):
        if value.is_complex() or value.is_quantized or value.layout != torch.strided or value.is_meta:
            raise ValueError(f"{key} must be a dense tensor of real numbers, got {value.dtype}, {value.layout}")
        # PyTorch computes with 8-bit floats in few functions, and not together with others.
        return value.detach().float() if value.is_floating_point() and value.itemsize == 1 else value.detach()
    array = np.asarray(value)
    if array.dtype.name == "bfloat16" or array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.uint16).astype(np.int32) << 16).view(torch.float32)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ValueError(f"{key} must be an array of real numbers of at most 64 bits, got dtype {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
