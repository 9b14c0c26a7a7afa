"""Writes a whole trace at once: what split, synth and the importers share. All or nothing, unlike a recording."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import files
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.traces import format as fmt
from metasd.traces import shard, texts
from metasd.traces.reader import read_trace
from metasd.traces.rows import ROW_FIELDS, metadata
from metasd.traces.select import halves, take_prompts
from metasd.traces.trace import Trace
from metasd.traces.writer import completed, final_manifest

_OWN = ("complete", "totals", "shards", "unaligned", "digest", "writer", "config_hash")
"""Manifest keys that speak of the files, not of what was recorded."""


def save_trace(trace: Trace, out: str | Path, *, packed: bool = False) -> Path:
    """Write ``trace`` into the new folder ``out`` as one shard, which opens as a memory map; ``packed``: compressed.

    Made under another name beside ``out`` and renamed when whole. Raises UsageError when ``out`` holds files,
    FileError when it cannot be written.
    """
    out = Path(out)
    refuse_used(out)
    with files.new_folder(out) as made:
        _write(trace, made, packed)
    return out


def refuse_used(out: Path) -> None:
    """Raises UsageError unless ``out`` is free: not there, or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty; give another --out")


def split(path: str | Path, seed: int, out_a: str | Path, out_b: str | Path) -> tuple[Path, Path]:
    """Halve the trace at ``path`` by prompt (see ``halves``) into two new traces, costs and alignment flags kept.

    Raises UsageError when there are fewer than two prompts or an output folder holds files.
    """
    for out in (out_a, out_b):
        refuse_used(Path(out))
    if Path(out_a).resolve() == Path(out_b).resolve():
        raise UsageError(f"both halves would go to {out_a}; give two folders")
    trace = read_trace(path, include_unaligned=True)
    for number, (out, rows) in enumerate(zip((out_a, out_b), halves(trace, seed), strict=True)):
        part = take_prompts(trace, rows)
        part.manifest = {**part.manifest, "split": {"seed": seed, "half": "ab"[number], "of": len(trace)}}
        save_trace(part, out)
    return Path(out_a), Path(out_b)


def _write(trace: Trace, made: Path, packed: bool) -> None:
    name = fmt.shard_name(0) + shard.PACKED * packed
    sha256, size = shard.write(made / fmt.SHARDS / name, _tensors(trace), metadata(trace.ids, trace.domains))
    present = [n for n in fmt.OPTIONAL if getattr(trace, n) is not None]
    entry = {
        "shard": name,
        "rows": len(trace.tokens),
        "prompts": list(trace.ids),
        "unaligned": list(trace.manifest.get("unaligned", ())),
        "fields": present,
        "bytes": size,
        "sha256": sha256,
    }
    files.write_bytes(made / fmt.JOURNAL, fmt.journal_line(entry))
    if trace.costs is not None:
        trace.costs.save(made / fmt.COSTS)
    texts.copy(trace, made)
    fmt.write_json(made / fmt.MANIFEST, final_manifest(completed(_described(trace)), [entry]))


def _described(trace: Trace) -> dict[str, Any]:
    """The manifest's part that speaks of what was recorded, filled up from the trace itself."""
    kept = {k: v for k, v in trace.manifest.items() if k not in _OWN}
    kept.setdefault("config", {})
    kept.setdefault("pool", Pool(trace.drafters, [(d, int(n)) for d, n in enumerate(trace.draft_lengths)]).to_json())
    kept["draft_lengths"] = trace.draft_lengths
    kept["token_dtype"] = _stored(trace.tokens, "tokens").dtype.name
    return kept


def _tensors(trace: Trace) -> dict[str, NDArray[Any]]:
    """The shard's arrays, cast only where memory differs from the format."""
    stops = trace.offsets
    texts = [fmt.text_hash(trace.tokens[a:b]) for a, b in pairwise(stops)]
    text = np.array(texts, np.int64)
    columns = trace.column_text
    if columns is None:
        columns = np.repeat(text[:, None], len(trace.drafters), axis=1)
    tensors: dict[str, NDArray[Any]] = {
        "lengths": trace.lengths.astype(np.int64),
        "ended": trace.ended.astype(np.uint8),
        "prompt_lengths": trace.prompt_lengths.astype(np.int64),
        "text": text,
        "column_text": columns,
    }
    for name in ("tokens", "prompt_tokens", *ROW_FIELDS):
        column = getattr(trace, name)
        if column is not None:
            tensors[name] = _stored(column, name)
    return tensors


def _stored(column: NDArray[Any], name: str) -> NDArray[Any]:
    """``column`` in a dtype the format allows for it."""
    dtypes = fmt.COLUMNS[name][0]
    return column if column.dtype.name in dtypes else column.astype(dtypes[0])
