"""JSON lines for the importers: which files, which line is broken, and typed fields. Knows no format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metasd.core import jsontext
from metasd.core.errors import UsageError
from metasd.traces import format as fmt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made, and what its user should know."""

    path: Path
    prompts: int
    rows: int
    unaligned: int  # prompts with a column that speaks of another text
    warnings: list[str] = field(default_factory=list)


def sources(path: Path) -> list[Path]:
    """The file, or a folder's .jsonl and .json files by name. Raises UsageError where there is none."""
    if path.is_file():
        return [path]
    found = sorted(p for p in path.glob("*.json*") if p.suffix in (".jsonl", ".json")) if path.is_dir() else []
    if not found:
        raise UsageError(f"{path}: no file, and no folder with .jsonl or .json files; give what is to be imported")
    return found


def named(files: list[Path]) -> list[dict[str, str]]:
    """Names and sha256 of the files, for the manifest."""
    return [{"name": file.name, "sha256": fmt.file_hash(file)} for file in files]


def parse(file: Path, read: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    """``read`` applied to every line's object; empty lines are skipped.

    Raises UsageError naming file and line when a line is no JSON object or ``read`` cannot make sense of it (raises
    ValueError, or TypeError for a value of another kind than expected).
    """
    number = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                data = jsontext.loads(line)
                if not isinstance(data, dict):
                    raise ValueError("it is not a JSON object")
                yield read(data)
            except (ValueError, TypeError) as error:
                raise UsageError(f"{file}:{number}: {error}; mend the line or remove it") from error
    if number == 0:
        raise UsageError(f"{file}: the file is empty; give a file with lines")


def value(data: Any, *keys: str | int) -> Any:
    """The value under ``keys``. Raises ValueError naming the first that is missing."""
    for depth, key in enumerate(keys):
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"it has no {'.'.join(map(str, keys[: depth + 1]))}") from None
    return data


def integers(values: Any, what: str, low: int, high: int = 2**31 - 1) -> NDArray[np.int64]:
    """``values`` as int64. Raises ValueError unless they are a list of integers within low..high."""
    if not isinstance(values, list):
        raise ValueError(f"{what} is not a list")
    for v in values:
        if type(v) is not int or not low <= v <= high:
            raise ValueError(f"{what} holds {v!r}, which is not an integer within {low}..{high}")
    return np.array(values, np.int64)
