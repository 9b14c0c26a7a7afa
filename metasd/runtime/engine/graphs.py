"""Passes captured on static buffers: one for every width and capacity, kept for the texts to come.

A pass of a chain makes its mask and positions from where it begins; one of a tree reads both from buffers that are
written before it is replayed.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metasd.runtime.engine.capture import Capturer
from metasd.runtime.engine.fixed import Fixed, Shape
from metasd.runtime.engine.forward import Mask
from metasd.runtime.engine.masks import additive
from metasd.runtime.engine.support import Window

CAPACITY = 512
"""Rows of the smallest buffers; others have a power of two times as many."""
_installed: weakref.WeakKeyDictionary[Any, Graphs] = weakref.WeakKeyDictionary()

Layers = tuple[int, ...]
Made = tuple[Tensor, Mapping[int, Tensor]]
"""Of a pass: logits [1, w, V], and states by layer; overwritten by the next one."""
Work = Callable[["Frames", "Frame"], Made]
"""Makes the pass of a frame, as often as it is called."""


class Graphs:
    """What is captured for one model, by capacity and by the layers whose states are taken.

    Attributes:
        seconds: spent on capturing so far. count: passes captured so far.
    """

    def __init__(
        self,
        capturer: Capturer,
        shapes: Sequence[Shape],
        windows: Mapping[str, Window | None],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.capturer, self.shapes, self.windows = capturer, list(shapes), windows
        self.dtype, self.device = dtype, device
        self.seconds, self.count = 0.0, 0
        self._free: dict[tuple[Layers, int], list[Frames]] = {}

    @torch.inference_mode()
    def take(self, layers: Layers, rows: int) -> Frames:
        """Buffers for ``rows`` tokens that nobody uses, with no text in them."""
        capacity = CAPACITY
        while capacity < rows:
            capacity *= 2
        free = self._free.get((layers, capacity))
        return free.pop() if free else Frames(self, layers, capacity)

    def give(self, lease: list[Frames]) -> None:
        """Take back buffers whose text is over."""
        for frames in lease:
            frames.fixed.cache.reset()
            self._free.setdefault((frames.states, frames.fixed.capacity), []).append(frames)
        lease.clear()


class Frames:
    """Buffers of one capacity, and the passes captured on them."""

    def __init__(self, graphs: Graphs, states: Layers, capacity: int) -> None:
        self._graphs, self.states = graphs, states
        self.fixed = Fixed(graphs.shapes, capacity, graphs.dtype, graphs.device)
        self._start = torch.zeros(1, dtype=torch.int64, device=graphs.device)
        self._columns = torch.arange(capacity, device=graphs.device)
        self._frames: dict[tuple[int, bool], Frame] = {}

    def ready(self, work: Work, width: int, masked: bool) -> None:
        """Capture the pass of ``width`` behind the rows that count, unless that is done."""
        if (width, masked) in self._frames:
            return
        began, graphs = time.perf_counter(), self._graphs
        self._start.fill_(self.fixed.length)
        frame = Frame(graphs, width, self.fixed.capacity, masked)
        frame.replay = graphs.capturer.capture(lambda: work(self, frame))
        self._frames[width, masked] = frame
        graphs.seconds += time.perf_counter() - began
        graphs.count += 1

    def step(self, ids: Tensor, mask: Mask | None, positions: Tensor | None) -> Made:
        """The pass of ``ids`` [1, w], which must be ready, behind the rows that count."""
        width, start = ids.shape[1], self.fixed.length
        frame = self._frames[width, mask is not None]
        self._start.fill_(start)
        frame.ids.copy_(ids)
        if mask is not None and positions is not None:
            frame.write(mask, positions, start + width)
        made = frame.replay()
        self.fixed.grow(width)
        return made

    def places(self, width: int) -> Tensor:
        """[width] where the pass writes."""
        return self._start + self._columns[:width]

    def behind(self, places: Tensor) -> Mask:
        """The mask of a chain at ``places``."""
        seen, graphs = self._columns, self._graphs
        return additive(seen[None, :] <= places[:, None], places, seen, graphs.windows, graphs.dtype)


class Frame:
    """One captured pass: what it reads, and what replays it."""

    replay: Callable[[], Made]

    def __init__(self, graphs: Graphs, width: int, capacity: int, masked: bool) -> None:
        whole: dict[str, Any] = {"dtype": torch.int64, "device": graphs.device}
        self.width = width
        self.ids = torch.zeros(1, width, **whole)
        self.positions: Tensor | None = torch.zeros(1, width, **whole) if masked else None
        self.mask: Mask | None = None
        if masked:
            hidden = torch.zeros(width, capacity, dtype=torch.bool, device=graphs.device)
            hidden[:, 0] = True  # no row without a token to look at
            steps = torch.arange(capacity, device=graphs.device)
            self.mask = additive(hidden, steps[:width], steps, graphs.windows, graphs.dtype)

    def write(self, mask: Mask, positions: Tensor, shown: int) -> None:
        """Take ``mask`` over ``shown`` tokens, and positions."""
        assert self.mask is not None
        assert self.positions is not None
        self.positions.copy_(positions)
        for buffer, given in zip(each(self.mask), each(mask), strict=True):
            buffer[..., :shown] = given
            buffer[..., shown:] = torch.finfo(buffer.dtype).min


def each(mask: Mask) -> list[Tensor]:
    """By kind of layer, in a fixed order."""
    return [mask] if isinstance(mask, Tensor) else [mask[kind] for kind in sorted(mask)]


def install(model: Any, graphs: Graphs | None) -> None:
    """Engines of ``model`` made from now on use ``graphs``; None: none."""
    if graphs is None:
        _installed.pop(model, None)
    else:
        _installed[model] = graphs


def installed(model: Any) -> Graphs | None:
    """What is captured for ``model``; None where nothing is to be."""
    return _installed.get(model)


def spent() -> float:
    """Seconds of capturing so far, for all models that are there."""
    return sum(graphs.seconds for graphs in _installed.values())
