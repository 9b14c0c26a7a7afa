"""What suggests the branches of a tree: the runs of a text, and n-gram tables. No scoring, no proposals.

A drafter keeps score of its own first token at every position; a source only answers what may come next, for any
context. ``LaneSources`` holds those of one text, whoever decodes or replays it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from metasd.core.errors import UsageError
from metasd.core.plans import Run, Source, Suggestion
from metasd.core.pool import DrafterInfo
from metasd.core.specs import parameters
from metasd.drafters.index import RECENT, ContextIndex
from metasd.drafters.lookup import LookupDrafter
from metasd.drafters.ngrams import ORDER, Entry, NgramTable, Table
from metasd.drafters.table import TableDrafter

MOST = 8
"""Suggestions of one context by the text."""


class TextSource:
    """The text's own runs: behind each, what followed its ``RECENT`` newest occurrences.

    Runs are looked at from the longest that is known down to ``min_order``; a token counts where its run is longest.
    """

    fixed = False

    def __init__(self, min_order: int, max_order: int) -> None:
        self.reach = max_order
        self._index = ContextIndex(min_order, max_order)
        self._known: dict[Run, tuple[int, list[tuple[int, float, bool]]]] = {}

    def begin(self, tokens: Sequence[int]) -> None:
        """Forget the text and start with ``tokens``."""
        self._index.begin(tokens)
        self._known = {}

    def extend(self, tokens: Sequence[int]) -> None:
        """Take in what the text goes on with."""
        for token in tokens:
            self._index.append(token)

    def suggest(self, context: Run) -> list[Suggestion]:
        """At most ``MOST`` tokens."""
        where, size, tokens = self._index.occurrences, len(context), self._index.tokens
        found, most = list[tuple[int, list[int]]](), min(self.reach, size)
        for order in range(self._index.min_order, most + 1):
            at = where(context[size - order :])
            if at is None:
                break  # what a longer run was followed by, its end was followed by too
            if len(at) == 1:
                found.append((order + self._further(context, at[0], order, most), at))
                break
            found.append((order, at))
        suggested, count = list[Suggestion](), 0
        seen = set[int]()
        for order, at in reversed(found):
            if len(at) == count:
                continue  # the same occurrences as of the longer run
            count = len(at)
            if count == 1:
                token = tokens[at[0]]
                seen.add(token)
                suggested.append((token, order, 1.0, True))
                continue
            for token, share, latest in self._followers(context[size - order :], at):
                if token not in seen:
                    seen.add(token)
                    suggested.append((token, order, share, latest))
            if len(suggested) >= MOST:
                return suggested[:MOST]
        return suggested

    def _further(self, context: Run, here: int, order: int, most: int) -> int:
        """Tokens before the only occurrence, beyond ``order`` and up to ``most``, that are the context's too."""
        tokens, size, more = self._index.tokens, len(context), order
        while more < most and more < here and tokens[here - more - 1] == context[size - more - 1]:
            more += 1
        return more - order

    def _followers(self, run: Run, at: list[int]) -> list[tuple[int, float, bool]]:
        """Token, share and whether it is the newest, newest first; worked out once until the run occurs again."""
        known = self._known.get(run)
        if known is not None and known[0] == len(at):
            return known[1]
        counts: dict[int, int] = {}
        tokens, recent = self._index.tokens, at[-RECENT:]
        for here in reversed(recent):
            counts[tokens[here]] = counts.get(tokens[here], 0) + 1
        newest = tokens[at[-1]]
        told = [(token, count / len(recent), token == newest) for token, count in counts.items()]
        self._known[run] = (len(at), told)
        return told


