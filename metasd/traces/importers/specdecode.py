"""SpecDecode-Bench's simulator logs (arXiv 2601.11580): what each drafter would emit at every position, greedy.

A line holds ``id``, ``prompt_token_ids``, ``generated_token_ids`` and per drafter ``acc_len``: entry t is the number
of tokens a step emits (accepted + 1) with the prompt and t answer tokens as context; the answer's token t is the first
judged. That is a full counterfactual at temperature 0.

The lookup drafter of those logs is exactly known, so its proposals and signals are recomputed from the tokens. The
published column stays the truth: where the two differ the position is counted, and a request in which they differ
at more than one position and more than ``TOLERATED`` of all is taken to have been recorded on another text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Ints
from metasd.core.signals import F
from metasd.drafters.lookup import LookupDrafter
from metasd.traces import format as fmt
from metasd.traces.importers.lines import integers, named, parse, sources, value
from metasd.traces.trace import Trace

TOLERATED = 0.02
"""Share of a request's positions at which the recomputed lookup may differ from the published column."""

_UNKNOWN = -1
_ELSEWHERE = 0  # text hash of a column whose text is not known


@dataclass(slots=True)
class _Request:
    """One line. ``emitted``: the published columns, lookup first."""

    id: str
    domain: str
    prompt: Ints
    tokens: Ints
    emitted: list[Ints]

    def agreed(self, d: int) -> Ints:
        """[n] accepted length by column d, cut at the text's end; 0 where the column is too short."""
        n = len(self.tokens)
        column = self.emitted[d][:n] - 1
        return np.minimum(np.pad(column, (0, n - len(column))), n - np.arange(n))


def read(path: Path, draft_limit: int = 20) -> tuple[Trace, list[str]]:
    """The trace of the logs at ``path``, its domains named after the files, and warnings.

    Drafters: ``lookup``, ``eagle`` and, if on all lines, ``eagle3``; a request with a column of another length than its
    text is listed as unaligned. ``draft_limit`` is the longest draft of those runs; a longer one seen raises it.
    EAGLE's draft tokens are known only where the text agreed, and -1 elsewhere.
    Raises UsageError naming file and line.
    """
    if not 1 <= draft_limit <= 255:
        raise UsageError(f"draft_limit {draft_limit} is outside 1..255; those logs were drafted with 20")
    files = sources(path)
    requests = [r for file in files for r in _requests(file)]
    warnings = [f"{n} requests without text left out" for n in [sum(not len(r.tokens) for r in requests)] if n]
    requests = [r for r in requests if len(r.tokens)]
    if not requests:
        raise UsageError(f"{path}: no request with a text; give a log that has one")
    third = sum(len(r.emitted) == 3 for r in requests)
    if 0 < third < len(requests):
        warnings.append(f"acc_eagle_three left out: only {third} of {len(requests)} requests have it")
    D = 3 if third == len(requests) else 2
    limits = [max(draft_limit, *(int(r.agreed(d).max()) for r in requests)) for d in range(D)]
    if max(limits) > 255:
        raise UsageError(f"{path}: a draft of {max(limits)} tokens; a trace stores lengths up to 255")
    trace = _empty(requests, limits, named(files))
    differing = _fill(trace, requests, draft_limit)
    if differing:
        warnings.append(f"lookup recomputed differs from the published column at {differing} of {len(trace.tokens)}")
    unaligned = len(trace.manifest["unaligned"])
    if unaligned:
        warnings.append(f"{unaligned} of {len(trace)} requests unaligned: a column speaks of another text")
    return trace, warnings


def _requests(file: Path) -> list[_Request]:
    """The lines of one file; an id that comes twice gets the number of its line added."""
    seen: set[str] = set()
    requests = []
    for at, request in enumerate(parse(file, lambda data: _request(data, file.stem)), 1):
        if request.id in seen:
            request.id = f"{request.id}#{at}"
        seen.add(request.id)
        requests.append(request)
    return requests


def _request(data: dict[str, Any], domain: str) -> _Request:
    """One line's object. Raises ValueError saying what is wrong with it."""
    lookup = "acc_ngram" if "acc_ngram" in data else "acc"
    columns = [value(data, lookup, "acc_len"), value(data, "acc_eagle", "acc_len")]
    third = data.get("acc_eagle_three")
    if third is not None:
        columns.append(value(third, "acc_len") if isinstance(third, dict) else third)
    return _Request(
        id=f"{domain}/{value(data, 'id')}",
        domain=domain,
        prompt=integers(value(data, "prompt_token_ids"), "prompt_token_ids", 0),
        tokens=integers(value(data, "generated_token_ids"), "generated_token_ids", 0),
        emitted=[integers(c, "acc_len", 1) for c in columns],
    )


