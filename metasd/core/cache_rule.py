"""The cache rule of a model drafter, stated once for live decoding, replay and clocks.

A cache is valid up to the longest prefix it shares with the committed text. So a drafter re-reads what others emitted
since it last drafted (the *catch-up*), and behind a round of its own it keeps its accepted draft tokens, but for the
last one it drafted, which was never fed back to it. Live, ``runtime.engine.cache`` finds the shared prefix by looking;
in replay these two lines foretell it. Works on numbers and on arrays alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def behind(length: Any, read: Any) -> Any:
    """Tokens to catch up before a draft: of ``length`` committed ones, all but the last, which it drafts from."""
    return np.maximum(length - 1 - read, 0)


def read_after(length: Any, drafted: Any, accepted: Any) -> Any:
    """Tokens its cache holds behind a round of its own that began at ``length`` committed ones; ``drafted`` >= 1."""
    return length + np.minimum(drafted - 1, accepted)
