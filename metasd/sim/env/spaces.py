"""The Gymnasium spaces of a pool and an observation."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metasd.core.observation import Observer
from metasd.core.pool import Pool


def action_space(pool: Pool) -> spaces.Discrete:
    """One action an arm, in pool order."""
    return spaces.Discrete(len(pool))


def observation_space(observer: Observer) -> spaces.Space[NDArray[np.float32]]:
    """A flat float32 box, finite and within [-1, 1]; entry i is ``observer.labels[i]``."""
    box: Any = spaces.Box(observer.low.astype(np.float32), np.ones(observer.width, np.float32), dtype=np.float32)
    return cast(spaces.Space[NDArray[np.float32]], box)
