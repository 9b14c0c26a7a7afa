"""Checks everything that a trace claims, and says what it is. Both read the whole trace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from metasd.core.costs import CostModel
from metasd.core.errors import TraceError
from metasd.core.records import NO_END, Ints, StopReason, settle
from metasd.traces import format as fmt
from metasd.traces import shard, texts
from metasd.traces.alike import alike
from metasd.traces.reader import Shard, TraceIndex, load_shard, read_index, read_trace
from metasd.traces.trace import Trace

_ROWS = 1 << 16  # rows checked at a time, to bound the scratch memory
_TOLERANCE = 1e-3  # float16 next to 1


def validate(path: str | Path) -> list[str]:
    """Check a trace in full and return the facts established, one line each.

    Checked: manifest, journal and their agreement; every shard's sha256, its columns' types and shapes (by the
    safetensors library too), the text each column was recorded on; accepted <= proposed <= draft length and within
    the text; that ``settle`` makes the recorded lengths out of themselves; accepted against the recorded draft
    tokens; accept and overlap within [0, 1]; costs; texts. Raises TraceError at the first that fails, naming the file.
    """
    index = read_index(Path(path))
    if not index.entries:
        raise TraceError(f"{path}: no prompt has been committed yet; resume the recording")
    _check_journal(index)
    stops: Counter[str] = Counter()
    prompts = rows = 0
    for entry in index.entries:
        loaded = load_shard(index, entry, verify=True)
        _check_library(loaded)
        stops.update(_check_shard(loaded, index))
        prompts, rows = prompts + len(loaded.ids), rows + int(entry["rows"])
    trace = read_trace(path, include_unaligned=True)
    state = "complete" if index.complete else "incomplete: a recording that can be resumed"
    D, named = len(index.drafters), ", ".join(f"{n} {name}" for name, n in sorted(stops.items()) if n)
    facts = [
        f"schema {fmt.SCHEMA}, {state}",
        f"{len(index.entries)} shards, {index.size} bytes, every sha256 as committed",
        f"{prompts} prompts, {rows} positions, {D} drafters, every text as hashed",
        f"{len(index.unaligned)} unaligned prompts, all others recorded on the text beside them",
        f"accepted <= proposed <= draft length at all {rows * D} starts",
    ]
    if not trace.sampled:  # a sampled draft's end is drawn by the replay
        facts.append(f"stop reasons at full draft length: {named}")
    bounded = [name for name in ("accept", "overlap", "confidence") if getattr(trace, name) is not None]
    if bounded:
        facts.append(f"{', '.join(bounded)} within [0, 1]")
    costs = index.path / fmt.COSTS
    if costs.exists():
        model = CostModel.load(costs)
        facts.append(f"costs of {len(model.drafters)} drafters")
    spelled = texts.read(trace)
    if spelled is not None:
        facts.append(f"texts of {len(spelled[1])} answers, by tokenizer {spelled[0]['name']}")
    return facts


def _check_journal(index: TraceIndex) -> None:
    """Manifest and journal must name the same shards."""
    journal = fmt.committed(index.path)
    told = [(e["shard"], e["sha256"], e["rows"]) for e in index.entries]
    if told != [(e["shard"], e["sha256"], e["rows"]) for e in journal]:
        raise TraceError(f"{index.path / fmt.JOURNAL}: names other shards than the manifest; restore it")
    names = [name for e in journal for name in e["prompts"]]
    if len(set(names)) != len(names):
        raise TraceError(f"{index.path / fmt.JOURNAL}: names a prompt twice; record again")


def _check_library(loaded: Shard) -> None:
    """The safetensors library must see the same arrays."""
    try:
        seen = _shapes(loaded.file)
    except (SafetensorError, OSError) as error:
        raise TraceError(f"{loaded.file}: safetensors refuses it ({error}); restore it or record again") from error
    if seen != {name: column.shape for name, column in loaded.tensors.items()}:
        raise TraceError(f"{loaded.file}: safetensors reads other arrays in it; restore it or record again")


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a shard, by the safetensors library; one that is not packed is not read whole."""
    if file.suffix == shard.PACKED:
        return {name: tuple(column.shape) for name, column in load(shard.content(file).tobytes()).items()}
    with safe_open(file, framework="numpy") as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - no mapping


def _check_shard(loaded: Shard, index: TraceIndex) -> Counter[str]:
    """The laws that a shard's rows must obey; counts the stop reasons."""
    columns, limits = loaded.tensors, np.asarray(index.draft_lengths)
    lengths = columns["lengths"]
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(lengths.sum())
    ended = np.repeat(columns["ended"] != 0, lengths)
    stops: Counter[str] = Counter()
    for low in range(0, len(left), _ROWS):
        at = slice(low, low + _ROWS)
        proposed, accepted = columns["proposed"][at].astype(np.int64), columns["accepted"][at].astype(np.int64)
        _require(loaded, "proposed <= draft length", proposed <= limits, low)
        _require(loaded, "accepted <= proposed", accepted <= proposed, low)
        _require(loaded, "accepted within the text", accepted <= left[at, None], low)
        _check_bounds(loaded, at, proposed, left[at])
        _check_chains(loaded, index, at, accepted)
        for d, limit in enumerate(index.draft_lengths):
            stops.update(_settled(loaded, proposed[:, d], accepted[:, d], limit, left[at], ended[at], low))
    return stops


