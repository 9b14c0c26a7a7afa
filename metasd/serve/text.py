"""One request's text as the drafters know it: kept up token by token, with full information where it is wanted."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metasd.core.records import Bools, Ints
from metasd.core.reveal import LiveRevealer
from metasd.core.signals import F
from metasd.drafters import TextDrafterBase
from metasd.drafters.base import Look
from metasd.drafters.index import ContextIndex


class Text:
    """See the module docstring. ``drafters`` are models to fork: tables are shared, indices are the text's own."""

    def __init__(self, drafters: Sequence[TextDrafterBase], revealer: LiveRevealer | None) -> None:
        self.drafters = [_fork(drafter) for drafter in drafters]
        self.revealer = revealer
        self._looks: list[Look] | None = None
        self._position = 0

    def begin(self, tokens: Sequence[int]) -> None:
        """Start with ``tokens``: all that stood before the first draft."""
        for drafter in self.drafters:
            drafter.begin(tokens)
        self._looks = None

    def finish(self) -> None:
        """Let drafters that grow learn the answer."""
        for drafter in self.drafters:
            drafter.begin(())

    def commit(self, tokens: Sequence[int]) -> None:
        """Take ``tokens`` in, noting before each what every drafter would have proposed."""
        self._looks_gone()
        if self.revealer is None:
            for drafter in self.drafters:
                drafter.extend(tokens)
        else:
            self.revealer.begin_round()
            for token in tokens:
                self._step(token, self.revealer)
        self._position += len(tokens)
        self._looks_gone()

    def available(self) -> Bools:
        """[D]."""
        return np.array([look.available for look in self._look()], bool)

    def signals(self) -> NDArray[np.float32]:
        """[D, F]."""
        return np.array([look.signals for look in self._look()], np.float32).reshape(-1, F)

    def first_tokens(self) -> Ints:
        """[D] first token of each proposal, -1 without one."""
        return np.array([(d.draft(1).tokens or [-1])[0] for d in self.drafters], np.int64)

    def _look(self) -> list[Look]:
        if self._looks is None:
            self._looks = [d.look() for d in self.drafters]
        return self._looks

    def _looks_gone(self) -> None:
        self._looks = None

    def _step(self, token: int, revealer: LiveRevealer) -> None:
        signals = self.signals()
        proposals: list[list[int] | None] = []
        chances = np.full(len(self.drafters), np.nan)
        for d, drafter in enumerate(self.drafters):
            offered = drafter.draft(max(int(revealer.longest[d]), 1)).tokens
            proposals.append(offered)
            if offered:
                chances[d] = offered[0] == token
            drafter.extend([token])
        self._looks_gone()
        position = self._position + len(revealer.positions)
        revealer.commit(position, token, False, proposals, chances, signals)


def _fork(drafter: TextDrafterBase) -> TextDrafterBase:
    """A drafter of the same table with an index of its own."""
    fork = copy.copy(drafter)
    fork.index = ContextIndex(drafter.index.min_order, drafter.index.max_order)
    return fork
