"""Experiment f: all drafters in every round, against one that is chosen and against what the planner keeps."""

from __future__ import annotations

from typing import Any

from metasd.core import clocks
from metasd.core.costs import CostModel
from metasd.core.errors import TraceError
from metasd.sim.replay.run import Replay
from metasd.sim.reproduce.finding import Claim, Outcome, Setting, found, over, rate, rounds, seconds, times

ALL = "draft-with-all"
SPECS = ("metasd-ucb", "default", "planner")
"""What it is held against."""
OWN = "the trace's own"


def run(setting: Setting) -> Outcome:
    """Tokens per round, tokens checked and seconds, on the trace's own clock and on the modelled ones that fit."""
    outcome = Outcome()
    if setting.trace.prompt_tokens is None:
        outcome.lacks = "the trace does not keep its prompts' tokens, which plans are made from"
        return outcome
    for name, costs in _clocks(setting).items():
        played = {spec: setting.play(spec, costs=costs) for spec in (ALL, *SPECS)}
        plain = setting.play("fixed:arm=plain", costs=costs)
        outcome.tables.setdefault("Every drafter in every round, against choosing", []).extend(
            _row(name, spec, each, plain) for spec, each in played.items()
        )
        more = Claim("not recovered; it cannot be less", "M", low=1)
        what = f"all drafters over UCB, tokens per round ({name} clock)"
        outcome.findings.append(found(what, times(played[ALL], played["metasd-ucb"]), more))
        for spec in SPECS:
            took, all_took = seconds(played[spec]), seconds(played[ALL])
            if took is None or all_took is None:
                continue
            collapses = Claim("verification grows with the drafters, the speed-up collapses", "M", low=1)
            claim = collapses if spec == SPECS[0] else Claim("not in the paper")
            what = f"{spec} over all drafters, tokens/s ({name} clock)"
            outcome.findings.append(found(what, over(all_took, took), claim))
    return outcome


def _clocks(setting: Setting) -> dict[str, CostModel | None]:
    """The trace's own clock (None: as recorded), then the shipped ones that know all its drafters; quick: the first."""
    known: dict[str, CostModel | None] = {OWN: None}
    pool = setting.trace.pool()
    for name in clocks.shipped():
        costs = CostModel.load(clocks.CLOCKS / f"{name}.json")
        try:
            costs.columns(pool)
        except TraceError:
            continue
        known[name] = costs
        if setting.quick:
            break
    return known


def _row(clock: str, spec: str, played: Replay, plain: Replay) -> dict[str, Any]:
    speed, checked = rate(played), over(played.by_prompt(played.ledger.counts["checked"]), rounds(played))
    spent, base = seconds(played), seconds(plain)
    paid = None if spent is None or base is None else over(base, spent)
    row = {"clock": clock, "policy": spec, "tokens per round": speed.value, "interval": speed.interval}
    row |= {"checked a round": checked.value, "times plain, s": None if paid is None else paid.value}
    return row | {"interval, s": None if paid is None else paid.interval}
