"""A cache that never moves: keys and values of one text in buffers of a fixed capacity, for passes that are captured.

A captured pass writes its rows at places that lie in a tensor, and reads the whole buffer under a mask. Any other pass
writes behind the rows that count and reads these, as with ``PositionLayer``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from metasd.runtime.engine.positions import PositionLayer


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one layer's rows: heads, numbers of a key and of a value."""

    heads: int
    key: int
    value: int


class FixedLayer(PositionLayer):
    """One layer in its part [1, H, capacity, D] of the buffers; ``keys`` and ``values`` are all of it."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.device, self.dtype = keys.device, keys.dtype
        self.is_initialized = True
        self.keys, self.values = keys, values
        self._buffers = (keys, values)
        self.places: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write rows [1, H, w, D] at ``places`` [w] and return the buffers, or behind the rows that count and return
        these.
        """
        if self.places is not None:
            self.keys.index_copy_(-2, self.places, key_states)
            self.values.index_copy_(-2, self.places, value_states)
            return self.keys, self.values
        start, width = self._length, key_states.shape[-2]
        self.keys.narrow(-2, start, width).copy_(key_states)
        self.values.narrow(-2, start, width).copy_(value_states)
        self._show(start + width)
        return self.keys.narrow(-2, 0, self._length), self.values.narrow(-2, 0, self._length)

    def reset(self) -> None:
        self._length = 0

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the one text there is. Raises ValueError for several."""
        if len(indices) != 1:
            raise ValueError(f"a fixed cache holds one text, not {len(indices)}")

    def _show(self, length: int) -> None:
        self._length = length


class Fixed:
    """The buffers of all layers and their layers as a cache of transformers.

    Rows that were never written are zero and not what the memory held: a mask makes their share zero, and zero times
    NaN is NaN.
    """

    def __init__(self, shapes: Sequence[Shape], capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity = capacity
        of: dict[Shape, list[int]] = {}
        for i, shape in enumerate(shapes):
            of.setdefault(shape, []).append(i)
        layers: dict[int, FixedLayer] = {}
        self._stacks: list[Tensor] = []
        for shape, places in of.items():
            rows = (len(places), 1, shape.heads, capacity)
            pair = [torch.zeros(*rows, size, dtype=dtype, device=device) for size in (shape.key, shape.value)]
            layers |= {at: FixedLayer(pair[0][i], pair[1][i]) for i, at in enumerate(places)}
            self._stacks += pair
        self.layers = [layers[i] for i in range(len(shapes))]
        self.cache = DynamicCache()
        self.cache.layers = list(self.layers)

    @property
    def length(self) -> int:
        """Rows that count."""
        return self.layers[0].get_seq_length()

    @contextmanager
    def writing(self, places: Tensor) -> Iterator[None]:
        """Inside, passes write their rows at ``places`` [w] and read whole buffers.

        Layers then have no length: what a pass made of it would be captured with it.
        """
        length = self.length
        for layer in self.layers:
            layer.places, layer._length = places, 0
        try:
            yield
        finally:
            for layer in self.layers:
                layer.places, layer._length = None, length

    def grow(self, count: int) -> None:
        """``count`` more rows count: a captured pass has written them."""
        for layer in self.layers:
            layer._length += count

    def move(self, to: int, at: Tensor) -> None:
        """Move the rows ``at`` [n], ascending, of every layer to ``to`` and on."""
        for stack in self._stacks:
            stack[..., to : to + len(at), :] = stack[..., at, :]

    def take(self, other: Fixed) -> None:
        """Hold what ``other``, of no larger capacity, holds."""
        for mine, its in zip(self._stacks, other._stacks, strict=True):
            mine[..., : other.length, :] = its[..., : other.length, :]
        for layer, held in zip(self.layers, other.layers, strict=True):
            layer._length = held._length
