"""One shard: named arrays in a safetensors file, written through a hash and read as a memory map.

The header is written and parsed here because the safetensors library copies on both ways, and because a damaged
file must be refused by name. The format: 8 bytes of header length, a JSON header, the arrays' bytes without gaps.
A shard named ``.xz`` is such a file, compressed: a fifth of the size, read into memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import files, jsontext
from metasd.core.errors import TraceError

Tensors = dict[str, NDArray[Any]]

_NAMES = {
    "uint8": "U8",
    "uint16": "U16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
}
_DTYPES = {code: np.dtype(name).newbyteorder("<") for name, code in _NAMES.items()}
_BLOCK = 1 << 24
_MAX_HEADER = 100_000_000  # the safetensors library's own limit
PACKED = ".xz"
"""How the names of compressed shards end."""


def write(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> tuple[str, int]:
    """Write a shard whole or not at all, and return the sha256 and size in bytes of its file. Raises FileError."""
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in _order(tensors)}
    blocks = _blocks(arrays, metadata)
    seen = hashlib.sha256()
    with files.replacing(path) as file:
        for block in _compressed(blocks) if path.suffix == PACKED else blocks:
            seen.update(block)
            file.write(block)
        size = file.tell()
    return seen.hexdigest(), size


def _blocks(arrays: Tensors, metadata: Mapping[str, str]) -> Iterator[bytes]:
    header = np.frombuffer(_header(arrays, metadata), np.uint8)
    for data in (header, *(_bytes(a) for a in arrays.values())):
        for at in range(0, len(data), _BLOCK):
            yield data[at : at + _BLOCK].tobytes()


def _compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    import lzma  # not in every Python, and only packed shards need it

    packer = lzma.LZMACompressor()
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()


def _order(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    """Widest first, so that every array is aligned to its own width."""
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8)


def _header(arrays: Tensors, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, array in arrays.items():
        offsets = [at, at + array.nbytes]
        entries[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        at += array.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def content(path: Path) -> NDArray[np.uint8]:
    """The bytes of the safetensors file: a read-only memory map, of a compressed one memory."""
    if path.suffix == PACKED:
        return np.frombuffer(_unpacked(path.read_bytes()), np.uint8)
    return np.asarray(np.memmap(path, np.uint8, mode="r"))  # plain views: the subclass slows every step


def _unpacked(data: bytes) -> bytes:
    """Raises ValueError for what is not whole."""
    import lzma

    try:
        return lzma.decompress(data)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error


def read(path: Path) -> tuple[Tensors, dict[str, str]]:
    """The arrays of a shard as views of ``content``, and its metadata.

    Raises TraceError naming the file when it is missing, cut, or no safetensors file.
    """
    try:
        data = content(path)
        size = int.from_bytes(data[:8].tobytes(), "little")
        if len(data) < 8 or size > min(_MAX_HEADER, len(data) - 8):
            raise ValueError("its header is cut off")
        header = jsontext.loads(data[8 : 8 + size].tobytes())
        metadata = header.pop("__metadata__", {})
        body = data[8 + size :]
        tensors = {name: _view(body, **entry) for name, entry in header.items()}
        ends = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if ends != len(body):
            raise ValueError(f"it holds {len(body)} bytes of arrays, its header says {ends}")
        return tensors, metadata
    except ImportError as error:
        raise TraceError(f"{path}: compressed, and this Python has no lzma; use one that was built with it") from error
    except OSError as error:
        raise TraceError(f"{path}: missing or unreadable ({error.strerror}); restore it or record again") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise TraceError(f"{path}: damaged, or no shard ({error}); restore it or record again") from error


def _view(body: NDArray[np.uint8], dtype: str, shape: list[int], data_offsets: list[int]) -> NDArray[Any]:
    start, stop = data_offsets
    kind = _DTYPES[dtype]
    if not 0 <= start <= stop <= len(body) or stop - start != math.prod(shape) * kind.itemsize:
        raise ValueError(f"offsets {data_offsets} do not hold {shape} of {dtype}")
    return body[start:stop].view(kind).reshape(shape)
