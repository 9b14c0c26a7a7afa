"""Against drafters that were made for something: the specialist of a prompt's own domain, and one made over all.

Policies play without those over all domains, as ``--drafter POOL`` and the paper do; such a drafter is a rival.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from metasd.core.prompts import TOTAL
from metasd.core.records import Floats, Ints
from metasd.sim.compare.matrix import Matrix
from metasd.sim.replay.run import Replay
from metasd.sim.reproduce.finding import (
    NO_TRAINED,
    TRAINED,
    Claim,
    Finding,
    Outcome,
    Setting,
    found,
    over,
    rounds,
    seconds,
)
from metasd.traces.select import take_drafters
from metasd.traces.trace import Trace

LENGTHS = (1, 2, 3, 4, 5, 6, 8)
"""Draft lengths among which a specialist gets the one that is fastest for it, in hindsight."""
PAPER = Claim("0.89 (small models), 0.92 (heads), of speed-up", "H", low=0.87, high=0.94)
OURS = Claim("not in the paper")


def without_total(trace: Trace) -> Trace:
    """``trace`` without the drafters made over all domains whose kind has others, as ``poolfolder.members``."""
    special = {d.kind for d in trace.drafters if d.settings.get("domain") not in (None, TOTAL)}
    kept = [i for i, d in enumerate(trace.drafters) if d.settings.get("domain") != TOTAL or d.kind not in special]
    return trace if len(kept) == len(trace.drafters) else take_drafters(trace, kept)


class Specialists:
    """The matched specialist of every domain of ``trace`` that has one; of several kinds the best in hindsight.

    Attributes: arms, by domain the arm of ``matrix``; prompts [M], those of these domains; rounds [M] it takes.
    """

    def __init__(self, trace: Trace, matrix: Matrix) -> None:
        self.matrix, self.arms = matrix, dict[str, int]()
        for domain in dict.fromkeys(trace.domains):
            own = [
                k
                for k, a in enumerate(matrix.pool.arms)
                if a.drafter >= 0 and matrix.pool.drafters[a.drafter].settings.get("domain") == domain
            ]
            if own:
                self.arms[domain] = min(own, key=lambda k: matrix.rounds[matrix.rows(domain), k].sum())
        rows = [matrix.rows(domain) for domain in self.arms]
        self.prompts: Ints = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        took = [matrix.rounds[at, self.arms[domain]] for domain, at in zip(self.arms, rows, strict=True)]
        self.rounds: Floats = np.concatenate(took) if took else np.zeros(0)

    def seconds(self, setting: Setting) -> Floats | None:
        """[M] seconds of the specialists, each at its best length; None without a clock."""
        trace, parts = setting.trace, list[Floats]()
        if trace.costs is None or not self.arms:
            return None
        for domain, k in self.arms.items():
            at, drafter = self.matrix.rows(domain), self.matrix.pool.arms[k].drafter
            lengths = [n for n in LENGTHS if n <= trace.draft_lengths[drafter]]
            spent = [self._of(setting, drafter, n)[at] for n in lengths]
            parts.append(min(spent, key=lambda each: float(each.sum())))
        return np.concatenate(parts)

    @staticmethod
    def _of(setting: Setting, drafter: int, length: int) -> Floats:
        played = setting.play(f"fixed:arm={setting.trace.drafters[drafter].name}@{length}", draft_length=length)
        spent = seconds(played)
        assert spent is not None
        return spent

    @property
    def trained(self) -> bool:
        """Whether all of them were trained, as the paper's are."""
        pool = self.matrix.pool
        return all(pool.drafters[pool.arms[k].drafter].kind in TRAINED for k in self.arms.values())


def tell(outcome: Outcome, setting: Setting, matrix: Matrix, played: Mapping[str, Replay]) -> None:
    """Findings and the table on ``played`` (by policy, MetaSD-UCB first) against the matched specialists."""
    own = Specialists(setting.trace, matrix)
    if not own.arms:
        return
    missing = "" if own.trained else NO_TRAINED if not setting.trained else "the best one of a domain is a table"
    at, spent = own.prompts, own.seconds(setting)
    for i, (spec, each) in enumerate(played.items()):
        claim = OURS if i else PAPER
        name = spec if i else "UCB"
        share = over(own.rounds, rounds(each)[at])
        outcome.findings.append(
            found(f"{name}, share of the matched specialist, rounds", share, claim, missing=missing)
        )
        took = seconds(each)
        if took is not None and spent is not None:
            what = f"{name}, share of the matched specialist at its best length, tokens/s"
            outcome.findings.append(found(what, over(spent, took[at]), OURS))  # the paper's are all of one length
    for domain, k in own.arms.items():
        where = matrix.rows(domain)
        speed = matrix.rate(domain, k)
        row: dict[str, Any] = {"domain": domain, "specialist": matrix.pool.arms[k].name}
        row |= {"tokens per round": speed.value, "interval": speed.interval}
        for spec, each in played.items():
            share = over(matrix.rounds[where, k], rounds(each)[where])
            row |= {f"{spec}, share": share.value, f"{spec}, interval": share.interval}
        outcome.tables.setdefault("Share of the matched specialist by domain, in rounds", []).append(row)


def one_for_all(outcome: Outcome, setting: Setting, took: Floats) -> None:
    """MetaSD-UCB, whose rounds are ``took`` [P], over every drafter that was made from all domains."""
    claim = Claim("faster on 4 of 5 tasks; 1.26 (small models), 1.09 (heads) on average", "H", low=1)
    matrix = Matrix(setting.whole or setting.trace)
    of = [None if a.drafter < 0 else matrix.pool.drafters[a.drafter] for a in matrix.pool.arms]
    arms = [k for k, d in enumerate(of) if d is not None and d.settings.get("domain") == TOTAL]
    if not arms:
        none, why = over(np.full_like(took, np.nan), took), "no one-for-all drafter in this trace"
        outcome.findings.append(found("UCB over one-for-all", none, claim, missing=why))
    others = any(d.kind not in TRAINED for d in setting.trace.drafters)
    for k in arms:
        outcome.findings.append(_over_one(matrix, k, took, claim, "the policy had tables or lookup too" * others))
        for domain in matrix.domains:
            at = matrix.rows(domain)
            times, rate = over(matrix.rounds[at, k], took[at]), matrix.rate(domain, k)
            row = {"one-for-all": matrix.pool.arms[k].name, "domain": domain, "tokens per round": rate.value}
            row |= {"interval": rate.interval, "UCB over it": times.value, "interval of that": times.interval}
            outcome.tables.setdefault("Drafters made over all domains", []).append(row)


def _over_one(matrix: Matrix, k: int, took: Floats, claim: Claim, missing: str) -> Finding:
    arm = matrix.pool.arms[k]
    if matrix.pool.drafters[arm.drafter].kind not in TRAINED:
        missing = f"{arm.name} was counted, not trained"
    return found(f"UCB over one-for-all ({arm.name})", over(matrix.rounds[:, k], took), claim, missing=missing)
