"""Calls of a model by captured passes, and the cache they read: what ``Forward`` and its cache are to other engines.

Prompts, very wide passes and several texts at once are not captured; the first two run on the same buffers. A text that
outgrows these moves into larger ones.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from metasd.runtime.engine.features import Tap
from metasd.runtime.engine.forward import Forward, Mask
from metasd.runtime.engine.graphs import Frame, Frames, Graphs, Layers, Made, each, installed
from metasd.runtime.engine.support import croppable_cache

WIDEST = 65
"""Tokens of the widest pass that is captured."""
_log = logging.getLogger("metasd.engine")


class FixedCache:
    """What ``Engine`` holds of a text: fixed buffers, once it has something to say, or another cache for several texts.

    Buffers go back when this is let go.
    """

    def __init__(self, graphs: Graphs, layers: Layers) -> None:
        self._graphs, self._layers = graphs, layers
        self._lease: list[Frames] = []
        self.several: Any = None
        weakref.finalize(self, graphs.give, self._lease).atexit = False

    @property
    def layers(self) -> list[Any]:
        if self.several is not None:
            return list(self.several.layers)
        return list(self._lease[0].fixed.layers) if self._lease else []

    def get_seq_length(self) -> int:
        return int(self.layers[0].get_seq_length()) if self.layers else 0

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` rows."""
        for layer in self.layers:
            layer.crop(tokens_to_remove)

    def move(self, to: int, at: Tensor) -> bool:
        """Move rows; whether they lie in fixed buffers."""
        if self.several is None:
            self._lease[0].fixed.move(to, at.to(self._graphs.device))
        return self.several is None

    def batch_select_indices(self, indices: Tensor) -> None:
        for layer in self.layers:
            layer.batch_select_indices(indices)

    def frames(self, rows: int) -> Frames:
        """Buffers with room for ``rows`` tokens, where the text now lies."""
        if not self._lease:
            self._lease.append(self._graphs.take(self._layers, rows))
        elif rows > self._lease[0].fixed.capacity:
            larger = self._graphs.take(self._layers, rows)
            larger.fixed.take(self._lease[0].fixed)
            self._graphs.give(self._lease)
            self._lease.append(larger)
        return self._lease[0]


class GraphForward(Forward):
    """As ``Forward``, with captured passes where one text is read by a few tokens."""

    def __init__(self, model: Any, tap: Tap | None, graphs: Graphs) -> None:
        super().__init__(model, tap)
        self._graphs, self._layers = graphs, () if tap is None else tap.layers
        self._room = 0

    def cache(self) -> FixedCache:
        return FixedCache(self._graphs, self._layers)

    @torch.inference_mode()
    def ready(self, ids: Tensor, cache: FixedCache, mask: Mask | None, positions: Tensor | None) -> None:
        if ids.shape[0] > 1 and cache.several is None:
            cache.several = croppable_cache(self.model)
        if cache.several is not None:
            return
        width = ids.shape[1]
        frames = cache.frames(max(cache.get_seq_length() + width, self._room))
        if _captured(cache, width, mask, positions):
            frames.ready(self.whole, width, mask is not None)

    @torch.inference_mode()
    def warm(self, room: int, chains: Iterable[int], trees: Iterable[int]) -> None:
        self._room, before, began = room, self._graphs.count, self._graphs.seconds
        lease = [self._graphs.take(self._layers, room)]
        for masked, widths in ((False, chains), (True, trees)):
            for width in widths:
                lease[0].ready(self.whole, width, masked)
        if made := self._graphs.count - before:
            spent, capacity = self._graphs.seconds - began, lease[0].fixed.capacity
            _log.info("engine: %d passes over %d tokens captured in %.2f s", made, capacity, spent)
        self._graphs.give(lease)

    @torch.inference_mode()
    def __call__(
        self, ids: Tensor, cache: FixedCache, rows: int, *, mask: Mask | None = None, positions: Tensor | None = None
    ) -> Tensor:
        if cache.several is not None:
            return super().__call__(ids, cache.several, rows, mask=mask, positions=positions)
        frames = cache.frames(cache.get_seq_length() + ids.shape[1])
        if not _captured(cache, ids.shape[1], mask, positions):
            return super().__call__(ids, frames.fixed.cache, rows, mask=mask, positions=positions)
        logits, states = frames.step(ids, mask, positions)
        if self.tap is not None:
            self.tap.seen = dict(states)
        return logits[:, -rows:].clone()

    def whole(self, frames: Frames, frame: Frame) -> Made:
        """The pass that is captured."""
        places = frames.places(frame.width)
        mask = frames.behind(places) if frame.mask is None else frame.mask
        positions = places[None] if frame.positions is None else frame.positions
        with frames.fixed.writing(places):
            cache = frames.fixed.cache
            logits = super().__call__(frame.ids, cache, frame.width, mask=mask, positions=positions)
        return logits, {} if self.tap is None else self.tap.seen


def _captured(cache: FixedCache, width: int, mask: Mask | None, positions: Tensor | None) -> bool:
    """Whether a pass is captured: from facts of the pass alone, so that a text meets the same arithmetic again."""
    told = (mask is None) == (positions is None) and (mask is None or all(m.dim() == 4 for m in each(mask)))
    return width <= WIDEST and cache.get_seq_length() > 0 and told


def forward_of(model: Any, tap: Tap | None) -> GraphForward | None:
    """Captured passes of ``model``; None where none were asked for."""
    graphs = installed(model)
    return None if graphs is None else GraphForward(model, tap, graphs)
