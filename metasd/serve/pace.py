"""How long drafts may be now: the length at which most tokens a second come out, by the engine's own step times.

Goodput after Liu et al. 2024, "Optimizing Speculative Decoding for Serving Large Language Models Using Goodput":
expected tokens of a step over its expected seconds. Both are measured here: tokens from the rounds played, seconds as a
line in the tokens of a pass, for batches of about one size, by medians, so that a stalled step moves nothing.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

WINDOW = 64
"""Steps of a batch size that are remembered."""

LEAST = 8
"""Steps before seconds are believed."""

PROBE = 32
"""Every so many steps one is played with drafts of full length, and one with none, to see what they would be worth."""

FADE = 0.999
"""What a round counts for a round later."""


class Pace:
    """See the module docstring. ``most``: draft tokens that the engine checks at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._steps = 0
        self._seen: dict[int, deque[tuple[int, float]]] = {}
        self._lines: dict[int, tuple[int, float, float]] = {}
        # By position: rounds that were allowed a draft token there, that had one, and that had it accepted.
        self._sums = np.zeros((3, most))

    def see(self, requests: int, checked: int, seconds: float) -> None:
        """A step took ``seconds``: ``requests`` decoded in it, all tokens of its pass together ``checked``."""
        self._seen.setdefault(_size(requests), deque(maxlen=WINDOW)).append((checked, seconds))

    def judge(self, caps: NDArray[np.int64], drafted: NDArray[np.int64], accepted: NDArray[np.int64]) -> None:
        """Rounds [n] came to an end, whose drafts might be of ``caps`` tokens."""
        ahead = np.arange(self._most)
        told = np.stack([(column[:, None] > ahead).sum(axis=0) for column in (caps, drafted, accepted)])
        self._sums = self._sums * FADE ** len(caps) + told

    def cap(self, requests: int) -> int:
        """Most draft tokens a request in the coming step."""
        self._steps += 1
        if self._steps % PROBE == 0:
            return self._most
        line = self._line(requests)
        if line is None or not self._sums[0].all():
            return 0 if self._steps % PROBE == PROBE // 2 else self._most
        if self._steps % PROBE == PROBE // 2:
            return 0
        start, slope = line
        allowed, drafted, accepted = self._sums
        tokens = 1 + np.concatenate(([0.0], np.cumsum(accepted / allowed)))
        checked = 1 + np.concatenate(([0.0], np.cumsum(drafted / allowed)))
        seconds = np.maximum(start + slope * requests * checked, 1e-9)
        return int(np.argmax(tokens / seconds))

    def _line(self, requests: int) -> tuple[float, float] | None:
        """Seconds of a step: a start, and what each token of the pass adds. None: not known yet."""
        size = _size(requests)
        seen = self._seen.get(size)
        if seen is None or len(seen) < LEAST:
            return None
        due, start, slope = self._lines.get(size, (0, 0.0, 0.0))
        if self._steps >= due:
            found = _fit(np.array(seen))
            if found is None:
                return None
            start, slope = found
            self._lines[size] = (self._steps + PROBE // 2, start, slope)
        return start, slope


def _fit(seen: NDArray[np.float64]) -> tuple[float, float] | None:
    """The line through (tokens, seconds) [n, 2] of the median slope (Theil 1950, Sen 1968), which is never below 0."""
    tokens, seconds = seen[:, 0], seen[:, 1]
    one, other = np.triu_indices(len(seen), 1)
    across = tokens[other] - tokens[one]
    apart = across != 0
    if not apart.any():
        return None
    slope = max(float(np.median((seconds[other] - seconds[one])[apart] / across[apart])), 0.0)
    return float(np.median(seconds - slope * tokens)), slope


def _size(requests: int) -> int:
    """Batches of 1, 2, 3-4, 5-8, ... requests are taken together."""
    return (requests - 1).bit_length()
