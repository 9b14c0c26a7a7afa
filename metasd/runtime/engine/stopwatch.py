"""How long passes take: by the wall clock on a CPU, by a device's own events on CUDA, which the host does not wait for.

A round then meets the device once, where it reads what was decided.
"""

from __future__ import annotations

import time
from typing import Any

import torch

PENDING = 256
"""Intervals kept open before the first of them are read."""

Mark = Any
"""A point in the device's work: seconds of the wall clock, or an event of CUDA."""


class Stopwatch:
    """Marks points in what ``device`` is given to do, and adds up intervals between them."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        self._seconds = 0.0
        self._open: list[tuple[Mark, Mark]] = []

    def mark(self) -> Mark:
        """Now, on a CPU; on CUDA when all that was queued so far is done."""
        if not self._cuda:
            return time.perf_counter()
        with torch.cuda.device(self._device):
            cuda: Any = torch.cuda  # its events have no types
            event = cuda.Event(enable_timing=True)
            event.record()
        return event

    def between(self, first: Mark, last: Mark) -> float:
        """Seconds from ``first`` to ``last``; waits for it, which takes no time behind a read of its results."""
        if not self._cuda:
            return float(last - first)
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000

    def add(self, first: Mark) -> None:
        """Count the time from ``first`` until now."""
        self._open.append((first, self.mark()))
        if not self._cuda or len(self._open) > PENDING:
            self._close()

    @property
    def seconds(self) -> float:
        """All that was counted."""
        self._close()
        return self._seconds

    def _close(self) -> None:
        self._seconds += sum(self.between(*interval) for interval in self._open)
        self._open.clear()
