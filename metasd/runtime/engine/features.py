"""The states between a target's layers, taken from its passes and kept for the heads that read them.

A layer is named as in ``hidden_states`` of transformers: i is the input of layer i (0: the embeddings), the number of
layers is what the last one gives, before the norm; FINAL is behind it. Hooks are in place during a pass only, so
other users of the same modules, and passes nobody takes states from, are as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from metasd.core.errors import UsageError

FINAL = -1


class Tap:
    """Takes the states of ``layers`` from passes of ``model``. Raises UsageError where its layers are not found.

    Attributes:
        seen: states [B, w, H] of the last pass, by layer.
    """

    def __init__(self, model: Any, layers: Sequence[int]) -> None:
        self.layers = tuple(layers)
        self._base = model.base_model
        total = int(model.config.get_text_config().num_hidden_layers)
        lists = [m for m in self._base.modules() if isinstance(m, nn.ModuleList) and len(m) == total]
        if not lists or self._base is model:
            raise UsageError(f"the layers of {type(model).__name__} are not found, so no head can read them")
        self._blocks = lists[0]
        self.seen: dict[int, Tensor] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, a pass leaves its states for ``taken``."""
        self.seen, total = {}, len(self._blocks)
        handles = []
        for layer in self.layers:
            if layer == FINAL:
                handles.append(self._base.register_forward_hook(self._last))
            elif layer == total:
                handles.append(self._blocks[total - 1].register_forward_hook(self._output(layer)))
            else:
                handles.append(self._blocks[layer].register_forward_pre_hook(self._input(layer), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def taken(self, device: torch.device) -> Tensor:
        """[B, w, A, H] the states of the last pass."""
        return torch.stack([self.seen[layer].to(device) for layer in self.layers], -2)

    def _input(self, layer: int) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.seen[layer] = args[0] if args else kwargs["hidden_states"]

        return hook

    def _output(self, layer: int) -> Any:
        def hook(_: Any, __: Any, out: Any) -> None:
            self.seen[layer] = out if isinstance(out, Tensor) else out[0]

        return hook

    def _last(self, _: Any, __: Any, out: Any) -> None:
        self.seen[FINAL] = out.last_hidden_state if hasattr(out, "last_hidden_state") else out[0]


class Features:
    """The states of ``layers`` at every token in a target's cache: [length, A, H], in step with it."""

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = tuple(layers)
        self.length = 0
        self._rows: Tensor | None = None

    def append(self, states: Tensor) -> None:
        """``states`` [w, A, H] of the next tokens."""
        end = self.length + len(states)
        if self._rows is None or end > len(self._rows):
            grown = states.new_empty((max(end, 2 * self.length, 256), *states.shape[1:]))
            if self._rows is not None:
                grown[: self.length] = self._rows[: self.length]
            self._rows = grown
        self._rows[self.length : end] = states
        self.length = end

    def crop(self, length: int) -> None:
        """Forget all behind the first ``length`` tokens."""
        self.length = min(self.length, length)

    def move(self, to: int, places: Sequence[int]) -> None:
        """Move the states at ``places``, ascending, to ``to`` and on."""
        if self._rows is not None:
            self._rows[to : to + len(places)] = self._rows[list(places)]

    def rows(self, layers: Sequence[int], first: int, stop: int) -> Tensor:
        """[stop - first, len(layers) * H] states side by side. Raises RuntimeError for tokens that were not read."""
        if self._rows is None or stop > self.length:
            raise RuntimeError(f"features of token {stop - 1} are asked for, but {self.length} were read")
        at = [self.layers.index(layer) for layer in layers]
        return self._rows[first:stop, at].flatten(1)


def wanted(needs: Sequence[Sequence[int]]) -> Features | None:
    """What keeps the states of all ``needs``; None where nothing is needed."""
    layers = sorted({layer for need in needs for layer in need})
    return Features(layers) if layers else None
