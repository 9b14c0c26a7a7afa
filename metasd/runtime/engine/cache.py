"""A causal language model that reads one text, under one rule of what its cache may keep.

A cache is valid up to the longest prefix it shares with the text the model is now given; the model crops itself to
that and reads the rest. Rejected drafts, the target's own token and switching between drafters are then one case, and
what had to be re-read is measured, not assumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metasd.runtime.engine.engine import Engine
from metasd.runtime.engine.features import Features
from metasd.runtime.engine.forward import Mask
from metasd.runtime.engine.stopwatch import Stopwatch
from metasd.runtime.engine.together import Row
from metasd.runtime.engine.trial import check

Tokens = Sequence[int] | NDArray[Any]


class CachedModel:
    """One model reading one text at a time.

    A pass that fails or is interrupted may leave layers of different lengths; the cache is then *dirty*, and the next
    use of it reads the text anew.

    Raises UsageError at construction when the model's cache cannot be rolled back.

    features: keeps the states between layers of the cached tokens, in step with the cache; None: nobody reads them.
    row: of an engine of several texts, whose features are the row's own; None: an engine for this text alone.

    Attributes:
        vocab_size: V, columns of the logits.
    """

    def __init__(self, model: Any, features: Features | None = None, row: Row | None = None) -> None:
        check(model)
        self.model, self.features = model, features if row is None else row.features
        self.vocab_size = int(model.config.get_text_config().vocab_size)
        self.device = torch.device(model.device)
        self._engine: Engine | Row = Engine(model, features) if row is None else row
        self._text = np.zeros(1024, np.int64)  # the cached tokens, [0, _length) valid
        self._length = 0
        self._dirty = False

    @property
    def seconds(self) -> float:
        """Of all passes so far, cropping the cache for them included."""
        return self._engine.seconds

    @property
    def watch(self) -> Stopwatch:
        """Marks points between passes."""
        return self._engine.watch

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return 0 if self._dirty else self._length

    def reset(self) -> None:
        """Forget the text."""
        self._engine.reset()
        self._length = 0
        self._dirty = False

    def warm(self, room: int, chains: Iterable[int], trees: Iterable[int] = ()) -> None:
        """As ``Engine.warm``: forgets the text. Nothing is done once for an engine of several."""
        self.reset()
        if isinstance(self._engine, Engine):
            self._engine.warm(room, chains, trees)

    def leave(self) -> None:
        """No text comes next here: an engine of several goes on with the others."""
        if isinstance(self._engine, Row):
            self._engine.engine.leave(self._engine)

    def shared(self, tokens: Tokens) -> int:
        """Tokens of the text ``tokens`` that are in the cache already: the longest common prefix."""
        given = np.asarray(tokens, np.int64)
        n = min(self.length, len(given))
        differ = np.flatnonzero(self._text[:n] != given[:n])
        return int(differ[0]) if len(differ) else n

    def forward(self, tokens: Tokens, rows: int) -> torch.Tensor:
        """Logits [rows, V] at the last ``rows`` >= 1 positions of the text ``tokens``, reading only what is new.

        Row i is the distribution of what follows ``tokens[: len(tokens) - rows + i + 1]``.
        """
        given = np.asarray(tokens, np.int64)
        keep = self.rewind(given, rows)
        logits = self.feed(torch.from_numpy(given[keep:].copy()).to(self.device), rows)
        self.label(given[keep:])
        return logits

    def rewind(self, tokens: NDArray[Any], rows: int) -> int:
        """Crop to what can stay where the last ``rows`` of the text ``tokens`` are read again; how much that is."""
        keep = min(self.shared(tokens), len(tokens) - rows)
        self.crop(keep)
        return keep

    def read(self, tokens: Tokens) -> int:
        """Bring the cache to exactly the text ``tokens``; returns how many tokens had to be read (0: none was)."""
        given = np.asarray(tokens, np.int64)
        keep = self.shared(given)
        self.crop(keep)
        if keep < len(given):
            self.feed(torch.from_numpy(given[keep:].copy()).to(self.device), 1)
            self.label(given[keep:])
        return len(given) - keep

    def feed(
        self, ids: torch.Tensor, rows: int, *, mask: Mask | None = None, positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Append ``ids`` [w], which may never have left the device, and return logits [rows, V].

        mask, positions [w]: as ``Forward`` takes them. The caller must ``label`` them with their values before the next
        ``shared``, ``forward`` or ``read``.
        """
        self._dirty = True  # until the caller has said which tokens they were
        at = None if positions is None else positions[None]
        return self._engine.step(ids[None], rows, mask=mask, positions=at)[0]

    def label(self, tokens: Tokens) -> None:
        """Say which tokens the last unlabelled ``feed`` calls appended."""
        end = self._length + len(tokens)
        if end > len(self._text):
            self._text = np.concatenate([self._text, np.zeros(end, np.int64)])
        self._text[self._length : end] = tokens
        self._length = end
        self._dirty = False

    def wait(self) -> None:
        """Return when the device has finished what was queued."""
        self._engine.wait()

    def move(self, to: int, rows: Sequence[int]) -> None:
        """Move the rows at ``rows``, ascending, to ``to`` and on: of a path that other branches lie between."""
        self._dirty = True
        self._engine.move(to, rows)
        self._text[to : to + len(rows)] = self._text[list(rows)]
        self._dirty = False

    def crop(self, keep: int) -> None:
        """Forget all but the first ``keep`` tokens."""
        if keep == self.length and not self._dirty:
            return
        self._dirty = True
        self._engine.crop(keep)
        self._length = keep
        self._dirty = False


def forward_together(models: Sequence[CachedModel], texts: Sequence[Tokens], rows: Sequence[int]) -> list[torch.Tensor]:
    """``CachedModel.forward`` of each, in one pass where there are several; these are then rows of one engine."""
    if len(models) == 1:
        return [models[0].forward(texts[0], rows[0])]
    given = [np.asarray(text, np.int64) for text in texts]
    new = [text[model.rewind(text, n) :] for model, text, n in zip(models, given, rows, strict=True)]
    places = [model._engine for model in models if isinstance(model._engine, Row)]
    for model in models:
        model._dirty = True
    logits = places[0].engine.read(places, new, rows)
    for model, tokens in zip(models, new, strict=True):
        model.label(tokens)
    return logits
