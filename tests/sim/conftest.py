"""Small traces with every quirk of a recorded one, made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.core.pool import DrafterInfo
from metasd.core.signals import F
from metasd.traces.trace import Trace

KINDS = (("lookup", True, True), ("table", True, True), ("model", False, False))


def make(seed=0, *, lengths=(30, 1, 17, 9, 40), depth=4, kinds=KINDS, sampled=False, costs=True, ended=None):
    rng = np.random.default_rng(seed)
    D, N = len(kinds), sum(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    left = np.concatenate([np.arange(n, 0, -1) for n in lengths])
    free = np.array([k[1] for k in kinds])
    proposed = np.where(free, rng.integers(0, depth + 1, (N, D)), depth).astype(np.uint8)
    accepted = np.minimum(rng.integers(0, depth + 1, (N, D)), np.minimum(proposed, left[:, None])).astype(np.uint8)
    deep = (N, D, depth)
    one_hot = (np.arange(depth) < accepted[..., None]).astype(np.float16)
    deterministic = np.array([k[2] for k in kinds])
    accept = np.where(deterministic[:, None], one_hot, rng.random(deep).astype(np.float16)) if sampled else None
    if accept is not None:
        accept[np.arange(depth) >= np.minimum(proposed, left[:, None])[..., None]] = 0
    overlap = rng.random(deep).astype(np.float16)
    overlap[np.arange(depth) >= proposed[..., None]] = np.nan
    signals = rng.integers(0, 9, (N, D, F)).astype(np.float16)
    signals[:, ~free] = np.nan
    prompts = rng.integers(1, 12, len(lengths))
    model = CostModel(
        drafters=tuple(k[0] for k in kinds),
        widths=np.array([1.0, 2, 4, 8]),
        verify_seconds=np.array([1.0, 1.3, 1.1, 1.9]),
        draft_fixed=rng.random(D) * 0.1,
        draft_per_token=rng.random(D) * 0.2,
        catch_up_fixed=np.where(free, 0, 0.3),
        catch_up_per_token=np.where(free, 0, 0.05),
        context=10.0,
        verify_per_context=0.001,
        overhead=0.01,
    )
    return Trace(
        drafters=tuple(DrafterInfo(n, n, free=f, deterministic=d) for n, f, d in kinds),
        draft_lengths=np.full(D, depth, np.int64),
        ids=[f"p{i}" for i in range(len(lengths))],
        domains=["code" if i % 2 else "chat" for i in range(len(lengths))],
        offsets=offsets,
        ended=np.array([i % 3 != 2 for i in range(len(lengths))]) if ended is None else np.asarray(ended),
        prompt_lengths=prompts,
        tokens=rng.integers(0, 99, N),
        proposed=proposed,
        accepted=accepted,
        accept=accept,
        overlap=overlap,
        draft_tokens=rng.integers(0, 99, deep),
        signals=signals,
        prompt_tokens=rng.integers(0, 99, int(prompts.sum())),
        manifest={"config": {"max_new_tokens": max(lengths) + 7}},
        costs=model if costs else None,
    )


@pytest.fixture(scope="session")
def make_trace():
    return make
