"""A trace as one Parquet table, a row for every prompt, position and drafter: for data frames and SQL.

pyarrow is imported when something is exported; it comes with the extra ``metasd[parquet]``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import files
from metasd.core.errors import UsageError
from metasd.core.signals import SIGNALS
from metasd.traces.trace import Trace

ROWS = 1 << 16
"""Rows of the table that are held in memory and written as one group, unless a single prompt has more."""

_BY_DEPTH = ("accept", "overlap", "confidence", "draft_tokens")


def to_parquet(trace: Trace, path: Path) -> int:
    """Write ``trace`` to ``path`` and return the number of rows; columns are listed in ``docs/trace-format.md``.

    Arrays that the trace does not hold get no column. The manifest is kept as JSON in the file's metadata under
    ``metasd.manifest``. Memory is bounded by ``ROWS`` rows or the longest prompt.
    Raises UsageError without pyarrow, FileError where the file cannot be written.
    """
    arrow, parquet = _pyarrow()
    schema = _schema(arrow, trace)
    rows = 0
    with files.replacing(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for first, last in _groups(trace):
            columns = _columns(trace, first, last)
            made = [_array(arrow, columns[field.name], field.type) for field in schema]
            rows += len(made[0])
            writer.write_table(arrow.Table.from_arrays(made, schema=schema))
    return rows


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(f"Parquet needs pyarrow ({error}); pip install 'metasd[parquet]'") from error


def _schema(arrow: Any, trace: Trace) -> Any:
    columns = {
        "prompt": arrow.string(),
        "domain": arrow.string(),
        "ended": arrow.bool_(),
        "position": arrow.int32(),
        "token": arrow.int32(),
        "drafter": arrow.string(),
        "proposed": arrow.uint8(),
        "accepted": arrow.uint8(),
    }
    if trace.margin is not None:
        columns["margin"] = arrow.float32()
    for name in _BY_DEPTH:
        if getattr(trace, name) is not None:
            kind = arrow.int32() if name == "draft_tokens" else arrow.float32()
            columns[name] = arrow.list_(kind, trace.depth)
    if trace.signals is not None:
        columns |= {f"signal_{name}": arrow.float32() for name in SIGNALS}
    manifest = json.dumps(dict(trace.manifest), default=str)
    return arrow.schema(list(columns.items()), metadata={"metasd.manifest": manifest})


def _groups(trace: Trace) -> Iterator[tuple[int, int]]:
    """Prompts ``first`` to ``last`` (exclusive) whose rows are written together."""
    first, most = 0, max(ROWS // max(len(trace.drafters), 1), 1)
    for p in range(len(trace)):
        if trace.offsets[p + 1] - trace.offsets[first] > most and p > first:
            yield first, p
            first = p
    if first < len(trace):
        yield first, len(trace)


def _columns(trace: Trace, first: int, last: int) -> dict[str, NDArray[Any]]:
    """The rows of some prompts by name, [n * D] or [n * D, G], drafters of a position side by side."""
    D, at = len(trace.drafters), slice(int(trace.offsets[first]), int(trace.offsets[last]))
    lengths = np.asarray(trace.lengths[first:last])

    def of_prompt(values: Any) -> NDArray[Any]:
        return np.repeat(np.asarray(values)[:], lengths * D)

    def of_position(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(np.asarray(values), D)

    starts = np.repeat(np.asarray(trace.offsets[first:last]), lengths)
    names = np.array([d.name for d in trace.drafters], object)
    found: dict[str, NDArray[Any]] = {
        "prompt": of_prompt(np.array(trace.ids[first:last], object)),
        "domain": of_prompt(np.array(trace.domains[first:last], object)),
        "ended": of_prompt(np.asarray(trace.ended[first:last], bool)),
        "position": of_position(np.arange(at.start, at.stop) - starts),
        "token": of_position(trace.tokens[at]),
        "drafter": np.tile(names, at.stop - at.start),
        "proposed": trace.proposed[at].reshape(-1),
        "accepted": trace.accepted[at].reshape(-1),
    }
    if trace.margin is not None:
        found["margin"] = of_position(trace.margin[at])
    for name in _BY_DEPTH:
        if (array := getattr(trace, name)) is not None:
            found[name] = array[at].reshape(-1, trace.depth)
    if trace.signals is not None:
        by_name = trace.signals[at].reshape(-1, len(SIGNALS)).T
        found |= {f"signal_{name}": column for name, column in zip(SIGNALS, by_name, strict=True)}
    return found


def _array(arrow: Any, values: NDArray[Any], kind: Any) -> Any:
    if values.ndim == 1:
        return arrow.array(values, from_pandas=False).cast(kind)
    inner = arrow.array(np.ascontiguousarray(values).reshape(-1)).cast(kind.value_type)
    return arrow.FixedSizeListArray.from_arrays(inner, kind.list_size)
