"""A trace small enough to work out every reported number on paper, and those numbers for one policy.

Text (tokens, prompt)   copy: proposed / accepted            small: proposed 2 everywhere / accepted
a     (7, 4)  code      2 2 2 0 2 2 2 / 2 0 0 0 1 1 0        0 0 0 1 0 0 0
b     (4, 2)  chat      2 2 2 2       / 0 0 0 0              2 0 1 1
c     (3, 3)  code      2 2 2         / 0 0 0                1 1 0

A pass takes 1 s for one token, 1.25 for two, 1.5 for three; small drafts 2 tokens in 0.5 s and re-reads a token in
1/16 s, so a round with copy takes 1.5 s (1 without a proposal), one with small 2 s and its catch-up.

Rounds (and seconds) of copy throughout: a 0-3-4-6, 4 (5.5); b 4 (6); c 3 (4.5). Of small: a 0-1-2-3-5-6, 6 (12 + 3/16);
b 0-3, 2 (4 + 2/16); c 0-2, 2 (4 + 2/16). Of plain: a 7 (7); b 4 (4); c 3 (3). The fewest: a 0-3-5, 3; b 2; c 2. The
fewest seconds: a copy, plain, copy, plain, 5; b small (1 behind), plain, 3.0625; c plain, 3.

``POLICY`` tries all three and keeps the best, the first of equals: a copy, small (6 behind), plain, copy, ends after 4
(6.375); b copy, small (2 behind), plain, copy, 4 (6.125); c copy, small (3 behind), 2 (3.6875).
"""

from __future__ import annotations

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.pool import DrafterInfo
from metasd.traces.trace import Trace

POLICY = "explore-then-commit:pulls=1,reward=block_efficiency"

ROW = {
    "prompts": 3,
    "rounds": 10,
    "drafted": 6 + 6 + 4,
    "accepted": 4,
    "emitted": 14,
    "acceptance": 4 / 16,
    "tokens_per_round": 14 / 10,
    "seconds": 6.375 + 6.125 + 3.6875,
    "draft_seconds": 3 * 0.5,
    "verify_seconds": 8 * 1.5 + 2,
    "catch_up_seconds": 11 / 16,
    "tokens_per_second": 14 / 16.1875,
    "speedup": 14 / 16.1875,
    "switches": 3 + 3 + 1,
    "catch_up": 6 + 2 + 3,
    "regret_rounds": (4 - 4) + (4 - 2) + (2 - 2),
    "oracle_rounds": 3 + 2 + 2,
}
"""The total row of ``POLICY``, in replay and in a comparison."""

ARMS = {"copy@2": 2 + 2 + 1, "small@2": 3, "plain": 2}


def hand_trace() -> Trace:
    copy = [[2, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0]]
    small = [[0, 0, 0, 1, 0, 0, 0], [2, 0, 1, 1], [1, 1, 0]]
    accepted = np.stack([np.concatenate(copy), np.concatenate(small)], axis=1).astype(np.uint8)
    proposed = np.full_like(accepted, 2)
    proposed[3, 0] = 0
    flat = np.zeros(2)
    return Trace(
        drafters=(
            DrafterInfo("copy", "lookup", free=True, deterministic=True),
            DrafterInfo("small", "model", free=False, deterministic=True),
        ),
        draft_lengths=np.array([2, 2]),
        ids=["a", "b", "c"],
        domains=["code", "chat", "code"],
        offsets=np.array([0, 7, 11, 14]),
        ended=np.ones(3, bool),
        prompt_lengths=np.array([4, 2, 3]),
        tokens=np.arange(14),
        proposed=proposed,
        accepted=accepted,
        manifest={"config": {"max_new_tokens": 50}},
        costs=CostModel(
            drafters=("copy", "small"),
            widths=np.array([1.0, 2.0, 3.0]),
            verify_seconds=np.array([1.0, 1.25, 1.5]),
            draft_fixed=np.array([0.0, 0.25]),
            draft_per_token=np.array([0.0, 0.125]),
            catch_up_fixed=flat,
            catch_up_per_token=np.array([0.0, 1 / 16]),
        ),
    )
