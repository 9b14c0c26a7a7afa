"""Opens a trace on disk. Refuses whatever is damaged, foreign or recorded on another text, naming the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.costs import CostModel
from metasd.core.errors import TraceError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.signals import SIGNALS, F
from metasd.traces import format as fmt
from metasd.traces import shard
from metasd.traces.rows import ROW_FIELDS, strings
from metasd.traces.select import take_prompts
from metasd.traces.trace import Trace

SMALL = 64 << 20
"""Bytes of shards up to which opening a trace always checks their sha256."""


@dataclass(frozen=True, slots=True)
class TraceIndex:
    """What a trace folder says of itself."""

    path: Path
    manifest: dict[str, Any]
    drafters: tuple[DrafterInfo, ...]
    draft_lengths: list[int]
    entries: list[dict[str, Any]]  # committed shards: shard, rows, bytes, sha256, prompts (a count)
    unaligned: frozenset[str]

    @property
    def complete(self) -> bool:
        return bool(self.manifest["complete"])

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(int(entry["bytes"]) for entry in self.entries)

    def file(self, entry: Mapping[str, Any]) -> Path:
        return self.path / fmt.SHARDS / str(entry["shard"])


@dataclass(slots=True)
class Shard:
    """One shard's arrays (views of its memory map), ids and domains."""

    file: Path
    tensors: dict[str, NDArray[Any]]
    ids: list[str]
    domains: list[str]


def read_trace(path: str | Path, verify: bool = False, include_unaligned: bool = False) -> Trace:
    """The trace in folder ``path``; a trace of one shard is memory-mapped, several shards are concatenated.

    Sizes, shapes and the text that each column was recorded on are always checked. The shards' sha256 and the text's
    hash, which need every byte read, are checked up to 64 MB of shards (``SMALL``), and above only with ``verify``.
    Prompts listed as unaligned (a column speaks of another text) are left out unless ``include_unaligned``.
    A recording that was killed opens with the prompts committed so far.

    Raises TraceError naming the shard or file.
    """
    index = read_index(Path(path))
    shards = [load_shard(index, entry, verify or index.size <= SMALL) for entry in index.entries]
    if not shards:
        raise TraceError(f"{path}: no prompt has been committed yet; resume the recording")
    trace = _assemble(index, shards)
    if index.unaligned and not include_unaligned:
        kept = np.flatnonzero([name not in index.unaligned for name in trace.ids])
        if not len(kept):
            raise TraceError(f"{path}: all {len(trace)} prompts are unaligned; include them to use it all the same")
        trace = take_prompts(trace, kept)
    return trace


def read_index(path: Path) -> TraceIndex:
    """Manifest and, for an incomplete recording, journal. Raises TraceError naming the file."""
    manifest = fmt.read_manifest(path)
    file = path / fmt.MANIFEST
    try:
        if manifest["signals"] != list(SIGNALS):
            raise TraceError(f"{file}: signals {manifest['signals']}; this version reads {list(SIGNALS)}")
        drafters = Pool.from_json(manifest["pool"]).drafters
        if manifest["complete"]:
            entries, unaligned = manifest["shards"], manifest["unaligned"]
        else:
            journal = fmt.committed(path)
            entries = [entry | {"prompts": len(entry["prompts"])} for entry in journal]
            unaligned = [name for entry in journal for name in entry["unaligned"]]
        return TraceIndex(path, manifest, drafters, manifest["draft_lengths"], entries, frozenset(unaligned))
    except (KeyError, TypeError) as error:
        raise TraceError(f"{file}: misses {error}; restore it or record again") from error


def load_shard(index: TraceIndex, entry: Mapping[str, Any], verify: bool) -> Shard:
    """One committed shard, checked. Raises TraceError naming its file."""
    file = index.file(entry)
    if not file.exists():
        raise TraceError(f"{file}: shard is missing; restore it or record again")
    if file.stat().st_size != entry["bytes"]:
        size = f"{file.stat().st_size} bytes, but {entry['bytes']} were committed"
        raise TraceError(f"{file}: {size}; restore it or record again")
    if verify and fmt.file_hash(file) != entry["sha256"]:
        raise TraceError(f"{file}: damaged (its sha256 differs); restore it or record again")
    tensors, metadata = shard.read(file)
    try:
        loaded = Shard(file, tensors, *strings(metadata))
    except (KeyError, ValueError) as error:
        raise TraceError(f"{file}: its metadata holds no ids ({error}); record again") from error
    _check_columns(loaded, entry, len(index.drafters), max(index.draft_lengths, default=0))
    _check_texts(loaded, index, verify)
    return loaded


