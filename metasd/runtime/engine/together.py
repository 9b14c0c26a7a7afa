"""Several texts behind one model: an engine with a row of the cache for each, read alone or all in one pass.

Texts are of different lengths, and so is what is new of each: what is shorter is padded at its end, where nobody looks
at it and nothing of it is kept. Every row's own mask and positions say which tokens are whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metasd.core.errors import UsageError
from metasd.runtime.engine.engine import Engine
from metasd.runtime.engine.features import Features
from metasd.runtime.engine.forward import Mask
from metasd.runtime.engine.masks import additive
from metasd.runtime.engine.rows import Places, RowLayer, row_cache
from metasd.runtime.engine.stopwatch import Stopwatch
from metasd.runtime.engine.support import MASKED, apart, attention, packable, spread_over, stated_limit, windows

LONGEST_TRIAL = 512
"""Tokens up to which the trial goes beyond the narrowest window."""

_tried: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class TogetherEngine(Engine):
    """``Engine`` over several texts, each with a length of its own.

    features: by text, what keeps the states between layers of its cached tokens, in step with the cache; all of the
        same layers. None: nobody reads them.

    Attributes:
        rows: the texts, each an engine of its own.

    The model must have passed ``check_together``.
    """

    captures = False

    def __init__(self, model: Any, features: Sequence[Features | None]) -> None:
        super().__init__(model, features[0])
        self._places = Places()
        self._cache = row_cache(model, len(features), self._places)
        self._windows = windows(model) or {}
        self._used = len(features)
        self._states: Tensor | None = None
        self.rows = [Row(self, place, kept) for place, kept in enumerate(features)]

    def read(self, rows: Sequence[Row], tokens: Sequence[NDArray[np.int64]], last: Sequence[int]) -> list[Tensor]:
        """One pass over ``tokens`` [w] of each of ``rows``, behind what it holds; logits [last, V] of each one's last.

        The rows that take part must lie together: all that are in use, or a single one.
        """
        if len(rows) == 1:
            return [rows[0].step(torch.from_numpy(tokens[0].copy())[None].to(self.device), last[0])[0]]
        order = sorted(range(len(rows)), key=lambda i: rows[i].place)
        first = rows[order[0]].place
        if [rows[i].place for i in order] != list(range(first, first + len(rows))):
            raise RuntimeError("the rows of a pass do not lie together")
        counts = torch.tensor([len(tokens[i]) for i in order])[:, None]
        width = int(counts.max())
        ids = torch.zeros(len(rows), width, dtype=torch.int64)
        for at, i in enumerate(order):
            ids[at, : len(tokens[i])] = torch.from_numpy(tokens[i])
        columns = torch.tensor([rows[i].length for i in order])[:, None] + torch.arange(width)
        positions = torch.minimum(columns, columns[:, :1] + counts - 1)  # of padding: one that the model has
        self._places.several(first, columns)
        kept = max(width - len(tokens[i]) + last[i] for i in order)
        mask = self._mask(positions.to(self.device), self._places.end)
        logits = self.step(ids.to(self.device), kept, mask=mask, positions=positions.to(self.device))
        found: dict[int, Tensor] = {}
        for at, i in enumerate(order):
            end = kept - width + len(tokens[i])
            found[i] = logits[at, end - last[i] : end]
            rows[i].grow(len(tokens[i]), None if self._states is None else self._states[at])
        return [found[i] for i in range(len(rows))]

    def alone(self, row: Row, ids: Tensor, last: int, mask: Mask | None, positions: Tensor | None) -> Tensor:
        """As ``step``, of one row; ``ids`` [1, w]."""
        self._places.one(row.place, row.length, ids.shape[1])
        logits = self.step(ids, last, mask=mask, positions=positions)
        row.grow(ids.shape[1], None if self._states is None else self._states[0])
        return logits

    @torch.inference_mode()
    def leave(self, row: Row) -> None:
        """``row`` reads no more; the last of those in use takes its place, so that they lie together."""
        self._used -= 1
        last = next(r for r in self.rows if r.place == self._used)
        if last is not row:
            for layer in self._layers():
                layer.copy(last.place, row.place)
            last.place, row.place = row.place, last.place
        row.reset()

    @torch.inference_mode()
    def move_in(self, row: Row, to: int, places: Sequence[int]) -> None:
        """As ``move``, in one row."""
        start = self.watch.mark()
        for layer in self._layers():
            layer.move(row.place, to, list(places))
        if row.features is not None:
            row.features.move(to, places)
        self.watch.add(start)

    def _layers(self) -> list[RowLayer]:
        return [layer for layer in self._cache.layers if isinstance(layer, RowLayer)]

    def _keep(self, states: Tensor) -> None:
        """``states`` [B, w, A, H] of the pass: who took part knows whose they are."""
        self._states = states

    def _mask(self, positions: Tensor, end: int) -> Mask:
        """What every new token of each row may look at: [B, 1, w, end], by kind of layer where kinds differ."""
        count, width = positions.shape
        at, behind = positions.reshape(-1), torch.arange(end, device=positions.device)
        made = additive(behind[None, :] <= at[:, None], at, behind, self._windows, self.model.dtype)
        if isinstance(made, Tensor):
            return made.view(count, 1, width, end)
        return {kind: mask.view(count, 1, width, end) for kind, mask in made.items()}


class Row:
    """One text of a ``TogetherEngine``, which is to ``CachedModel`` what an ``Engine`` of its own would be.

    Attributes:
        place: its row in the buffers. length: its tokens in the cache.
    """

    def __init__(self, engine: TogetherEngine, place: int, features: Features | None) -> None:
        self.engine, self.place, self.features = engine, place, features
        self.length = 0

    @property
    def seconds(self) -> float:
        """Of all passes of the engine, the other texts' as well."""
        return self.engine.seconds

    @property
    def watch(self) -> Stopwatch:
        """The engine's."""
        return self.engine.watch

    def step(self, ids: Tensor, rows: int, *, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """As ``Engine.step``; ``ids`` [1, w]."""
        return self.engine.alone(self, ids, rows, mask, positions)

    def grow(self, count: int, states: Tensor | None) -> None:
        """``count`` tokens were read, of whose [w, A, H] ``states`` the first so many are theirs."""
        self.length += count
        if self.features is not None and states is not None:
            self.features.append(states[:count])

    def crop(self, keep: int) -> None:
        """Forget all but the first ``keep`` tokens."""
        self.length = min(self.length, keep)
        if self.features is not None:
            self.features.crop(keep)

    def move(self, to: int, places: Sequence[int]) -> None:
        """As ``Engine.move``."""
        self.engine.move_in(self, to, places)

    def reset(self) -> None:
        """Forget everything."""
        self.crop(0)

    def wait(self) -> None:
        """Return when the device has finished what was queued."""
        self.engine.wait()


def check_together(model: Any) -> None:
    """Raises UsageError unless ``model`` attends as masks and positions tell it, text by text; tried once a model."""
    name = type(model).__name__
    mend = "so it decodes one text at a time; use --lanes 1"
    if spread_over(model) > 1:
        raise UsageError(f"{name} is spread over {spread_over(model)} processes, {mend}")
    if attention(model) not in MASKED:
        raise UsageError(f"{name} attends by {attention(model)}, which takes no mask of several texts, {mend}")
    if model not in _tried:
        _tried[model] = packable(model) and _heeds(model)
    if not _tried[model]:
        raise UsageError(f"{name} does not attend as a mask of several texts tells it, {mend}")


def _heeds(model: Any) -> bool:
    """Whether two texts of different lengths, beyond the narrowest window, read together, are what each is alone."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    sizes = [w.size for w in (windows(model) or {}).values() if w is not None and w.size <= LONGEST_TRIAL]
    length = min(min(sizes, default=0) + 8, (stated_limit(model.config) or LONGEST_TRIAL) - 2)
    texts = [np.array([(k * i + 3) % vocabulary for i in range(n)]) for k, n in ((7, length), (5, max(length - 5, 2)))]
    alone = [Engine(model).step(torch.from_numpy(t)[None].to(model.device), 2)[0] for t in texts]
    try:
        engine = TogetherEngine(model, [None, None])
        for row, text in zip(engine.rows, texts, strict=True):
            row.step(torch.from_numpy(text)[None].to(model.device), 1)
        for row, text, kept in zip(engine.rows, texts, (3, 1), strict=True):
            row.crop(max(len(text) - kept, 0))
        behind = [text[row.length :] for row, text in zip(engine.rows, texts, strict=True)]
        said = engine.read(engine.rows, behind, [min(2, len(b)) for b in behind])
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError, KeyError, UsageError):
        return False  # it takes no such mask, or no positions
    wanted = torch.cat([one[len(one) - len(s) :] for one, s in zip(alone, said, strict=True)])
    return not apart(torch.cat(said), wanted, model.dtype)
