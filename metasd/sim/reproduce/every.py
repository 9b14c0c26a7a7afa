"""Experiment f: all drafters in every round, against one that is chosen and against what the planner keeps."""

from __future__ import annotations

from typing import Any

from metasd.core import clocks
from metasd.core.costs import CostModel
from metasd.core.errors import TraceError, UsageError
from metasd.sim.replay.run import Replay
from metasd.sim.replay.trees import sourceless
from metasd.sim.reproduce.finding import Claim, Outcome, Setting, found, over, rate, rounds, seconds, times
from metasd.traces.trace import Trace

ALL = "draft-with-all"
SPECS = ("metasd-ucb", "default", "planner")
"""What it is held against."""


def run(setting: Setting) -> Outcome:
    """Tokens per round, tokens checked and seconds, on the trace's own clock and on the modelled ones that fit."""
    outcome = Outcome()
    try:
        for name, costs in _clocks(setting).items():
            _on(name, costs, setting, outcome)
    except UsageError as error:  # no prompts' tokens, or a table that is not here: nothing to make trees from
        return Outcome(lacks=str(error))
    return outcome


def _on(name: str, costs: CostModel | None, setting: Setting, outcome: Outcome) -> None:
    played = {spec: setting.play(spec, costs=costs) for spec in (ALL, *SPECS)}
    plain = setting.play("fixed:arm=plain", costs=costs)
    outcome.tables.setdefault("Every drafter in every round, against choosing", []).extend(
        _row(name, spec, each, plain) for spec, each in played.items()
    )
    missing = _missing(setting.trace, costs or setting.trace.costs)
    more = Claim("not recovered; it cannot be less", "M", low=1)
    what = f"all drafters over UCB, tokens per round ({name})"
    outcome.findings.append(found(what, times(played[ALL], played["metasd-ucb"]), more, missing=missing))
    collapses = Claim("verification grows with the drafters, the speed-up collapses", "M", low=1)
    for spec in SPECS:
        took, all_took = seconds(played[spec]), seconds(played[ALL])
        if took is not None and all_took is not None:
            claim = collapses if spec == SPECS[0] else Claim("not in the paper")
            what = f"{spec} over all drafters, tokens/s ({name})"
            outcome.findings.append(found(what, over(all_took, took), claim, missing=missing))


def _missing(trace: Trace, costs: CostModel | None) -> str:
    """Why ``ALL`` is less than all drafters here; empty where it is all of them."""
    pool = trace.pool()
    models = [d for d in pool.drafters if not d.free]
    bare = sourceless(trace)
    longest = sum(pool.longest)
    if len(models) > 1:
        return "a plan asks one model drafter, and the pool has several"
    if models and (trace.sampled or trace.draft_tokens is None):
        return f"the trace does not say what {models[0].name} drafts in a tree"
    if bare:
        return f"{bare[0]} suggests no branches"
    if costs is not None and costs.widest - 1 < longest:
        return f"the clock knows passes of {costs.widest} tokens, all drafts need up to {longest + 1}"
    return ""


def _clocks(setting: Setting) -> dict[str, CostModel | None]:
    """The trace's own clock or none (None: as recorded), then shipped ones that know all its drafters; quick: one."""
    own = "no clock" if setting.trace.costs is None else "the trace's clock"
    known: dict[str, CostModel | None] = {own: None}
    pool = setting.trace.pool()
    for name in clocks.shipped():
        costs = CostModel.load(clocks.CLOCKS / f"{name}.json")
        try:
            costs.columns(pool)
        except TraceError:
            continue
        known[f"clock {name}"] = costs
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
