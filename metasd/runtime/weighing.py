"""What a checkpoint weighs, said on stderr before its weights are read, and how far the reading is.

A small model loads at once, so nothing is said of it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metasd.core import progress, shown

QUIET = 100_000_000
"""Bytes below which nothing is said."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Of all tensors of a folder: their numbers, their bytes, and the dtype that most of the bytes have."""

    parameters: int
    bytes: int
    dtype: str


def weigh(folder: Path) -> Weight | None:
    """From the headers of ``model*.safetensors``; None without them, or where one is damaged (loading says how)."""
    parameters, of_dtype = 0, dict[str, int]()
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with file.open("rb") as source:
                length = int.from_bytes(source.read(8), "little")
                if length > file.stat().st_size:
                    return None
                header = json.loads(source.read(length))
            header.pop("__metadata__", None)
            for tensor in header.values():
                begin, end = tensor["data_offsets"]
                parameters += math.prod(tensor["shape"])
                of_dtype[tensor["dtype"]] = of_dtype.get(tensor["dtype"], 0) + end - begin
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
    if not of_dtype:
        return None
    return Weight(parameters, sum(of_dtype.values()), max(of_dtype, key=lambda d: of_dtype[d]))


@contextmanager
def told(folder: Path, name: str, dtype: str) -> Iterator[None]:
    """Inside it transformers reads ``folder``: its size is said before, and on a terminal there is a bar.

    dtype: what the weights become, ``auto`` for what they are.
    """
    weight = weigh(folder)
    if weight is None or weight.bytes < QUIET:
        yield
        return
    kept = "" if dtype == "auto" else f", to {dtype}"
    size = f"{weight.parameters / 1e6:,.0f} million parameters, {weight.bytes / 1e9:.2f} GB in {weight.dtype}{kept}"
    print(shown.line(f"loading {name}: {size}"), file=sys.stderr, flush=True)  # noqa: T201
    from transformers import core_model_loading as library

    bar, library.tqdm = library.tqdm, _counted if sys.stderr.isatty() else library.tqdm  # its own goes by other rules
    try:
        yield
    finally:
        library.tqdm = bar


def _counted(read: Collection[Any], **_: Any) -> Iterator[Any]:
    with progress.bar(len(read), "loading (weights)") as advance:
        for item in read:
            yield item
            advance()
