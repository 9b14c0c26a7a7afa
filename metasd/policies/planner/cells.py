"""The one-hot blocks that say what is known of a candidate: W cells, five of them set.

text: longest run of the text that it follows (0: none) x share there below a half, below one, one x whether it is the
newest; table: the same of the tables, of runs to 4; how many tables say so at that length; how deep; the how many-th
among its siblings.
"""

from __future__ import annotations

import numpy as np

from metasd.core.records import Floats

TEXT_ORDERS, TABLE_ORDERS = 8, 4
TEXT = 0
TABLE = TEXT + (TEXT_ORDERS + 1) * 6
AGREE = TABLE + (TABLE_ORDERS + 1) * 3
DEPTH = AGREE + 4
RANK = DEPTH + 4
W = RANK + 4
DEEPEST = 3
"""The last class of depths, and of ranks."""

COLD = 0.35
"""Weight of a token of longer run, before anything was learned."""
MIDDLE = 4
"""Length of run at which a candidate is as likely as not."""


def cold_weights() -> Floats:
    """[W] weights before anything was learned: the longer the run, the likelier."""
    weights = np.zeros(W)
    for order in range(TEXT_ORDERS + 1):
        weights[TEXT + 6 * order : TEXT + 6 * (order + 1)] = COLD * (order - MIDDLE)
    return weights


def share_class(share: float) -> int:
    """0 below a half, 1 below one, 2 for one."""
    return 0 if share < 0.5 else 1 if share < 1 else 2


def depth_class(depth: int) -> int:
    """0, 1, 2 for 2 and 3, 3 for more."""
    return depth if depth < 2 else 2 if depth < 4 else DEEPEST
