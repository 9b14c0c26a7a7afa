"""What captures a pass and replays it: CUDA's graphs, the only lines that need CUDA, and their stand-in that calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

T = TypeVar("T")
WARM = 2
"""Calls before a capture: libraries choose their kernels and allocate on the first."""


class Capturer(Protocol):
    """Makes of ``work``, which reads and writes the same tensors every time, what does it again and returns its result.

    A result is overwritten by the next replay of anything that was captured.
    """

    def capture(self, work: Callable[[], T]) -> Callable[[], T]: ...


class Called:
    """Replays by calling. It keeps what it is given alive, the model included."""

    def capture(self, work: Callable[[], T]) -> Callable[[], T]:
        return work


class CudaGraphs:
    """Captures on ``device``; all graphs share one pool of memory, since only one of them runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, work: Callable[[], T]) -> Callable[[], T]:
        cuda: Any = torch.cuda  # its streams and graphs have no types
        with cuda.device(self._device):
            side = cuda.Stream()
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):
                for _ in range(WARM):
                    work()
            cuda.current_stream().wait_stream(side)
            graph = cuda.CUDAGraph()
            with cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                made = work()
            cuda.synchronize(self._device)

        def replay() -> T:
            graph.replay()
            return made

        return replay
