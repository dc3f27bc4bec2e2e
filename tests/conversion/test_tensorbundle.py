"""TensorFlow's checkpoints, written here as TensorFlow writes them, byte by byte."""

import struct
from pathlib import Path

import numpy as np
import pytest

from hf_vits.conversion import load_checkpoint

TYPES = {"float32": 1, "int64": 9, "float16": 19}


def varint(value: int) -> bytes:
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def block(entries: list[tuple[bytes, bytes]], every: int) -> bytes:
    """A block whose keys are whole after each `every` keys, with its trailer."""
    data, restarts, before = b"", [], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % every == 0:
            restarts.append(len(data))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return data + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + b"\0" + b"sum."


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write NAME.index and its values; return the index."""
    values, entries = b"", [(b"", number(1, 1) + message(3, number(1, 1)))]
    for key, array in sorted(arrays.items()):
        data = array.tobytes()
        shape = b"".join(message(2, number(1, size)) for size in array.shape)
        entry = number(1, TYPES[array.dtype.name]) + message(2, shape) + number(4, len(values))
        entries.append((key.encode(), entry + number(5, len(data)) + varint(6 << 3 | 5) + b"sum."))
        values += data
    entries.append((b"~graph", number(1, 7)))  # a string
    file, index = b"", []
    for part in (entries[:3], entries[3:]):
        content = block(part, every=2)
        index.append((part[-1][0] + b"~", varint(len(file)) + varint(len(content) - 5)))
        file += content
    handles = b""
    for content in (block([], every=1), block(index, every=1)):
        handles += varint(len(file)) + varint(len(content) - 5)
        file += content
    footer = handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    path.with_name(f"{path.name}.data-00000-of-00001").write_bytes(values)
    index_file = path.with_name(f"{path.name}.index")
    index_file.write_bytes(file + footer)
    return index_file


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "model/layer/kernel": random.standard_normal((3, 200)).astype("float32"),
        "model/layer/bias": random.standard_normal(200).astype("float16"),
        "model/layer_norm/gamma": random.standard_normal(7).astype("float32"),
        "save_counter": np.array(300, dtype="int64"),
        "empty": np.zeros((0, 4), dtype="float32"),
    }


def test_a_checkpoint_is_read_by_its_index_or_its_name(arrays, tmp_path):
    index = write(tmp_path / "ckpt-1", arrays)
    for path in (index, tmp_path / "ckpt-1"):
        found = load_checkpoint(path)
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key].numpy(), array)


@pytest.mark.parametrize("damage", ["values missing", "values cut", "index cut", "compressed"])
def test_damaged_checkpoints_are_refused(damage, arrays, tmp_path):
    index = write(tmp_path / "ckpt-1", arrays)
    values = tmp_path / "ckpt-1.data-00000-of-00001"
    if damage == "values missing":
        values.unlink()
    elif damage == "values cut":
        values.write_bytes(values.read_bytes()[:-1])
    else:
        data = bytearray(index.read_bytes())
        if damage == "index cut":
            del data[10:60]
        else:
            data[data.index(b"sum.", data.index(b"~graph")) - 1] = 1
        index.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"ckpt-1\.index cannot be read, it may be truncated"):
        load_checkpoint(index)