def _check_columns(loaded: Shard, entry: Mapping[str, Any], D: int, G: int) -> None:
    """Every column there, of the right type and shape."""
    P = len(loaded.ids)
    axes = {"N": int(entry["rows"]), "P": P, "D": D, "G": G, "F": F}
    for name, (dtypes, letters) in fmt.COLUMNS.items():
        column = loaded.tensors.get(name)
        if column is None:
            if name in fmt.OPTIONAL:
                continue
            raise TraceError(f"{loaded.file}: column {name} is missing; record again")
        wanted = tuple(axes.get(letter, -1) for letter in letters)
        fits = len(wanted) == column.ndim and all(w in (-1, s) for w, s in zip(wanted, column.shape, strict=True))
        if column.dtype.name not in dtypes or not fits:
            raise TraceError(f"{loaded.file}: column {name} is {column.dtype} {column.shape}, not {dtypes} {wanted}")
    lengths = loaded.tensors["lengths"]
    if entry["prompts"] != P or lengths.sum() != entry["rows"] or np.any(lengths < 1) or len(loaded.domains) != P:
        raise TraceError(f"{loaded.file}: its prompts do not add up to {entry['rows']} rows; record again")
    kept = loaded.tensors.get("prompt_tokens")
    if kept is not None and len(kept) != loaded.tensors["prompt_lengths"].sum():
        raise TraceError(f"{loaded.file}: prompt_tokens do not match prompt_lengths; record again")


def _check_texts(loaded: Shard, index: TraceIndex, verify: bool) -> None:
    """Every drafter's column must have been recorded on the text beside it."""
    text, columns = loaded.tensors["text"], loaded.tensors["column_text"]
    for p, d in np.argwhere(columns != text[:, None]):
        if loaded.ids[p] not in index.unaligned:
            name = index.drafters[d].name
            raise TraceError(f"{loaded.file}: prompt {loaded.ids[p]!r}: {name} was recorded on another text")
    if not verify:
        return
    stops = np.cumsum(loaded.tensors["lengths"])
    for name, start, stop, wanted in zip(loaded.ids, [0, *stops[:-1]], stops, text, strict=True):
        if fmt.text_hash(loaded.tensors["tokens"][start:stop]) != wanted:
            raise TraceError(f"{loaded.file}: prompt {name!r}: its text is not the one it was recorded on")


def _assemble(index: TraceIndex, shards: Sequence[Shard]) -> Trace:
    """The shards as one trace."""
    names = set(shards[0].tensors)
    for part in shards:
        if set(part.tensors) != names:
            raise TraceError(f"{part.file}: columns {sorted(part.tensors)}, the first shard has {sorted(names)}")
    joined = {name: _join([part.tensors[name] for part in shards]) for name in names}
    lengths = joined["lengths"].astype(np.int64)
    costs = index.path / fmt.COSTS
    return Trace(
        drafters=index.drafters,
        draft_lengths=np.asarray(index.draft_lengths, np.int64),
        ids=[name for part in shards for name in part.ids],
        domains=[name for part in shards for name in part.domains],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        ended=joined["ended"] != 0,
        prompt_lengths=joined["prompt_lengths"].astype(np.int64),
        tokens=joined["tokens"],
        prompt_tokens=joined.get("prompt_tokens"),
        column_text=joined["column_text"],
        manifest=index.manifest | {"unaligned": sorted(index.unaligned)},
        costs=CostModel.load(costs) if costs.exists() else None,
        path=index.path,
        **{name: joined.get(name) for name in ROW_FIELDS},  # type: ignore[arg-type]
    )


def _join(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
