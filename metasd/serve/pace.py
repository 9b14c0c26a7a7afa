"""What a draft token costs now, and how long drafts may be, by the engine's own step times.

Seconds are a line in the tokens of a pass, for batches of about one size, by medians, so that a stalled step moves
nothing. A policy that weighs tokens against time is told what a draft token costs. For the others drafts are cut to the
length at which most tokens a second come out: goodput after Liu et al. 2024, "Optimizing Speculative Decoding for
Serving Large Language Models Using Goodput", the expected tokens of a step, from the rounds played, over its seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW = 64
"""Steps of a batch size that are remembered."""

LEAST = 8
"""Steps before seconds are believed."""

PROBE = 32
"""Every so many steps one is played with drafts of full length, and one with none, to see what they would be worth."""

RARELY = 32 * PROBE
"""Every so many steps a policy that knows the time is told that drafts are free: what they cost is seen anew."""

TRIES = 4
"""Steps, the first ones, in which it is told the same: a price that is guessed too high would stay a guess."""

BOUND = 8
"""Requests at once from which arithmetic, not reading weights, is taken to bind a pass before any was timed."""

FADE = 0.999
"""What a round counts for a round later."""

SURE = 0.1
"""Standard error of a draft token's price up to which a line is believed."""

KEPT = 0.7
"""What a line is still worth when the next one is drawn."""

TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds of a step: a start, what each token of the pass adds, and the standard error of that."""

    start: float
    slope: float
    error: float

    def price(self, requests: int) -> float:
        """What a draft token adds to a pass of one token each of ``requests``, by what each of these costs there."""
        return self._share(self.slope, requests)

    def doubt(self, requests: int) -> float:
        """The standard error of ``price``."""
        return self._share(self.error, requests)

    def _share(self, seconds: float, requests: int) -> float:
        return seconds * requests / max(self.start + self.slope * requests, TINY)


class Rate:
    """Tokens a second of the last steps of one kind: the mean of tokens over the median of seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    @property
    def count(self) -> int:
        return len(self._seen)

    def see(self, tokens: int, seconds: float) -> None:
        self._seen.append((tokens, seconds))

    def value(self) -> float:
        tokens, seconds = np.array(self._seen).T
        return float(tokens.mean() / max(float(np.median(seconds)), TINY))


class Pace:
    """See the module docstring. ``most``: draft tokens that the engine checks at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._steps = 0
        self._seen: dict[int, deque[tuple[int, float]]] = {}
        self._rates: dict[int, tuple[Rate, Rate]] = {}  # of steps without drafts, and with some
        self._lines: dict[int, tuple[int, Line]] = {}
        # By position: rounds that were allowed a draft token there, that had one, and that had it accepted.
        self._sums = np.zeros((3, most))

    def see(self, requests: int, checked: int, seconds: float, tokens: int) -> None:
        """A step took ``seconds``: ``requests`` decoded in it, all tokens of its pass together ``checked``, and their
        texts grew by ``tokens``."""
        size = _size(requests)
        self._seen.setdefault(size, deque(maxlen=WINDOW)).append((checked, seconds))
        self._rates.setdefault(size, (Rate(), Rate()))[checked > requests].see(tokens, seconds)

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
        allowed, drafted, accepted = self._sums
        tokens = 1 + np.concatenate(([0.0], np.cumsum(accepted / allowed)))
        checked = 1 + np.concatenate(([0.0], np.cumsum(drafted / allowed)))
        seconds = np.maximum(line.start + line.slope * requests * checked, TINY)
        return int(np.argmax(tokens / seconds))

    def price(self, requests: int) -> float:
        """What a draft token costs in the coming step, as a share of its request's round without drafts.

        Of a size of batch whose line is not sure, what the nearest sure one says; before any, nothing in
        ``TRIES`` steps and then ``BOUND``'s guess.
        """
        self._steps += 1
        self._line(requests)
        if self._steps <= TRIES or self._steps % RARELY == 0:
            return 0.0
        sure = [size for size, (_, line) in self._lines.items() if line.doubt(requests) <= SURE]
        if not sure:
            return requests / (requests + BOUND)
        return self._lines[min(sure, key=lambda size: abs(size - _size(requests)))][1].price(requests)

    def drafting(self, requests: int) -> bool:
        """Whether the coming step may have drafts, called behind ``price``: whether steps that had some gave more
        tokens a second than those without. A pass one token wider than it was can cost much more than the next token
        adds, which no price of a single draft tells."""
        bare, drafted = self._rates.get(_size(requests), (Rate(), Rate()))
        if self._steps <= TRIES or self._steps % RARELY == 0:
            return True
        if bare.count < LEAST:
            return self._steps % 2 == 0
        if drafted.count < LEAST:
            return True
        if drafted.value() >= bare.value():
            return self._steps % PROBE != PROBE // 2
        return self._steps % PROBE == 0

    def _line(self, requests: int) -> Line | None:
        """Seconds of a step. None: not known yet."""
        size = _size(requests)
        seen = self._seen.get(size)
        if seen is None or len(seen) < LEAST:
            return None
        due, line = self._lines.get(size, (0, None))
        if self._steps >= due:
            line = _fit(np.array(seen), line)
            if line is not None:
                self._lines[size] = (self._steps + PROBE // 2, line)
        return line


def _fit(seen: NDArray[np.float64], known: Line | None = None) -> Line | None:
    """The line through (tokens, seconds) [n, 2] of the median slope (Theil 1950, Sen 1968), which is never below 0.

    Slopes are averaged with the ``known`` one by what each is sure of; where all passes were equally wide, it stays.
    """
    tokens, seconds = seen[:, 0], seen[:, 1]
    one, other = np.triu_indices(len(seen), 1)
    across = tokens[other] - tokens[one]
    apart = across != 0
    if not apart.any():
        return known
    slope = max(float(np.median((seconds[other] - seconds[one])[apart] / across[apart])), 0.0)
    off = seconds - slope * tokens
    spread = 1.4826 * float(np.median(np.abs(off - np.median(off))))  # the standard deviation, if they are normal
    sure = 1.0 / max(spread / float(tokens.std() * len(seen) ** 0.5), TINY) ** 2
    if known is not None:
        before = KEPT / max(known.error, TINY) ** 2
        slope, sure = (sure * slope + before * known.slope) / (sure + before), sure + before
    return Line(float(np.median(seconds - slope * tokens)), slope, sure**-0.5)


def _size(requests: int) -> int:
    """Batches of 1, 2, 3-4, 5-8, ... requests are taken together."""
    return (requests - 1).bit_length()
