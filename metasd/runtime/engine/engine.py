"""The engine of one model: the only code that runs a pass, live, recorded, distilled, timed or tried out.

It owns the cache that a pass reads and grows, takes the wanted states between layers, and knows how long all took. It
knows places in the cache; which tokens lie there, and which text is wanted, its users know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from metasd.runtime.engine.captured import FixedCache, forward_of
from metasd.runtime.engine.features import Features, Tap
from metasd.runtime.engine.forward import Forward, Mask
from metasd.runtime.engine.stopwatch import Stopwatch


class Engine:
    """Passes of ``model`` over B texts of one length behind one cache.

    features: keeps the states between layers of the first text's cached tokens, in step with the cache.

    Attributes:
        watch: marks points between passes.

    Raises UsageError at construction when the model's cache cannot be rolled back.
    """

    captures = True
    """Whether passes are captured where the model's are."""

    def __init__(self, model: Any, features: Features | None = None) -> None:
        self.model, self.features = model, features
        self.device = torch.device(model.device)
        self.watch = Stopwatch(self.device)
        self._tap = None if features is None else Tap(model, features.layers)
        captured = forward_of(model, self._tap) if self.captures else None
        self._forward = captured or Forward(model, self._tap)
        self._cache = self._forward.cache()

    @property
    def seconds(self) -> float:
        """Of all passes so far, cropping and moving included."""
        return self.watch.seconds

    @property
    def length(self) -> int:
        """Tokens of each text in the cache; after a pass that failed, of no meaning until ``reset``."""
        return int(self._cache.get_seq_length())

    @property
    def layers(self) -> Sequence[Any]:
        """The cache's, as transformers has them."""
        found: Sequence[Any] = self._cache.layers
        return found

    def warm(self, room: int, chains: Iterable[int], trees: Iterable[int] = ()) -> None:
        """Do what is done once for texts of ``room`` tokens and passes of these widths, before the next text.

        Where passes are captured it takes seconds; else nothing. Forgets the text.
        """
        self.reset()
        self._forward.warm(room, chains, trees)

    def step(self, ids: Tensor, rows: int, *, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """Read ``ids`` [B, w] behind the cache, which grows by them; logits [B, rows, V] of the last ``rows`` >= 1.

        mask, positions [B, w]: as ``Forward`` takes them.
        """
        self._forward.ready(ids, self._cache, mask, positions)
        start = self.watch.mark()
        logits = self._forward(ids, self._cache, rows, mask=mask, positions=positions)
        if self._tap is not None:
            self._keep(self._tap.taken(ids.device))
        self.watch.add(start)
        return logits

    def _keep(self, states: Tensor) -> None:
        """Take in the states [B, w, A, H] of a pass."""
        if self.features is not None:
            self.features.append(states[0])

    def crop(self, keep: int) -> None:
        """Forget all but the first ``keep`` tokens of every text."""
        if keep == 0:
            self.reset()
            return
        start = self.watch.mark()
        # negative counts mean "remove" in every release; positive ones changed their meaning
        self._cache.crop(keep - self.length)
        self.watch.add(start)
        if self.features is not None:
            self.features.crop(keep)

    @torch.inference_mode()
    def move(self, to: int, places: Sequence[int]) -> None:
        """Move the tokens at ``places``, ascending, to ``to`` and on: of a path that other branches lie between."""
        start = self.watch.mark()
        length = self.length
        move_rows(self._cache, length, to, places)
        if hasattr(self._cache, "moves"):  # kept for the other ranks of a sharded target (``runtime.sharded``)
            self._cache.moves.append((length, to, list(places)))
        if self.features is not None:
            self.features.move(to, places)
        self.watch.add(start)

    def select(self, texts: Sequence[int]) -> None:
        """Go on with some of the texts: their indices."""
        self._cache.batch_select_indices(torch.tensor(list(texts), device=self.device))

    def reset(self) -> None:
        """Forget everything."""
        self._cache = self._forward.cache()
        if self.features is not None:
            self.features.crop(0)

    def wait(self) -> None:
        """Return when the device has finished what was queued."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def move_rows(cache: Any, length: int, to: int, rows: Sequence[int]) -> None:
    """``Engine.move`` in the layers of ``cache``, which hold ``length`` rows."""
    at = torch.tensor(list(rows))
    if isinstance(cache, FixedCache) and cache.move(to, at):
        return
    for layer in cache.layers:
        for value in vars(layer).values():
            if isinstance(value, Tensor) and value.dim() > 1 and value.shape[-2] == length:
                value[..., to : to + len(rows), :] = value[..., at.to(value.device), :]
