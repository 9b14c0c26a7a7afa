"""The named vector a drafter can say *before* it drafts, from committed tokens alone.

Every drafter fills the entries it can and leaves NaN elsewhere. Values are rounded to float16, live as well as in a
trace, so that a policy sees the same numbers on both sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGNALS = (
    "match_length",  # tokens by which the text's end matches the source the proposal is copied from
    "proposal_length",  # tokens it could propose now, at most its own limit
    "share",  # share of the known occurrences of the matched tokens that continue with the proposed token
    "latest",  # 1 when the latest occurrence (other than the source, if there are several) agrees, else 0
    "depth",  # tokens for which the proposal and that occurrence agree
    "in_prompt",  # 1 when the source lies in the prompt, else 0
    "from_table",  # 1 when the first proposed token comes from an offline table, else 0
    "failures",  # times this source has been proposed at a committed position and its first token was wrong
    "run",  # committed positions in a row, up to now, at which its first proposed token was right
    "hit_fast",  # exponential average (rate 0.2) of its first token being right, over positions with a proposal
    "hit_slow",  # the same with rate 0.05; both start at 0.5
)
F = len(SIGNALS)
INDEX = {name: i for i, name in enumerate(SIGNALS)}


def rounded(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Signals as every consumer sees them: float32 numbers that float16 can hold."""
    return values.astype(np.float16).astype(np.float32)
