"""One array of whole numbers and one of floats, lent out in blocks: what compiled kernels can hold many texts in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 1 << 10


class Arena:
    """See the module docstring. A block is named by where it begins; blocks do not move, though the arrays may."""

    def __init__(self) -> None:
        self.ints: NDArray[np.int32] = np.zeros(1 << 16, np.int32)
        self.floats: NDArray[np.float64] = np.zeros(1 << 12, np.float64)
        self._ends = [0, 0]
        self._free: dict[tuple[bool, int], list[int]] = {}

    def take(self, size: int, floats: bool = False) -> int:
        """A block of at least ``size`` numbers, whatever they are."""
        size = _rounded(size)
        free = self._free.get((floats, size))
        if free:
            return free.pop()
        base = self._ends[floats]
        self._ends[floats] = end = base + size
        if floats:
            self.floats = _wider(self.floats, end)
        else:
            self.ints = _wider(self.ints, end)
        return base

    def give(self, base: int, size: int, floats: bool = False) -> None:
        """Take a block back that was lent with ``size``."""
        self._free.setdefault((floats, _rounded(size)), []).append(base)


def _rounded(size: int) -> int:
    """Sizes in steps of a quarter of a power of two, so that blocks fit again."""
    step = max(LEAST, 1 << max((size - 1).bit_length() - 2, 0))
    return -(-size // step) * step


def _wider(numbers: NDArray[Any], end: int) -> NDArray[Any]:
    if end <= len(numbers):
        return numbers
    wider = np.zeros(max(2 * len(numbers), end), numbers.dtype)
    wider[: len(numbers)] = numbers
    return wider
