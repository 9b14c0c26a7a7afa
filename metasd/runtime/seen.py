"""What a policy may look at before a round, of all lanes: gathered from the texts under way, and nothing else.

Lanes without a text show zeros: whatever is chosen for them is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.pool import Pool
from metasd.core.records import Context, Ints
from metasd.runtime.clock import LiveClock
from metasd.runtime.lane import Lane


def seen(made: Context, lanes: Mapping[int, Lane], pool: Pool, reads: frozenset[str]) -> None:
    """Fill in all of ``made`` that needs no clock. ``lanes``: those with a text, one at least, by number."""
    some = next(iter(lanes.values()))

    def rows(said: Callable[[Lane], NDArray[Any]]) -> NDArray[Any]:
        if len(made.position) == 1:
            return said(some)[None]
        told = {number: said(lane) for number, lane in lanes.items()}
        blank = np.zeros_like(next(iter(told.values())))
        return np.stack([told.get(number, blank) for number in range(len(made.position))])

    if pool.drafters:
        made.available = pool.plain | rows(Lane.available)[:, pool.drafter_of]
    made.signals = rows(Lane.signals) if "signals" in reads else None
    made.lag = rows(Lane.lags) if "lag" in reads or "cost" in reads else None
    made.tail = rows(Lane.tail) if "tail" in reads else None
    made.proposal = rows(Lane.first_tokens) if "proposal" in reads else None


def priced(made: Context, context: Ints, clock: LiveClock, reads: frozenset[str]) -> None:
    """Fill in what ``clock`` says; context: [B] tokens of prompt and answer."""
    if "cost" in reads:
        assert made.lag is not None
        made.cost = clock.expected(made.remaining, context, made.lag)
        made.lag = made.lag if "lag" in reads else None
    made.pays = clock.pays(context) if "pays" in reads else None
