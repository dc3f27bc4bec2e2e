"""Reading of TensorFlow 2 checkpoints, "tensor bundles", without TensorFlow.

`NAME.index` is a sorted table of LevelDB's format (tensorflow/core/lib/io/format.cc): {key: where the tensor is}, as
protocol buffers (tensorflow/core/protobuf/tensor_bundle.proto). The values are in `NAME.data-00000-of-00001` and the
like. The tables of checkpoints are not compressed.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
FOOTER = 48
TRAILER = 5  # type of compression and checksum after each block
# {number of a type in tensorflow/core/framework/types.proto: numpy's}; bfloat16 as two opaque bytes
TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 14: "V2", 19: "<f2"}


def is_index(path: Path) -> bool:
    """Return whether a file is the index of a checkpoint."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - len(MAGIC), 0))
        return file.read() == MAGIC


def read_bundle(path: Path) -> dict[str, np.ndarray]:
    """Return {key: array} of the checkpoint whose index is `path`; strings and other types are left out.

    Raises:
        ValueError: the index is damaged or of another form, or a file of values is missing or too short.
    """
    entries = dict(table(path.read_bytes()))
    header = fields(entries.pop(b"", b""))
    if header.get(2, 0):
        raise ValueError("its values are big-endian, which is not supported")
    shards, arrays = integer(header.get(1, 1)), {}
    files: dict[int, np.ndarray] = {}
    for key, value in entries.items():
        entry = fields(value)
        if (kind := TYPES.get(integer(entry.get(1, 0)))) is None:
            continue
        shard, start, size = (integer(entry.get(number, 0)) for number in (3, 4, 5))
        if shard not in files:
            files[shard] = values_file(path, shard, shards)
        shape = dimensions(entry.get(2, b""))
        data = files[shard][start : start + size]
        if len(data) < size or size != math.prod(shape) * np.dtype(kind).itemsize:
            raise ValueError(f"{key.decode()} has {len(data)} bytes, expected {size} of shape {tuple(shape)}")
        arrays[key.decode()] = np.frombuffer(data.tobytes(), dtype=kind).reshape(shape)
    return arrays


def values_file(path: Path, shard: int, shards: int) -> np.ndarray:
    """Return the bytes of a file of values, mapped into memory."""
    name = path.with_suffix("").name + f".data-{shard:05d}-of-{shards:05d}"
    if not path.with_name(name).is_file():
        raise ValueError(f"{name} is missing: a TensorFlow checkpoint has its values in files beside the index")
    return np.memmap(path.with_name(name), mode="r")


def table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a table."""
    if len(data) < FOOTER or not data.endswith(MAGIC):
        raise ValueError("the index of a TensorFlow checkpoint ends too early")
    _, place = handle(data, len(data) - FOOTER)
    index, _ = handle(data, place)
    for _, value in block(data, *index):
        (start, size), _ = handle(value, 0)
        yield from block(data, start, size)


def handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Return (start, size) of a block, and the place after it."""
    start, place = varint(data, place)
    size, place = varint(data, place)
    return (start, size), place


def block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a block; a key has a number of first bytes in common with the one before."""
    if start + size + TRAILER > len(data):
        raise ValueError("the index of a TensorFlow checkpoint ends too early")
    if data[start + size]:
        raise ValueError("the index of a TensorFlow checkpoint is compressed, which is not supported")
    restarts = struct.unpack_from("<I", data, start + size - 4)[0]
    end, key = start + size - 4 * (restarts + 1), b""
    while start < end:
        shared, start = varint(data, start)
        length, start = varint(data, start)
        value_length, start = varint(data, start)
        key = key[:shared] + data[start : start + length]
        start += length + value_length
        yield key, data[start - value_length : start]


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of variable length, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def messages(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of the fields of a protocol buffer."""
    place = 0
    while place < len(data):
        tag, place = varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = varint(data, place)
        else:
            length, place = varint(data, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
            value, place = data[place : place + length], place + length
        yield number, value


def fields(data: bytes) -> dict[int, int | bytes]:
    """Return {number: value} of the fields of a protocol buffer."""
    return dict(messages(data))


def integer(value: int | bytes) -> int:
    """Return a field that must be a number."""
    if not isinstance(value, int):
        raise ValueError("a field of the index is no number")
    return value


def dimensions(shape: int | bytes) -> list[int]:
    """Return the lengths of the axes of a TensorShapeProto."""
    if isinstance(shape, int):
        raise ValueError("a shape in the index is a number")
    sizes = (value for number, value in messages(shape) if number == 2)
    return [integer(fields(size).get(1, 0)) for size in sizes if isinstance(size, bytes)]
