"""One request's text as the drafters know it: one index for all of them, with full information where it is wanted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metasd.core.records import Bools, Ints, Revealed
from metasd.core.reveal import LiveRevealer, gathered
from metasd.core.signals import F, rounded
from metasd.drafters import TextDrafterBase
from metasd.drafters.index import ContextIndex
from metasd.serve.records import Record


@dataclass(frozen=True, slots=True)
class Asked:
    """Of n texts: who has a proposal [n, D], signals [n, D, F], rounded, and first tokens [n, D], -1 for none."""

    ready: Bools
    signals: NDArray[np.float32]
    first: Ints


class Texts(Protocol):
    """All texts of a server. What is proposed at a position is settled when ``ask`` comes to it, until it is judged."""

    def open(self, tokens: Sequence[int], record: Record | None = None) -> Any:
        """A text that begins with ``tokens``: all that stood before the first draft."""

    def close(self, text: Any) -> None:
        """The text is over: drafters that grow learn its answer."""

    def commit(self, lanes: Sequence[int], texts: Sequence[Any], tokens: Sequence[Sequence[int]]) -> Revealed | None:
        """Texts grow by ``tokens``; what that says of every proposal, where it is wanted."""

    def ask(self, texts: Sequence[Any]) -> Asked:
        """Who has a proposal now, what everybody shows, and the first token of each proposal."""

    def draft(self, text: Any, drafter: int, length: int) -> list[int]:
        """At most ``length`` tokens of what one drafter said when it was asked."""


class SlowTexts:
    """``Texts`` of any text drafters, one text and one token at a time. ``revealer`` makes one for each text."""

    def __init__(self, drafters: Sequence[TextDrafterBase], revealer: Callable[[], LiveRevealer] | None) -> None:
        self._drafters, self._revealer = drafters, revealer

    def open(self, tokens: Sequence[int], record: Record | None = None) -> Text:
        text = Text(self._drafters, None if self._revealer is None else self._revealer(), record)
        text.begin(tokens)
        return text

    def close(self, text: Text) -> None:
        text.finish()

    def commit(self, lanes: Sequence[int], texts: Sequence[Text], tokens: Sequence[Sequence[int]]) -> Revealed | None:
        for text, new in zip(texts, tokens, strict=True):
            text.commit(new)
        told = [(lane, t.revealer) for lane, t in zip(lanes, texts, strict=True) if t.revealer is not None]
        return gathered(told) if told else None

    def ask(self, texts: Sequence[Text]) -> Asked:
        drafters = len(self._drafters)
        return Asked(
            np.array([t.ready() for t in texts], bool).reshape(-1, drafters),
            rounded(np.array([t.shown() for t in texts], np.float32).reshape(-1, drafters, F)),
            np.array([t.first_tokens() for t in texts], np.int64).reshape(-1, drafters),
        )

    def draft(self, text: Text, drafter: int, length: int) -> list[int]:
        return text.draft(drafter, length)


def joined(parts: Sequence[Revealed], lanes: Sequence[int]) -> Revealed:
    """What several commits revealed, as one of all their tokens would have: by text, in order of ``lanes``."""
    columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Revealed)}
    place = np.zeros(max(lanes) + 1, np.int64)
    place[list(lanes)] = np.arange(len(lanes))
    committed = np.argsort(place[columns["lane"]], kind="stable")
    rows = np.lexsort((columns["drafter"], columns["start"], place[columns["start_lane"]]))
    tokens = ("lane", "position", "agreement")
    return Revealed(**{name: values[committed if name in tokens else rows] for name, values in columns.items()})


class Text:
    """See the module docstring.

    Args:
        drafters: models to fork; tables and earlier outputs are shared, the index is the text's own.
        revealer: gathers full information. record: keeps what was proposed. None where nobody asks for it.

    What is proposed at a position is settled when it is first asked for, whatever other texts end until it is judged.
    """

    def __init__(
        self, drafters: Sequence[TextDrafterBase], revealer: LiveRevealer | None = None, record: Record | None = None
    ) -> None:
        self.revealer, self.record = revealer, record
        self._index = shared_index(drafters)
        self.drafters = [copy.copy(drafter) for drafter in drafters]
        for drafter in self.drafters:
            drafter.share(self._index)
        self._position = 0
        self._offers: list[list[int]] | None = None
        self._shown: list[list[float]] | None = None

    def begin(self, tokens: Sequence[int]) -> None:
        """Start with ``tokens``: all that stood before the first draft."""
        self._index.begin(tokens)
        for drafter in self.drafters:
            drafter.opened(len(tokens))

    def finish(self) -> None:
        """Let drafters that grow learn the answer."""
        for drafter in self.drafters:
            drafter.closed()

    def commit(self, tokens: Sequence[int]) -> None:
        """Take ``tokens`` in. Before each every drafter is scored; only then does the index learn it."""
        watched = self.revealer is not None or self.record is not None
        if self.revealer is not None:
            self.revealer.begin_round()
        for token in tokens:
            if watched:
                self._note(token)
            for drafter in self.drafters:
                drafter.score(token)
            self._index.append(token)
            for drafter in self.drafters:
                drafter.took(token)
            self._offers = self._shown = None
            self._position += 1

    def ready(self) -> list[bool]:
        """[D] who has a proposal now."""
        return [drafter.ready() for drafter in self.drafters]

    def shown(self) -> list[list[float]]:
        """[D, F] the signals, before rounding."""
        if self._shown is None:
            self._shown = [drafter.shown() for drafter in self.drafters]
        return self._shown

    def offers(self) -> list[list[int]]:
        """[D] the longest proposals."""
        if self._offers is None:
            self._offers = [drafter.offer(drafter.draft_length) for drafter in self.drafters]
        return self._offers

    def draft(self, drafter: int, length: int) -> list[int]:
        """At most ``length`` tokens by one drafter."""
        return self.offers()[drafter][:length]

    def first_tokens(self) -> list[int]:
        """[D] first token of each proposal, -1 without one."""
        return [offer[0] if offer else -1 for offer in self.offers()]

    def _note(self, token: int) -> None:
        offers, shown = self.offers(), self.shown()
        if self.revealer is not None:
            chances = [float(offer[0] == token) if offer else _NAN for offer in offers]
            self.revealer.commit(self._position, token, False, offers, chances, shown)
        if self.record is not None:
            self.record.add(token, offers, shown)


_NAN = float("nan")


def shared_index(drafters: Sequence[TextDrafterBase]) -> ContextIndex:
    """An index of all lengths that any of ``drafters`` looks up."""
    used = [d.index for d in drafters if d.index.min_order <= d.index.max_order]
    return ContextIndex(min((i.min_order for i in used), default=1), max((i.max_order for i in used), default=0))
