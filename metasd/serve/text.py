"""One request's text as the drafters know it: one index for all of them, with full information where it is wanted."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from metasd.core.reveal import LiveRevealer
from metasd.drafters import TextDrafterBase
from metasd.drafters.index import ContextIndex
from metasd.serve.records import Record


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
        if self.revealer is not None or self.record is not None:
            return self.offers()[drafter][:length]
        return self.drafters[drafter].offer(length)

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
