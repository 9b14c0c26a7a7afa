"""Sentences about a trace, whoever chooses among its drafters: nearly one, or dearer than what they save, and curves
that are of a part of its prompts."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.sim.compare.outcome import TraceOutcome
from metasd.sim.compare.sums import curve_prompts
from metasd.traces.alike import sentences


def notes(outcome: TraceOutcome, pairs: list[dict[str, Any]]) -> list[str]:
    """Those of a trace whose ``pairs`` of drafters are nearly one; what drafters cost is known where a clock is."""
    return [*sentences(pairs), *_dear(outcome), *_thinned(outcome)]


def _thinned(outcome: TraceOutcome) -> list[str]:
    """That curves are of some prompts only, where they are."""
    kept, every = len(curve_prompts(outcome.trace)), len(outcome.trace)
    return [f"regret curves are of {kept:,} of the {every:,} prompts, evenly spread"] if kept < every else []


def _dear(outcome: TraceOutcome) -> list[str]:
    """A sentence for each drafter whose every arm, played throughout, decodes slower than plain."""
    seconds, plain = outcome.fixed_seconds(), outcome.plain_seconds()
    if seconds is None or plain is None:
        return []
    pool, tokens, said = outcome.pool, float(outcome.trace.lengths.sum()), []
    for d, drafter in enumerate(pool.drafters):
        own = np.flatnonzero(~pool.plain & (pool.drafter_of == d))
        spent = seconds[:, own].sum(axis=0)
        if len(own) and spent.min() > plain.sum():
            said.append(
                f"{drafter.name} cost more than it saved: alone it makes {tokens / spent.min():.1f} tokens/s "
                f"at best, plain decoding {tokens / plain.sum():.1f}"
            )
    return said
