"""The Gymnasium spaces of a pool and an observation."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metasd.core.observation import ContextEncoder
from metasd.core.pool import Pool


def action_space(pool: Pool) -> spaces.Discrete:
    """One action an arm, in pool order."""
    return spaces.Discrete(len(pool))


def observation_space(encoder: ContextEncoder) -> spaces.Space[NDArray[np.float32]]:
    """A flat float32 box, finite and within [-1, 1]; entry i is ``encoder.labels[i]``."""
    box: Any = spaces.Box(encoder.low.astype(np.float32), np.ones(encoder.width, np.float32), dtype=np.float32)
    return cast(spaces.Space[NDArray[np.float32]], box)
