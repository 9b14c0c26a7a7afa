"""What may follow a node, with the chance of each: the sources' suggestions weighed by the learned weights.

Plain Python on purpose: a context has a handful of candidates, for which numpy's calls cost more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from operator import itemgetter

from metasd.core.plans import Run, Source
from metasd.policies.planner.cells import AGREE, DEPTH, RANK, TABLE, TABLE_ORDERS, TEXT, TEXT_ORDERS, depth_class

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

    def __init__(self, sources: Sequence[tuple[int, Source]], grown: Source | None) -> None:
        self._texts = [(d, s) for d, s in sources if not s.fixed]
        self._tables = [(d, s) for d, s in sources if s.fixed]
        self._grown = grown
        self._kept: dict[Run, dict[int, Cells]] = {}

    def after(self, context: Run, depth: int, weights: list[float]) -> list[Candidate]:
        """The ``SIBLINGS`` likeliest tokens behind ``context``, likeliest first; ``depth`` 0 for those of the root."""
        tables = self._of_tables(context)
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
                if token in tables:
                    _, table, agree, _ = tables[token]
                    add((weights[cell] + weights[table] + weights[agree], token, drafter, cell, table, agree))
                else:
                    add((weights[cell] + none, token, drafter, cell, TABLE, AGREE))
        for token, (drafter, table, agree, _) in tables.items():
            if token not in seen:
                add((weights[TEXT] + weights[table] + weights[agree], token, drafter, TEXT, table, agree))
        if len(rows) > 1:
            rows.sort(key=_first, reverse=True)
        return _valued(rows, _DEPTHS[depth], weights)

    def _of_tables(self, context: Run) -> dict[int, Cells]:
        """Cells of the tokens that tables suggest; those of fixed tables are worked out once a context."""
        run = context[-TABLE_ORDERS:]
        known = self._kept.get(run)
        if known is None:
            if len(self._kept) >= REMEMBERED:
                self._kept.clear()
            known = self._kept[run] = {}
            for drafter, source in self._tables:
                _merge(known, drafter, source, run)
        if self._grown is None:
            return known
        both = dict(known)
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
