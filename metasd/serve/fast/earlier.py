"""What requests leave behind for later ones: the table that grows, and the outputs that the suffix drafter reads.

The twin of ``TableDrafter.closed`` and of ``metasd.drafters.suffix.Outputs``, with shipped tables beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metasd.drafters import LookupDrafter, SuffixDrafter, TableDrafter, TextDrafterBase
from metasd.drafters.ngrams import ORDER, NgramCounts, NgramTable
from metasd.drafters.table import GROWTH_LIMIT
from metasd.serve.fast import automaton, commit, look, tables
from metasd.serve.fast.arena import Arena


def possible(drafters: Sequence[TextDrafterBase]) -> bool:
    """Whether kernels can stand for these drafters: of the classes that ship, one suffix drafter at most, all fresh."""
    kinds = [type(d) for d in drafters]
    tables_of = [d.table for d in drafters if isinstance(d, TableDrafter)]
    fresh = all(isinstance(t, NgramTable) or (isinstance(t, NgramCounts) and not t.tokens) for t in tables_of)
    return fresh and kinds.count(SuffixDrafter) <= 1 and set(kinds) <= {LookupDrafter, SuffixDrafter, TableDrafter}


class Earlier:
    """See the module docstring.

    settings [D, 7]: ``look.KIND`` to ``look.ORDER`` of each drafter. outputs [5]: ``look.VERSION`` to
    ``look.OLD_NUMBER``. reach: of the suffix drafter, 0 without one.
    """

    def __init__(self, arena: Arena, drafters: Sequence[TextDrafterBase]) -> None:
        self._arena = arena
        self.settings: NDArray[np.int64] = np.zeros((len(drafters), 7), np.int64)
        self.outputs: NDArray[np.int64] = np.array([0, -1, -1, 1, 0], np.int64)
        self.reach = self._half = 0
        self._grown, self._room = -1, 1 << 10  # block of the table that grows, and how many entries it has room for
        for d, drafter in enumerate(drafters):
            known = drafter.info.settings
            row = self.settings[d]
            row[look.LENGTH] = drafter.draft_length
            if isinstance(drafter, TableDrafter):
                row[look.KIND], row[look.ORDER] = look.TABLE, drafter.table.order
                row[look.BLOCK] = self._shipped(drafter.table) if isinstance(drafter.table, NgramTable) else self._new()
                continue
            row[look.LEAST], row[look.MOST] = int(known["min_match"]), int(known["max_match"])
            row[look.KIND] = look.LOOKUP if isinstance(drafter, LookupDrafter) else look.SUFFIX
            row[look.EARLIEST] = known.get("occurrence") == "earliest"
            if isinstance(drafter, SuffixDrafter):
                self.reach, self._half = int(known["max_match"]), int(known["keeps"]) // 2
                for half in (look.YOUNG, look.OLD):
                    self.outputs[half] = arena.take(automaton.size(max(self._half, 2)))
                    self._begin(int(self.outputs[half]))

    def learn(self, text: int, answer: int) -> None:
        """A text is over; it is in block ``text`` and its answer has ``answer`` tokens."""
        if self._grown >= 0:
            self._widen(min(answer, GROWTH_LIMIT))
        half, most = -1, min(answer, self._half - 1)
        ints = self._arena.ints
        if self._half >= 2 and answer:
            half = int(self.outputs[look.YOUNG])
            if int(ints[half + automaton.COUNT]) + most + 1 > self._half:
                half = self._turn()
            self.outputs[look.VERSION] += 1
        room = GROWTH_LIMIT - int(ints[self._grown + tables.TOKENS]) if self._grown >= 0 else 0
        commit.learn(ints, text, self._grown, ORDER, room, half, most)

    def _begin(self, half: int) -> None:
        cap = max(self._half, 2)
        automaton.begin(self._arena.ints, half, cap, self.reach, automaton.slots(cap) - 1)

    def _turn(self) -> int:
        """The younger half is full: it is the older one now, and the older one's place is the new younger one's."""
        young, old = self.outputs[look.YOUNG], self.outputs[look.OLD]
        self.outputs[look.YOUNG], self.outputs[look.OLD] = old, young
        number = self.outputs[look.YOUNG_NUMBER]
        self.outputs[look.YOUNG_NUMBER], self.outputs[look.OLD_NUMBER] = number + 1, number
        self._begin(int(old))
        return int(old)

    def _shipped(self, table: NgramTable) -> int:
        """The block of a finished table."""
        rows = np.zeros((len(table), tables.PER_ENTRY), np.int32)
        for row, (run, (token, share)) in zip(rows, table.entries().items(), strict=True):
            row[: len(run)] = run
            row[tables.ORDER :] = len(run), token, round(255 * share), 255
        block, source = self._block(max(len(rows), 1)), self._arena.take(max(rows.size, 1))
        self._arena.ints[source : source + rows.size] = rows.reshape(-1)
        tables.fill(self._arena.ints, block, source, len(rows))
        self._arena.give(source, max(rows.size, 1))
        return block

    def _new(self) -> int:
        """The block of the one table that grows, whoever reads it: all of them learn the same."""
        if self._grown < 0:
            self._grown = self._block(self._room)
        return self._grown

    def _block(self, cap: int) -> int:
        block = self._arena.take(tables.size(cap))
        tables.begin(self._arena.ints, block, cap, tables.mask(cap))
        return block

    def _widen(self, answer: int) -> None:
        """Room for an answer of so many tokens in the table that grows."""
        used = int(self._arena.ints[[self._grown + tables.ENTRIES, self._grown + tables.PAIRS]].max())
        if used + ORDER * answer <= self._room:
            return
        old, size, self._room = self._grown, tables.size(self._room), 2 * (used + ORDER * answer)
        self._grown = self._block(self._room)
        tables.move(self._arena.ints, old, self._grown)
        self._arena.give(old, size)
        self.settings[self.settings[:, look.BLOCK] == old, look.BLOCK] = self._grown
