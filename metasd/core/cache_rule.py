"""The cache rules of drafters that are models, stated once for live decoding, replay and clocks.

PREFIX, a causal model: its cache is valid up to the longest prefix it shares with the committed text. So a drafter
re-reads what others emitted since it last drafted (the *catch-up*), and behind a round of its own it keeps its accepted
draft tokens, but for the last one it drafted, which was never fed back to it. Live, ``runtime.engine.cache`` finds the
shared prefix by looking; in replay these lines foretell it.

COMMITTED, a head: it reads the target's states beside the tokens, and has those of committed tokens only. What it
drafted it read with states of its own, so all of that is dropped after the round, accepted or not, and is read again.

Works on numbers and on arrays alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PREFIX, COMMITTED = "prefix", "committed"
RULES = (PREFIX, COMMITTED)


def behind(length: Any, read: Any) -> Any:
    """Tokens to catch up before a draft: of ``length`` committed ones, all but the last, which it drafts from."""
    return np.maximum(length - 1 - read, 0)


def read_after(length: Any, drafted: Any, accepted: Any, committed: Any) -> Any:
    """Tokens its cache holds behind a round of its own that began at ``length`` committed ones; ``drafted`` >= 1.

    committed: whether its rule is COMMITTED.
    """
    return np.where(committed, length - 1, length + np.minimum(drafted - 1, accepted))
