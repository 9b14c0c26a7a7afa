"""How much trying models may cost where seconds count: not more than a small share of plain decoding, in all."""

from __future__ import annotations

import numpy as np

from metasd.core.records import Bools, Floats
from metasd.policies.frontier.belief import PoolLayout

LOSS = 0.03  # of the tokens that plain decoding would have made in the time
SLACK = 8.0  # tokens, to begin with


def affordable(layout: PoolLayout, allowed: Bools, asked: Floats, rate: Floats) -> Bools:
    """[B, K] ``allowed`` without drafts of models that, were none accepted, would put a lane too far behind plain.

    Conservative bandits (Wu et al. 2016, arXiv 1602.04282): what was gained may be spent, beyond it ``LOSS`` and
    ``SLACK``. A pool without a plain arm has nothing to fall back on and keeps all.

    Args: asked [B, K] expected seconds of a round of each arm, rate [B, 2] tokens emitted and seconds spent so far.
    """
    if not (layout.some_plain and len(layout.models)):
        return allowed
    plain = asked[:, layout.plain].min(axis=1, keepdims=True)
    ahead = rate[:, :1] + SLACK - (1.0 - LOSS) * rate[:, 1:] / plain
    behind = (1.0 - LOSS) * asked / plain - 1.0
    kept = allowed & (layout.free[layout.drafter_of] | layout.plain | (behind <= ahead))
    return np.where(kept.any(axis=1, keepdims=True), kept, allowed)
