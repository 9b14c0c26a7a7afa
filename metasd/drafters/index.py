"""Where every short run of tokens occurred in the text so far, kept up to date token by token.

Knows tokens only: nothing of drafts, targets or how well a copy went. An *occurrence* of a run is named by the index
of the token that follows it, so only occurrences that say something about what comes next exist at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

MATCH_CAP = 64
"""Longest backward match that is measured."""

RECENT = 24
"""Occurrences, newest first, that are asked whether they agree; older ones are left out to bound the work."""


class Match(NamedTuple):
    """The longest run at a text's end that occurred before: its length and all its occurrences, oldest first."""

    order: int
    occurrences: list[int]


class ContextIndex:
    """All runs of ``min_order`` to ``max_order`` tokens of one growing text.

    ``append`` costs one dictionary entry per order; ``longest`` one look-up per order. ``occurrences(run)`` are those
    of one run, oldest first, None when it never occurred with a token behind it. Several drafters may read one index.
    """

    def __init__(self, min_order: int, max_order: int) -> None:
        self.min_order = min_order
        self.max_order = max_order
        self.begin(())

    def begin(self, tokens: Iterable[int]) -> None:
        """Forget the text and start with ``tokens``."""
        self.tokens: list[int] = []
        self._occurrences: dict[tuple[int, ...], list[int]] = {}
        self.occurrences = self._occurrences.get
        self._matched: dict[int, int] = {}  # backward matches asked for here, by source; and those of one token before
        self._matched_before: dict[int, int] = {}
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """Add one token: it is what follows every run that ends just before it."""
        tokens, occurrences = self.tokens, self._occurrences
        here = len(tokens)
        for order in range(self.min_order, min(self.max_order, here) + 1):
            run = tuple(tokens[here - order :])
            known = occurrences.get(run)
            if known is None:
                occurrences[run] = [here]
            else:
                known.append(here)
        tokens.append(token)
        if self._matched or self._matched_before:
            self._matched_before, self._matched = self._matched, {}

    def longest(self, least: int, most: int) -> Match | None:
        """The longest run of ``least`` to ``most`` tokens at the end of the text that occurred before, or None."""
        tokens, occurrences = self.tokens, self._occurrences
        length = len(tokens)
        for order in range(min(most, length), least - 1, -1):
            known = occurrences.get(tuple(tokens[length - order :]))
            if known is not None:
                return Match(order, known)
        return None

    def backward_match(self, source: int) -> int:
        """Tokens before ``source`` that equal the text's last ones, at most ``MATCH_CAP``."""
        matched = self._matched.get(source)
        if matched is None:
            matched = self._match(source)
            self._matched[source] = matched
        return matched

    def _match(self, source: int) -> int:
        tokens = self.tokens
        last = len(tokens) - 1
        most = min(MATCH_CAP, source)
        matched = 0
        before = self._matched_before.get(source - 1)
        if before is not None and tokens[source - 1] == tokens[last]:
            matched = min(before + 1, most)  # a copy that went on
        while matched < most and tokens[source - 1 - matched] == tokens[last - matched]:
            matched += 1
        return matched


def voters(source: int, occurrences: Sequence[int]) -> Sequence[int]:
    """The ``RECENT`` newest occurrences, and the source if it is older than those."""
    recent = occurrences[-RECENT:]
    return recent if source >= recent[0] else [source, *recent]


def other_than(source: int, occurrences: Sequence[int]) -> int:
    """The most recent occurrence that is not ``source`` itself; ``source`` when it is the only one."""
    if occurrences[-1] != source or len(occurrences) == 1:
        return occurrences[-1]
    return occurrences[-2]
