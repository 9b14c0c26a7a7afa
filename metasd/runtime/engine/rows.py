"""Keys and values of several texts in one buffer, a row each: every text is as long as it is, and a pass writes behind
each of them at once.

Column i of a row is position i of its text, so nothing is copied to append or to crop: a row's length is a number. What
lies behind it is of no meaning, always finite, and hidden by the mask of the pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from metasd.core.errors import UsageError
from metasd.runtime.engine.positions import ROOM, PositionLayer
from metasd.runtime.engine.support import croppable_cache


class Places:
    """Where the pass under way writes and reads: all layers of a cache look here.

    Attributes:
        first, count: rows of the buffers that take part.
        base, end: columns before the pass (of the longest row), and after it.
        columns: [count, w] where each row's new tokens go; None: the one row's, from ``base`` on.
    """

    def __init__(self) -> None:
        self.first, self.count, self.base, self.end = 0, 1, 0, 0
        self.columns: Tensor | None = None

    def one(self, row: int, length: int, width: int) -> None:
        """A pass of ``width`` tokens behind the ``length`` of one row."""
        self.first, self.count, self.base, self.end, self.columns = row, 1, length, length + width, None

    def several(self, first: int, columns: Tensor) -> None:
        """A pass over the rows from ``first`` on, whose new tokens go to ``columns`` [count, w]."""
        count, width = columns.shape
        end = int(columns.max()) + 1  # on the CPU: no read of a device
        self.first, self.count, self.base, self.end, self.columns = first, count, end - width, end, columns


class RowLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [rows, H, columns, D]."""

    def __init__(self, rows: int, places: Places) -> None:
        super().__init__()
        self._rows, self._places = rows, places
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write [count, H, w, D] where ``Places`` says; [count, H, end, D] of the rows that take part."""
        places, given = self._places, (key_states, value_states)
        if self._buffers is None:
            self.device, self.dtype, self.is_initialized = key_states.device, key_states.dtype, True
            self._buffers = self._made(given, max(ROOM, places.end))
        elif places.end > self._buffers[0].shape[-2]:
            self._grow(given, max(2 * self._buffers[0].shape[-2], places.end))
        keys, values = (self._written(buffer, new) for buffer, new in zip(self._buffers, given, strict=True))
        return keys, values

    def _written(self, buffer: Tensor, new: Tensor) -> Tensor:
        places = self._places
        mine = buffer.narrow(0, places.first, places.count)
        if places.columns is None:
            mine.narrow(-2, places.base, new.shape[-2]).copy_(new)
        else:
            rows = torch.arange(places.count, device=new.device)[:, None]
            mine[rows, :, places.columns.to(new.device)] = new.transpose(1, 2)
        return mine.narrow(-2, 0, places.end)

    def get_seq_length(self) -> int:
        return self._places.base

    def copy(self, source: int, to: int) -> None:
        """Row ``to`` becomes what row ``source`` is."""
        for buffer in self._buffers or ():
            buffer[to] = buffer[source]

    def move(self, row: int, to: int, columns: list[int]) -> None:
        """Move the tokens of ``row`` at ``columns``, ascending, to ``to`` and on."""
        for buffer in self._buffers or ():
            at = torch.tensor(columns, device=buffer.device)
            buffer[row, :, to : to + len(columns)] = buffer[row][:, at]

    def _made(self, like: tuple[Tensor, Tensor], columns: int) -> tuple[Tensor, Tensor]:
        """Zeros: what no token was written to is multiplied by a weight of 0, and no number times 0 is 0."""
        made = [x.new_zeros(self._rows, x.shape[1], columns, x.shape[-1]) for x in like]
        return made[0], made[1]

    def _grow(self, like: tuple[Tensor, Tensor], columns: int) -> None:
        assert self._buffers is not None
        grown = self._made(like, columns)
        for old, new in zip(self._buffers, grown, strict=True):
            new[:, :, : old.shape[-2]] = old
        self._buffers = grown


def row_cache(model: Any, rows: int, places: Places) -> DynamicCache:
    """A cache for ``model`` of ``rows`` texts. Raises UsageError where layers keep more than keys and values."""
    cache = croppable_cache(model)
    for i, layer in enumerate(cache.layers):
        if type(layer) is PositionLayer:
            cache.layers[i] = RowLayer(rows, places)
        elif type(layer).__name__ != "DummyLayer":
            raise UsageError(
                f"{type(model).__name__} caches with {type(layer).__name__}, which holds one text at a time; "
                "use --lanes 1"
            )
    return cache
