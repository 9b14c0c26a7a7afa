"""Some prompts or drafters of a trace as a trace of its own, and halves by prompt. Knows arrays, not files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import Ints
from metasd.traces.rows import DEPTH_FIELDS, DRAFTER_FIELDS, ROW_FIELDS
from metasd.traces.trace import Trace


def take_prompts(trace: Trace, indices: Sequence[int] | NDArray[Any]) -> Trace:
    """The prompts at ``indices`` (integers, or a [P] mask), in that order.

    Prompts in a row are taken as views of the arrays, others are copied. Raises UsageError for none, or an index
    outside the trace.
    """
    picked = np.asarray(indices)
    picked = np.flatnonzero(picked) if picked.dtype == bool else picked.astype(np.int64)
    if not len(picked) or picked.min() < 0 or picked.max() >= len(trace):
        raise UsageError(f"prompts {picked.tolist()[:5]} are outside 0..{len(trace) - 1}; take at least one of those")
    names = [int(p) for p in picked]
    ids = [trace.ids[p] for p in names]
    starts = np.concatenate([[0], np.cumsum(trace.prompt_lengths)])
    rows = {name: _gather(getattr(trace, name), trace.offsets, picked) for name in ("tokens", *ROW_FIELDS)}
    listed = set(trace.manifest.get("unaligned", ()))
    return replace(
        trace,
        ids=ids,
        domains=[trace.domains[p] for p in names],
        offsets=np.concatenate([[0], np.cumsum(trace.lengths[picked])]).astype(np.int64),
        ended=trace.ended[picked],
        prompt_lengths=trace.prompt_lengths[picked],
        prompt_tokens=_gather(trace.prompt_tokens, starts, picked),
        column_text=None if trace.column_text is None else trace.column_text[picked],
        manifest={**trace.manifest, "unaligned": [name for name in ids if name in listed]},
        **rows,
    )


def take_drafters(trace: Trace, drafters: Sequence[int]) -> Trace:
    """``trace`` with the columns, in that order, and arms of ``drafters`` (indices). Raises UsageError without any.

    Costs stay whole: they go by name, and the target's are everybody's.
    """
    if not len(drafters):
        raise UsageError("a trace needs at least one drafter")
    new = {-1: -1} | {d: i for i, d in enumerate(drafters)}
    arms = [(new[a.drafter], a.draft_length) for a in trace.pool().arms if a.drafter in new]
    pool, lengths = Pool([trace.drafters[d] for d in drafters], arms), np.asarray(trace.draft_lengths)[drafters]
    columns: dict[str, Any] = {}
    for name in (*DRAFTER_FIELDS, "column_text"):
        column = getattr(trace, name)
        if column is not None:
            own = column[:, drafters]
            columns[name] = np.ascontiguousarray(own[..., : lengths.max()] if name in DEPTH_FIELDS else own)
    kept = {k: v for k, v in trace.manifest.items() if k not in ("pool", "draft_lengths")}
    return replace(
        trace,
        drafters=pool.drafters,
        draft_lengths=lengths,
        manifest=kept | {"pool": pool.to_json()},
        **columns,
    )


def halves(trace: Trace, seed: int) -> tuple[Ints, Ints]:
    """Two disjoint sets of prompts, drawn at random within each domain; sizes differ by at most one in each.

    Odd domains give their extra prompt to the smaller half, so the halves differ by at most one as well.
    Raises UsageError for a trace of fewer than two prompts.
    """
    if len(trace) < 2:
        raise UsageError(f"a trace of {len(trace)} prompt cannot be split; it needs at least two")
    rng = np.random.default_rng(seed)
    domains = np.asarray(trace.domains, object)
    sides: tuple[list[int], list[int]] = ([], [])
    for domain in sorted(set(trace.domains)):
        prompts = rng.permutation(np.flatnonzero(domains == domain))
        smaller = int(len(sides[0]) > len(sides[1]))
        sides[smaller].extend(prompts[0::2].tolist())
        sides[1 - smaller].extend(prompts[1::2].tolist())
    return np.sort(np.array(sides[0], np.int64)), np.sort(np.array(sides[1], np.int64))


def _gather(column: NDArray[Any] | None, offsets: Ints, picked: Ints) -> Any:
    """The rows of the ``picked`` prompts; a view where they lie in a row."""
    if column is None:
        return None
    if np.array_equal(picked, np.arange(picked[0], picked[0] + len(picked))):
        return column[offsets[picked[0]] : offsets[picked[-1] + 1]]
    return np.concatenate([column[offsets[p] : offsets[p + 1]] for p in picked])