def _empty(requests: Sequence[_Request], limits: Sequence[int], files: list[dict[str, str]]) -> Trace:
    """The trace without its tables' contents."""
    lengths = np.array([len(r.tokens) for r in requests], np.int64)
    N, D, G = int(lengths.sum()), len(limits), max(limits)
    models = [DrafterInfo(name, "eagle", False, False) for name in ("eagle", "eagle3")]
    drafters = (_lookup(limits[0]).info, *models)[:D]
    pool = Pool(drafters, list(enumerate(limits)))
    config = {
        "target": "unknown",
        "format": "specdecode-bench",
        "files": files,
        "drafters": pool.to_json()["drafters"],
        "acceptance": "exact-match",
        "temperature": 0.0,
    }
    return Trace(
        drafters=drafters,
        draft_lengths=np.array(limits, np.int64),
        ids=[r.id for r in requests],
        domains=[r.domain for r in requests],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        ended=np.ones(len(requests), bool),
        prompt_lengths=np.array([len(r.prompt) for r in requests], np.int64),
        tokens=np.concatenate([r.tokens for r in requests]).astype(np.int32),
        proposed=np.empty((N, D), np.uint8),
        accepted=np.empty((N, D), np.uint8),
        draft_tokens=np.full((N, D, G), _UNKNOWN, np.int32),
        signals=np.full((N, D, F), np.nan, np.float16),
        prompt_tokens=np.concatenate([r.prompt for r in requests]).astype(np.int32),
        column_text=np.full((len(requests), D), _ELSEWHERE, np.int64),
        manifest={"config": config, "pool": pool.to_json(), "exact": True},
    )


def _lookup(limit: int) -> LookupDrafter:
    """The n-gram drafter of those logs."""
    return LookupDrafter(draft_length=limit, min_match=3, max_match=7, occurrence="earliest")


def _fill(trace: Trace, requests: Sequence[_Request], draft_limit: int) -> int:
    """Fill the tables; returns the positions at which the recomputed lookup differs from an aligned column."""
    assert trace.column_text is not None
    unaligned, total = [], 0
    drafter = _lookup(draft_limit)
    for p, request in enumerate(requests):
        at = slice(int(trace.offsets[p]), int(trace.offsets[p + 1]))
        n, text = len(request.tokens), fmt.text_hash(request.tokens)
        differing = _fill_lookup(trace, at, request, drafter)
        for d in range(1, len(trace.drafters)):
            trace.accepted[at, d] = request.agreed(d)
            trace.proposed[at, d] = trace.draft_lengths[d]
            _reveal(trace, at, d, np.ones(n, bool))
        fits = [len(c) == n for c in request.emitted[: len(trace.drafters)]]
        fits[0] &= differing <= max(1, TOLERATED * n)
        trace.column_text[p] = np.where(fits, text, _ELSEWHERE)
        if all(fits):
            total += differing
        else:
            unaligned.append(request.id)
    trace.manifest = {**trace.manifest, "unaligned": unaligned}
    return total


def _fill_lookup(trace: Trace, at: slice, request: _Request, drafter: LookupDrafter) -> int:
    """The lookup's columns, recomputed and checked; returns the number of positions that differ."""
    assert trace.signals is not None
    assert trace.draft_tokens is not None
    n, G = len(request.tokens), trace.depth
    chains = np.full((n, G), _UNKNOWN, np.int32)
    proposed = np.zeros(n, np.int64)
    drafter.begin(request.prompt.tolist())
    for t, token in enumerate(request.tokens.tolist()):
        look = drafter.look()
        trace.signals[at.start + t, 0] = look.signals
        if look.available:
            draft = drafter.draft(drafter.draft_length).tokens
            proposed[t] = len(draft)
            chains[t, : len(draft)] = draft
        drafter.extend([token])
    left = n - np.arange(n)
    agreed = _agreement(chains, proposed, request.tokens)
    published = request.agreed(0)
    # A draft that contains the text's end emits no token of the target's, and the logs write that as a plain step or
    # not: only what is emitted can be compared.
    differs = np.minimum(agreed + 1, left) != np.minimum(published + 1, left)
    trace.accepted[at, 0] = np.where(differs, published, agreed)
    trace.proposed[at, 0] = np.where(differs, np.maximum(proposed, published), proposed)
    trace.draft_tokens[at, 0] = chains
    _reveal(trace, at, 0, differs)
    return int(differs.sum())


def _agreement(chains: NDArray[Any], proposed: Ints, tokens: Ints) -> Ints:
    """[n] leading tokens of each chain that the text agrees with."""
    n = len(tokens)
    alive, agreed = np.ones(n, bool), np.zeros(n, np.int64)
    for depth in range(min(chains.shape[1], n)):
        follows = tokens[np.minimum(np.arange(n) + depth, n - 1)]
        alive &= (chains[:, depth] == follows) & (depth < proposed) & (np.arange(n) + depth < n)
        agreed += alive
    return agreed


def _reveal(trace: Trace, at: slice, d: int, rows: NDArray[np.bool_]) -> None:
    """Draft tokens of ``rows`` as far as the accepted length tells them: the text's own, then unknown."""
    assert trace.draft_tokens is not None
    tokens, n = trace.tokens[at], at.stop - at.start
    known = trace.accepted[at, d][rows]
    starts = np.flatnonzero(rows)
    depth = np.arange(trace.depth)
    follows = tokens[np.minimum(starts[:, None] + depth, n - 1)]
    chains = trace.draft_tokens[at, d]
    chains[starts] = np.where(depth < known[:, None], follows, _UNKNOWN)