def _check_bounds(loaded: Shard, at: slice, proposed: Ints, left: Ints) -> None:
    """Probabilities within [0, 1]: accept wherever a draft token can be judged, the others wherever not NaN."""
    for name in ("accept", "overlap", "confidence"):
        column = loaded.tensors.get(name)
        if column is None:
            continue
        values = column[at].astype(np.float32)
        inside = (values >= 0) & (values <= 1 + _TOLERANCE)
        if name == "accept":
            judged = np.arange(values.shape[2]) < np.minimum(proposed, left[:, None])[..., None]
            inside |= ~judged
        else:
            inside |= np.isnan(values)
        _require(loaded, f"{name} within [0, 1]", inside, at.start)
    for name in ("signals", "margin"):
        if name in loaded.tensors:
            _require(loaded, f"{name} finite or NaN", ~np.isinf(loaded.tensors[name][at]), at.start)


def _check_chains(loaded: Shard, index: TraceIndex, at: slice, accepted: Ints) -> None:
    """A fixed draft's accepted length is its agreement with the text, where its tokens are recorded."""
    chains = loaded.tensors.get("draft_tokens")
    if chains is None:
        return
    fixed = [d.deterministic or "accept" not in loaded.tensors for d in index.drafters]
    tokens, proposed = loaded.tensors["tokens"], loaded.tensors["proposed"][at]
    lengths = loaded.tensors["lengths"]
    ends = np.repeat(np.cumsum(lengths), lengths)[at]
    rows = np.arange(len(tokens))[at]
    alive = np.ones(accepted.shape, bool)
    agreed = np.zeros(accepted.shape, np.int64)
    for depth in range(chains.shape[2]):
        follows = tokens[np.minimum(rows + depth, len(tokens) - 1)]
        alive &= (chains[at, :, depth] == follows[:, None]) & (depth < proposed) & (rows + depth < ends)[:, None]
        agreed += alive
    aligned = np.array([name not in index.unaligned for name in loaded.ids])
    known = np.repeat(aligned, lengths)[at, None] & np.array(fixed)
    _require(loaded, "accepted is the agreement of draft and text", (agreed == accepted) | ~known, at.start)


def _settled(
    loaded: Shard, proposed: Ints, accepted: Ints, limit: int, left: Ints, ended: NDArray[np.bool_], low: int
) -> Counter[str]:
    """Settle every start as a round of its own; the lengths must come out as they went in."""
    rows = np.arange(len(left))
    rounds = settle(
        lane=rows,
        prompt=rows,
        arm=np.zeros_like(rows),
        draft_length=np.full_like(rows, limit),
        position=rows,
        remaining=np.where(ended, NO_END, left),
        proposed=proposed,
        agreed=accepted,
        ends_in=np.where(ended, left, NO_END),
        catch_up=np.zeros_like(rows),
    )
    whole = (rounds.accepted == np.minimum(accepted, rounds.drafted)) & (rounds.emitted <= left)
    _require(loaded, "settle keeps the recorded lengths", whole, low)
    counts = np.bincount(rounds.stop, minlength=len(StopReason))
    return Counter({reason.name.lower().replace("_", " "): int(counts[reason]) for reason in StopReason})


def _require(loaded: Shard, law: str, holds: NDArray[np.bool_], low: int) -> None:
    """``holds`` [n, ...] speaks of the shard's rows from ``low`` on."""
    if not holds.all():
        row = low + int(np.argwhere(~holds)[0][0])
        p = int(np.searchsorted(np.cumsum(loaded.tensors["lengths"]), row, side="right"))
        raise TraceError(f"{loaded.file}: {law} fails at row {row}, in prompt {loaded.ids[p]!r}; record again")


def describe(path: str | Path) -> dict[str, Any]:
    """What a trace holds, JSON-serialisable: its configuration, per drafter and per domain figures.

    Per drafter: ``coverage``, the share of starts with a proposal, and ``accepted``, the mean accepted length of those
    (expected, for a sampled trace). Unaligned prompts are counted but not averaged. ``alike``: see
    ``metasd.traces.alike``. Raises TraceError as the reader.
    """
    index = read_index(Path(path))
    trace = read_trace(path)
    domains: dict[str, dict[str, int]] = {}
    for domain, length in zip(trace.domains, trace.lengths, strict=True):
        row = domains.setdefault(domain, {"prompts": 0, "rows": 0})
        row["prompts"] += 1
        row["rows"] += int(length)
    return {
        "path": str(path),
        "schema": fmt.SCHEMA,
        "complete": index.complete,
        "exact": trace.exact,
        "config": index.manifest["config"],
        "versions": index.manifest.get("versions"),
        "shards": len(index.entries),
        "bytes": index.size,
        "prompts": len(trace),
        "rows": len(trace.tokens),
        "unaligned": len(index.unaligned),
        "fields": [name for name in fmt.OPTIONAL if getattr(trace, name) is not None],
        "costs": trace.costs is not None,
        "texts": texts.kept(trace),
        "arms": trace.pool().names,
        "drafters": [_drafter(trace, d) for d in range(len(trace.drafters))],
        "alike": alike(trace),
        "domains": domains,
    }


def _drafter(trace: Trace, d: int) -> dict[str, Any]:
    info = trace.drafters[d]
    has = trace.proposed[:, d] > 0
    total = 0.0
    for low in range(0, len(has), _ROWS):
        at = slice(low, low + _ROWS)
        if trace.accept is None:
            total += float(trace.accepted[at, d].sum(dtype=np.int64))
        else:
            inside = np.arange(trace.depth) < trace.proposed[at, d][:, None]
            chances = np.nan_to_num(trace.accept[at, d].astype(np.float64)) * inside
            total += float(np.cumprod(chances, axis=1).sum())
    count = int(has.sum())
    return {
        "name": info.name,
        "kind": info.kind,
        "free": info.free,
        "deterministic": info.deterministic,
        "draft_length": int(trace.draft_lengths[d]),
        "coverage": count / len(has),
        "accepted": total / count if count else None,
    }
