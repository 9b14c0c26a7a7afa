"""What may follow a node, with the chance of each: the sources' suggestions weighed by the learned weights.

Plain Python on purpose: a context has a handful of candidates, for which numpy's calls cost more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from operator import itemgetter

from metasd.core.plans import Run, Source, TableSource
from metasd.policies.planner.cells import AGREE, DEPTH, RANK, TABLE, TABLE_ORDERS, TEXT, TEXT_ORDERS, depth_class
from metasd.policies.planner.grown import Grown

SIBLINGS = 8
"""Candidates kept of one node."""
CERTAIN = 0.98
"""Most that the chances of siblings may add up to."""
REMEMBERED = 20_000
"""Contexts whose table cells are kept."""

Cells = tuple[int, int, int, int]  # drafter, then cells of the blocks table and agree, then their order
Candidate = tuple[int, float, int, tuple[int, int, int, int, int], float]
"""Token, chance, its drafter, the cells set, and the chance that these alone say: what is learned from."""

_first = itemgetter(0)
_DEPTHS = tuple(DEPTH + depth_class(d) for d in range(64))
_RANKS = tuple(RANK + min(r, 3) for r in range(SIBLINGS))


class Candidates:
    """Candidates by context, from one lane's ``sources``; ``grown`` is a further table of the planner's own."""

    def __init__(self, sources: Sequence[tuple[int, Source]], grown: Grown | None) -> None:
        self._texts = [(d, s) for d, s in sources if not s.fixed]
        self._tables = [(d, s) for d, s in sources if s.fixed and isinstance(s, TableSource)]
        self._fixed = [(d, s) for d, s in sources if s.fixed and not isinstance(s, TableSource)]
        self._grown = grown
        self._kept: dict[Run, dict[int, Cells]] = {}
        self._both: dict[Run, dict[int, Cells]] = {}  # with those of ``grown`` as it was at that version
        self._version = -1
        self._gets = [s.get for _, s in self._tables]

    def after(self, context: Run, depth: int, weights: list[float]) -> list[Candidate]:
        """The ``SIBLINGS`` likeliest tokens behind ``context``, likeliest first; ``depth`` 0 for those of the root."""
        tables = self._of_tables(context[-TABLE_ORDERS:])
        rows: list[tuple[float, int, int, int, int, int]] = []
        add = rows.append
        none = weights[TABLE] + weights[AGREE]
        seen = set()
        for drafter, source in self._texts:
            for token, order, share, latest in source.suggest(context):
                if token in seen:
                    continue
                seen.add(token)
                cell = (order if order < TEXT_ORDERS else TEXT_ORDERS) * 6 + latest
                if share >= 0.5:
                    cell += 2 if share < 1 else 4
                said = tables.get(token)
                if said is not None:
                    _, table, agree, _ = said
                    add((weights[cell] + weights[table] + weights[agree], token, drafter, cell, table, agree))
                else:
                    add((weights[cell] + none, token, drafter, cell, TABLE, AGREE))
        for token, (drafter, table, agree, _) in tables.items():
            if token not in seen:
                add((weights[TEXT] + weights[table] + weights[agree], token, drafter, TEXT, table, agree))
        if len(rows) > 1:
            rows.sort(key=_first, reverse=True)
        return _valued(rows, _DEPTHS[depth], weights)

    def _of_tables(self, run: Run) -> dict[int, Cells]:
        """Cells of the tokens that tables suggest, worked out once a run and version of the grown one."""
        grown = self._grown
        if grown is not None and (self._version != grown.version or len(self._both) >= REMEMBERED):
            self._both, self._version = {}, grown.version
        memo = self._kept if grown is None else self._both
        told = memo.get(run)
        if told is None:
            end = self._known_end(run)
            told = memo.get(end)
            if told is None:
                told = self._worked_out(end)
            if len(memo) >= REMEMBERED:
                memo.clear()
            memo[run] = told
        return told

    def _known_end(self, run: Run) -> Run:
        """The longest end of ``run`` that some table knows: all say the same behind it. One token stays."""
        grown = self._grown
        while len(run) > 1 and not self._fixed:
            if grown is not None and grown.knows(run):
                return run
            for get in self._gets:
                if get(run) is not None:
                    return run
            run = run[1:]
        return run

    def _worked_out(self, run: Run) -> dict[int, Cells]:
        """As ``_of_tables``."""
        known = self._kept.get(run)
        if known is None:
            if len(self._kept) >= REMEMBERED:
                self._kept.clear()
            known = self._kept[run] = {}
            ends = [run[-order:] for order in range(1, len(run) + 1)]
            for drafter, table in self._tables:
                _merge_table(known, drafter, table, ends)
            for drafter, source in self._fixed:
                _merge(known, drafter, source, run)
        if self._grown is None:
            return known
        both = self._both[run] = dict(known)
        _merge(both, -1, self._grown, run)
        return both


def _merge(cells: dict[int, Cells], drafter: int, source: Source, run: Run) -> None:
    """Add what a table says behind ``run``: the longest run wins, equal ones are counted, the larger share stands."""
    for token, order, share, _ in source.suggest(run):
        if order > TABLE_ORDERS:
            continue
        table = TABLE + 3 * order + (0 if share < 0.5 else 1 if share < 1 else 2)
        told = cells.get(token)
        if told is None or order > told[3]:
            cells[token] = (drafter, table, AGREE + 1, order)
        elif order == told[3]:
            first = told[0] if told[1] >= table else drafter
            cells[token] = (first, max(told[1], table), min(told[2] + 1, AGREE + 3), order)


def _merge_table(cells: dict[int, Cells], drafter: int, source: TableSource, ends: Sequence[Run]) -> None:
    """``_merge`` of what a table has for the ``ends`` of a context, from the shortest up."""
    get = source.get
    found = []
    for end in ends[: source.reach]:
        entry = get(end)
        if entry is None:
            break
        found.append(entry)
    for order in range(len(found), 0, -1):
        token, share = found[order - 1]
        told = cells.get(token)
        if told is None or order > told[3]:
            table = TABLE + 3 * order + (0 if share < 0.5 else 1 if share < 1 else 2)
            cells[token] = (drafter, table, AGREE + 1, order)
        elif order == told[3]:
            table = TABLE + 3 * order + (0 if share < 0.5 else 1 if share < 1 else 2)
            first = told[0] if told[1] >= table else drafter
            cells[token] = (first, max(told[1], table), min(told[2] + 1, AGREE + 3), order)


def _valued(rows: Sequence[tuple[float, int, int, int, int, int]], depth: int, weights: list[float]) -> list[Candidate]:
    """Chances of the first of sorted rows; scaled where they add up to more than is possible."""
    deep = weights[depth]
    total, made = 0.0, list[Candidate]()
    for rank, (base, token, drafter, cell, table, agree) in zip(_RANKS, rows, strict=False):
        logit = base + deep + weights[rank]
        chance = 1 / (1 + exp(-logit)) if logit > -40 else 0.0
        total += chance
        made.append((token, chance, drafter, (cell, table, agree, depth, rank), chance))
    if total <= CERTAIN:
        return made
    scale = CERTAIN / total
    return [(token, chance * scale, drafter, cells, chance) for token, _, drafter, cells, chance in made]
