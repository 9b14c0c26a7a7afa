"""Keys and values addressed by position: rows are written into a buffer that doubles, and nothing is copied to append
or to crop.

transformers' own layer copies the whole cache in every pass. What it is handed here are views of the first rows of
the buffer, so whoever changes them changes the buffer.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM = 256
"""Rows of the first buffer, unless more are written at once."""


class PositionLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [B, H, rows, D]; ``keys`` and ``values`` are views of the rows that count."""

    keys: Any
    values: Any
    is_initialized: bool

    def __init__(self) -> None:
        super().__init__()
        self._length = 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write rows [B, H, w, D] behind those that count; all of them."""
        start, end = self._length, self._length + key_states.shape[-2]
        if not self.is_initialized:
            self.device, self.dtype = key_states.device, key_states.dtype
            self.is_initialized = True
        if self._buffers is None:
            self._buffers = (_made(key_states, max(ROOM, end)), _made(value_states, max(ROOM, end)))
        elif end > self._buffers[0].shape[-2]:
            self._buffers = (_grown(self._buffers[0], start, end), _grown(self._buffers[1], start, end))
        keys, values = self._buffers
        keys.narrow(-2, start, end - start).copy_(key_states)
        values.narrow(-2, start, end - start).copy_(value_states)
        self._show(end)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self._length

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` rows. Raises ValueError for a positive number, which other releases
        take for a length.
        """
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes how many rows to remove as a negative number, not {tokens_to_remove}")
        if self._buffers is not None:
            self._show(max(self._length + tokens_to_remove, 0))

    def reset(self) -> None:
        self._length, self._buffers = 0, None
        self.keys = self.values = None
        self.is_initialized = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the texts ``indices`` of the batch."""
        if self._buffers is not None:
            at = indices.to(self._buffers[0].device)
            self._buffers = (self._buffers[0][at], self._buffers[1][at])
            self._show(self._length)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self._buffers is not None:
            self._buffers = (
                self._buffers[0].repeat_interleave(repeats, dim=0),
                self._buffers[1].repeat_interleave(repeats, dim=0),
            )
            self._show(self._length)

    def _show(self, length: int) -> None:
        assert self._buffers is not None
        self._length = length
        keys, values = self._buffers
        self.keys, self.values = keys.narrow(-2, 0, length), values.narrow(-2, 0, length)


def _made(like: Tensor, rows: int) -> Tensor:
    return like.new_empty(*like.shape[:-2], rows, like.shape[-1])


def _grown(buffer: Tensor, length: int, needed: int) -> Tensor:
    made = _made(buffer, max(2 * buffer.shape[-2], needed))
    made[..., :length, :] = buffer[..., :length, :]
    return made
