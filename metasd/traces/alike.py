"""Drafters that are nearly one: how often two of a trace propose the same token."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from metasd.traces.trace import Trace

NEARLY_ONE = 0.95
"""Share of the positions where either proposes, from which two drafters are called nearly one."""
_ROWS = 200_000  # positions looked at, evenly spread over a longer trace


def alike(trace: Trace) -> list[dict[str, Any]]:
    """How often every two drafters propose the same first token; nothing where the trace holds no proposals.

    ``positions``: where both propose, ``same``: the share of those with one token, None where there are none;
    ``shared``: the positions with one token as a share of those where either proposes, None where nobody does.
    """
    if trace.draft_tokens is None:
        return []
    rows = slice(None, None, -(-len(trace.tokens) // _ROWS) or 1)
    first, has = np.asarray(trace.draft_tokens[rows, :, 0]), np.asarray(trace.proposed[rows]) > 0
    found = []
    for a, b in combinations(range(len(trace.drafters)), 2):
        both, either = has[:, a] & has[:, b], int((has[:, a] | has[:, b]).sum())
        positions, same = int(both.sum()), int((first[both, a] == first[both, b]).sum())
        shares = {"same": same / positions if positions else None, "shared": same / either if either else None}
        names = {"drafter": trace.drafters[a].name, "other": trace.drafters[b].name}
        found.append(names | {"positions": positions} | shares)
    return found


def nearly_one(trace: Trace) -> list[dict[str, Any]]:
    """The pairs of ``alike`` whose ``shared`` is ``NEARLY_ONE`` or more."""
    return [pair for pair in alike(trace) if (pair["shared"] or 0.0) >= NEARLY_ONE]


def sentences(pairs: list[dict[str, Any]]) -> list[str]:
    """One for each pair of ``nearly_one``."""
    return [
        f"{p['drafter']} and {p['other']} are nearly one drafter: the same first token at {p['shared']:.1%} of the "
        "positions where either proposes"
        for p in pairs
    ]
