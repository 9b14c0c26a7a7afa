"""All texts of a server, in kernels: what ``metasd.serve.text.Texts`` does a drafter and a token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.records import Revealed
from metasd.core.signals import F
from metasd.drafters import LookupDrafter, SuffixDrafter, TableDrafter, TextDrafterBase
from metasd.serve.fast import automaton, commit, grams, look
from metasd.serve.fast.arena import Arena
from metasd.serve.fast.earlier import Earlier
from metasd.serve.records import Record
from metasd.serve.text import Asked, joined, shared_index

SPARE = 256
"""Tokens that a new text has room to grow by, at least."""


@dataclass(slots=True, eq=False)
class FastText:
    """One text: its block of whole numbers, that of floats, tokens there is room for and tokens there are."""

    block: int
    floats: int
    room: int
    length: int
    prompt: int
    record: Record | None


class FastTexts:
    """As ``metasd.serve.text.Texts``, for drafters that ``earlier.possible`` names."""

    def __init__(self, drafters: Sequence[TextDrafterBase], watch: bool, censored: bool) -> None:
        self._arena = Arena()
        self._earlier = Earlier(self._arena, drafters)
        self._count, self._watch = len(drafters), int(watch) + int(watch and censored)
        self._longest = max((d.draft_length for d in drafters), default=1)
        self._ring = 1 << (2 * self._longest + 4).bit_length()
        index = shared_index(drafters)
        self._orders = index.min_order, index.max_order

    def open(self, tokens: Sequence[int], record: Record | None = None) -> FastText:
        """A text that begins with ``tokens``: all that stood before the first draft."""
        text = FastText(-1, self._arena.take(self._floats, floats=True), 0, len(tokens), len(tokens), record)
        self._place(text, len(tokens) + max(SPARE, len(tokens) // 2), tokens)
        return text

    def close(self, text: FastText) -> None:
        """The text is over: drafters that grow learn its answer."""
        self._earlier.learn(text.block, text.length - text.prompt)
        self._arena.give(text.block, self._size(text.room))
        self._arena.give(text.floats, self._floats, floats=True)

    def commit(
        self, lanes: Sequence[int], texts: Sequence[FastText], tokens: Sequence[Sequence[int]]
    ) -> Revealed | None:
        """Texts grow by ``tokens``; what that says of every proposal, where it is wanted."""
        most = self._ring - self._longest - 2  # so that the ring still has all that is judged
        parts = []
        while max(map(len, tokens), default=0) > most:  # some steps were not seen
            parts.append(self._commit(lanes, texts, [t[:most] for t in tokens], min(self._watch, 1)))
            tokens = [t[most:] for t in tokens]
        last = self._commit(lanes, texts, tokens, self._watch)
        return None if not self._watch else joined([*parts, last], lanes) if parts else last

    def ask(self, texts: Sequence[FastText]) -> Asked:
        """Who has a proposal now, what everybody shows, and the first token of each proposal."""
        offers = np.empty((len(texts), self._count, 2), np.int64)
        shown = np.empty((len(texts), self._count * F), np.float32)
        where = np.array([(t.block, t.floats, 0, 0, 0) for t in texts], np.int64).reshape(-1, 5)
        arena, earlier = self._arena, self._earlier
        commit.peek(arena.ints, arena.floats, where, earlier.settings, earlier.outputs, offers, shown)
        return Asked(offers[:, :, 0] > 0, shown.reshape(-1, self._count, F), offers[:, :, 1])

    def draft(self, text: FastText, drafter: int, length: int) -> list[int]:
        """At most ``length`` tokens of what one drafter said when it was asked."""
        return self._offer(text, text.length - text.prompt, drafter)[:length]

    # -- helpers ------------------------------------------------------------------------------------------------

    @property
    def _floats(self) -> int:
        return self._count * (3 + self._ring * F)

    def _layout(self, room: int) -> tuple[list[int], int]:
        return grams.layout(room, max(self._count, 1), self._longest, self._ring, *self._orders)

    def _size(self, room: int) -> int:
        return self._layout(room)[1]

    def _place(self, text: FastText, room: int, tokens: Any) -> None:
        """Put a text into a block with room for so many tokens, out of the one where it has been, if any."""
        head, size = self._layout(room)
        old, block = text.block, self._arena.take(size)
        ints = self._arena.ints
        head[grams.LENGTH], head[grams.PROMPT] = text.length, text.prompt
        if old >= 0:
            head[grams.SEEN : grams.TOKENS] = ints[old + grams.SEEN : old + grams.TOKENS].tolist()
        ints[block : block + grams.HEAD] = head
        first = block + head[grams.TOKENS]
        ints[first : first + text.length] = tokens
        slots, reach = automaton.slots(room), self._earlier.reach
        commit.begin(ints, self._arena.floats, block, text.floats, old, reach, slots)
        if old >= 0:
            self._arena.give(old, self._size(text.room))
        text.block, text.room = block, room

    def _commit(
        self, lanes: Sequence[int], texts: Sequence[FastText], tokens: Sequence[Sequence[int]], watch: int
    ) -> Revealed:
        count, at = self._count, 0
        where: list[tuple[int, ...]] = []
        for lane, text, new in zip(lanes, texts, tokens, strict=True):
            if text.length + len(new) > text.room:
                first = text.block + int(self._arena.ints[text.block + grams.TOKENS])
                known = self._arena.ints[first : first + text.length].copy()
                self._place(text, 2 * (text.length + len(new)), known)
            where.append((text.block, text.floats, lane, at, at + len(new)))
            at += len(new)
        flat = np.array([token for new in tokens for token in new], np.int64)
        table = np.array(where, np.int64).reshape(-1, 5)
        told = np.empty((at, count))
        most = (at + len(texts) * self._longest) * count if watch else 0
        rows, shown = np.empty((most, 6), np.int64), np.empty((most, count * F), np.float32)
        earlier, arena = self._earlier, self._arena
        made = commit.commit(
            arena.ints, arena.floats, table, flat, earlier.settings, earlier.outputs, watch, earlier.reach > 0,
            told, rows, shown,
        )  # fmt: skip
        begins = np.array([t.length - t.prompt for t in texts], np.int64)
        for text, new in zip(texts, tokens, strict=True):
            text.length += len(new)
            if text.record is not None:
                self._note(text, new)
        return _revealed(table, begins, told, rows[:made], shown[:made].reshape(made, count, F))

    def _note(self, text: FastText, tokens: Sequence[int]) -> None:
        """Keep what stood in front of each of the last tokens."""
        assert text.record is not None
        for position, token in enumerate(tokens, text.length - text.prompt - len(tokens)):
            at = text.floats + int(look.signals_of(self._arena.ints, text.block, position))
            signals = self._arena.floats[at : at + self._count * F].reshape(-1, F)
            offers = [self._offer(text, position, d) for d in range(self._count)]
            text.record.add(int(token), offers, signals.tolist())

    def _offer(self, text: FastText, position: int, drafter: int) -> list[int]:
        ints = self._arena.ints
        row = int(look.row_of(ints, text.block, position, drafter))
        offered: list[int] = ints[row + look.FIRST : row + look.FIRST + int(ints[row + look.OFFERED])].tolist()
        return offered


def _revealed(
    table: NDArray[np.int64], begins: NDArray[np.int64], told: NDArray[np.float64], rows: NDArray[np.int64],
    signals: NDArray[np.float32],
) -> Revealed:  # fmt: skip
    lengths = table[:, 4] - table[:, 3]
    return Revealed(
        lane=np.repeat(table[:, 2], lengths),
        position=np.arange(len(told)) + np.repeat(begins - table[:, 3], lengths),
        agreement=told,
        start_lane=rows[:, 0],
        start=rows[:, 1],
        drafter=rows[:, 2],
        proposed=rows[:, 3],
        accepted=rows[:, 4],
        ended=np.zeros(len(rows), bool),
        censored=rows[:, 5] > 0,
        signals=signals,
    )


@cache
def warm() -> None:
    """Have all kernels compiled, which takes seconds, before the first request comes."""
    made = FastTexts([LookupDrafter(), SuffixDrafter(keeps=8), TableDrafter()], True, False)
    for _ in range(3):
        text = made.open([1, 2, 1, 2])
        made.commit([0], [text], [[1] * (2 * SPARE)])
        made.ask([text])
        made.draft(text, 0, 1)
        made.close(text)
