"""Counter-based random numbers: one independent stream per lane, drawn for all lanes at once.

A lane's stream is fixed by its key alone, so lane j of 4,096 draws what a run with that one lane would draw, and a
live run draws what its replay draws. numpy's generators cannot be vectorised over streams; this is the SplitMix64
finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators") applied to key and counter.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(s) for s in (30, 27, 31, 11))


def mix(x: Keys) -> Keys:
    """The SplitMix64 finaliser: a bijection of 64-bit integers with good avalanche."""
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


def key(seed: int, *parts: object) -> np.uint64:
    """A stable 64-bit key for (seed, parts); the same on every machine and in every process."""
    return _key(int(seed), tuple(map(str, parts)))


@lru_cache(maxsize=1 << 14)
def _key(seed: int, parts: tuple[str, ...]) -> np.uint64:
    """``key``, kept: replays meet the same texts again and again."""
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def judge_key(seed: int, *parts: object) -> np.uint64:
    """The key whose ``uniform_at(key, text position)`` judges drafts above temperature 0, live and in replay.

    Not ``key(seed, *parts)``: policies are given that one and draw their own choices from it, so sharing it would
    couple choice and acceptance, and would let a policy compute which draft tokens are about to be accepted.
    """
    return key(seed, *parts, "judge")


def uniform_at(keys: Keys, counters: NDArray[Any]) -> NDArray[np.float64]:
    """Uniforms in (0, 1) at ``counters`` of the streams ``keys`` (broadcast): a pure function of both."""
    bits = mix(mix(keys + _GOLDEN) + (counters.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return ((bits >> _S11).astype(np.float64) + 0.5) * 2.0**-53


class LaneNoise:
    """B streams with a position each. ``begin`` gives lanes a new key and rewinds them."""

    def __init__(self, lanes: int) -> None:
        self.keys: Keys = np.zeros(lanes, np.uint64)
        self.counters = np.zeros(lanes, np.uint64)

    def begin(self, lanes: NDArray[np.int64], keys: Keys) -> None:
        self.keys[lanes] = keys
        self.counters[lanes] = 0

    def uniform(self, n: int = 1) -> NDArray[np.float64]:
        """[B, n] uniforms; every lane advances by n."""
        at = self.counters[:, None] + np.arange(n, dtype=np.uint64)
        self.counters += np.uint64(n)
        return uniform_at(self.keys[:, None], at)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        return {"keys": self.keys.copy(), "counters": self.counters.copy()}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        self.keys[:] = state["keys"]
        self.counters[:] = state["counters"]