class TableSource:
    """A finished table: what it says of the context's ends, each token at its longest.

    A table that knows a run knows the ends of it, so lengths are tried upwards until one is unknown.
    """

    fixed = True

    def __init__(self, table: Table) -> None:
        self.reach = table.order
        self.get = table.get

    def suggest(self, context: Run) -> list[Suggestion]:
        """At most one token a length."""
        suggested, get, size = list[Suggestion](), self.get, len(context)
        for order in range(1, min(self.reach, size) + 1):
            entry = get(context[size - order :])
            if entry is None:
                break
            token, share = entry
            for at, known in enumerate(suggested):
                if known[0] == token:
                    del suggested[at]
                    break
            suggested.append((token, order, share, False))
        suggested.reverse()
        return suggested


class BranchingTable:
    """As ``TableSource``, of a table that keeps several continuations of a run: all of them, best first."""

    fixed = True

    def __init__(self, table: NgramTable) -> None:
        self.reach = table.order
        self._get, self._others = table.get, table.others

    def suggest(self, context: Run) -> list[Suggestion]:
        """What each end of ``context`` was followed by, longest end first, each token at its longest."""
        found = list[tuple[int, list[Entry]]]()
        for order in range(1, min(self.reach, len(context)) + 1):
            run = context[len(context) - order :]
            entry = self._get(run)
            if entry is None:
                break
            found.append((order, [entry, *self._others.get(run, ())]))
        seen, suggested = set[int](), list[Suggestion]()
        for order, told in reversed(found):
            for token, share in told:
                if token not in seen:
                    seen.add(token)
                    suggested.append((token, order, share, False))
        return suggested


class LaneSources:
    """The sources of one lane, kept up with its text.

    Args:
        sources: each with the index in the pool of the drafter it is of.
    """

    def __init__(self, sources: Sequence[tuple[int, Source]]) -> None:
        self.sources = list(sources)
        self.tail: Run = ()
        self._tokens: list[int] = []
        self._own: TextSource | None = None
        self._texts = [s for _, s in self.sources if isinstance(s, TextSource)]
        self._reach = max((s.reach for _, s in self.sources), default=1)

    def begin(self, prompt: Sequence[int]) -> None:
        """Start a text."""
        self.tail = tuple(prompt[-self._reach :])
        self._tokens, self._own = list(prompt), None
        for source in self._texts:
            source.begin(prompt)

    def extend(self, tokens: Sequence[int]) -> None:
        """Commit ``tokens``."""
        self.tail = (*self.tail, *tokens)[-self._reach :]
        self._tokens += tokens
        for source in self._texts if self._own is None else [*self._texts, self._own]:
            source.extend(tokens)

    @property
    def text(self) -> TextSource:
        """The text's own runs of up to ``ORDER`` tokens, whatever drafters there are; kept from the first call on."""
        if self._own is None:
            self._own = TextSource(1, ORDER)
            self._own.begin(self._tokens)
        return self._own


def source_of(drafter: object) -> Source | None:
    """The source that ``drafter`` is of, None where it is none: a model, or a table that still grows."""
    if isinstance(drafter, LookupDrafter):
        return TextSource(drafter.index.min_order, drafter.index.max_order)
    if isinstance(drafter, TableDrafter) and not drafter.info.settings.get("grows"):
        table = drafter.table
        return BranchingTable(table) if isinstance(table, NgramTable) and table.others else TableSource(table)
    return None


def rebuilt(info: DrafterInfo) -> Source | None:
    """The source of the drafter that ``info`` describes, made anew; None where it is none.

    Raises UsageError for a table that is not here, or is not the one that was recorded with.
    """
    settings = dict(info.settings)
    if info.kind == "lookup":
        known = {k: v for k, v in settings.items() if k in parameters(LookupDrafter)}
        return source_of(LookupDrafter(**known))
    if info.kind == "table" and settings.get("path"):
        return _table(str(settings["path"]), settings.get("sha256"))
    return None


@lru_cache(maxsize=16)
def _table(path: str, sha256: str | None) -> Source | None:
    made = TableDrafter(path)
    if sha256 not in (None, made.info.settings["sha256"]):
        raise UsageError(
            f"table {path!r} is not the one of the trace (another sha256); put that one there, or record the trace anew"
        )
    return source_of(made)
