"""From a trace to a policy's prior: what ``metasd fit`` does.

Knows traces and which policies can be fitted; the learning itself is the policy's
(``metasd.policies.frontier.rollout``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.noise import key, uniform_at
from metasd.core.records import Ints
from metasd.core.signals import F
from metasd.policies import POLICIES, resolve
from metasd.policies.frontier.rollout import Counterfactuals
from metasd.traces.trace import Trace

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 32)
"""Draft lengths that a prior is fitted at, beside the longest recorded one of each drafter."""


def fit(traces: Trace | Sequence[Trace], policy_name: str) -> dict[str, Any]:
    """The prior that ``policy_name`` learns from one trace or several together, JSON-serialisable, for ``set_prior``.

    Raises UsageError for an unknown policy, one that learns nothing offline, a trace without counterfactuals, or
    traces of different drafters.
    """
    given = [traces] if isinstance(traces, Trace) else list(traces)
    cls, name, _ = resolve(policy_name)
    learn = getattr(cls, "fit", None)
    if learn is None:
        able = ", ".join(n for n, p in POLICIES.items() if hasattr(p, "fit"))
        raise UsageError(f"policy {name!r} learns no prior; metasd fit can train {able}")
    prior: dict[str, Any] = learn(together([counterfactuals(trace) for trace in given]))
    targets = {str(trace.manifest["target"]): trace.manifest["target"] for trace in given if "target" in trace.manifest}
    return prior | {"target": next(iter(targets.values()))} if len(targets) == 1 else prior


def together(parts: Sequence[Counterfactuals]) -> Counterfactuals:
    """The texts of all ``parts``. Raises UsageError unless all speak of the same drafters, in the same order."""
    first = parts[0]
    if len(parts) == 1:
        return first
    names = [[(d.name, d.kind) for d in part.drafters] for part in parts]
    for other in names[1:]:
        if other != names[0]:
            told = ", ".join(name for name, _ in other)
            raise UsageError(f"traces of different drafters ({told}); fit them one by one")
    starts = np.cumsum([0, *(part.offsets[-1] for part in parts)])
    offsets = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
    columns = ("proposed", "accepted", "signals", "tail", "proposal")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    lengths = [sorted({n for part in parts for n in part.draft_lengths[d]}) for d in range(len(first.drafters))]
    return Counterfactuals(
        drafters=first.drafters,
        draft_lengths=lengths,
        offsets=np.concatenate([[0], *offsets]).astype(np.int64),
        **joined,
    )


def counterfactuals(trace: Trace) -> Counterfactuals:
    """The arrays of ``trace`` that learning needs. Raises UsageError for an inexact or an empty trace."""
    if not trace.exact:
        raise UsageError("this trace holds visited positions only, no counterfactuals; fit from a recorded trace")
    if not len(trace) or not len(trace.drafters) or not trace.offsets[-1]:
        raise UsageError("this trace holds no rounds to learn from; record some texts first")
    shape = trace.proposed.shape
    signals = np.full((*shape, F), np.nan, np.float32) if trace.signals is None else trace.signals
    return Counterfactuals(
        drafters=trace.drafters,
        draft_lengths=[[*(n for n in LENGTHS if n < g), int(g)] for g in trace.draft_lengths],
        offsets=np.asarray(trace.offsets, np.int64),
        proposed=np.asarray(trace.proposed, np.int64),
        accepted=accepted_lengths(trace),
        signals=np.asarray(signals, np.float32),
        tail=_tails(trace),
        proposal=_first_tokens(trace),
    )


def accepted_lengths(trace: Trace) -> Ints:
    """[N, D] accepted lengths; above temperature 0 one draw of them, the same for the same trace."""
    if trace.accept is None:
        return np.asarray(trace.accepted, np.int64)
    N, D, G = trace.accept.shape
    drawn = np.zeros((N, D), np.int64)
    for d in range(D):
        counter = np.arange(N * G, dtype=np.uint64).reshape(N, G)
        bits = uniform_at(np.array(key(0, "fit", d)), counter) < np.asarray(trace.accept[:, d], np.float64)
        within = bits & (np.arange(G) < np.asarray(trace.proposed[:, d])[:, None])
        drawn[:, d] = np.cumprod(within, axis=1).sum(axis=1)
    return drawn


def _tails(trace: Trace) -> Ints:
    """[N, 2] the last two tokens before each start, newest last, prompts included; -1 where there is none."""
    tail = np.full((int(trace.offsets[-1]), 2), -1, np.int64)
    ends = np.cumsum(trace.prompt_lengths)
    for p, (begin, end) in enumerate(zip(trace.offsets[:-1], trace.offsets[1:], strict=True)):
        before = _prompt_end(trace, int(ends[p]), int(trace.prompt_lengths[p]))
        text = np.concatenate([before, np.asarray(trace.tokens[begin:end], np.int64)])
        tail[begin:end, 0], tail[begin:end, 1] = text[: end - begin], text[1 : end - begin + 1]
    return tail


def _prompt_end(trace: Trace, end: int, length: int) -> Ints:
    before = np.full(2, -1, np.int64)
    n = min(2, length)
    if n and trace.prompt_tokens is not None:
        before[2 - n :] = trace.prompt_tokens[end - n : end]
    return before


def _first_tokens(trace: Trace) -> Ints:
    """[N, D] the first token each free drafter proposes at each start; -1 where it has none or it was not kept."""
    shape = trace.proposed.shape
    first = np.full(shape, -1, np.int64)
    if trace.draft_tokens is None:
        return first
    free: NDArray[np.bool_] = np.array([d.free for d in trace.drafters])
    offered = np.asarray(trace.proposed) > 0
    return np.where(offered & free, np.asarray(trace.draft_tokens[:, :, 0], np.int64), first)
