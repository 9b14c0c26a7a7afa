"""Experiment a: MetaSD-UCB against fixed drafters, the best one of each domain, other policies and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from metasd.core.records import Floats
from metasd.core.results import ALL
from metasd.sim.compare.bootstrap import Estimate
from metasd.sim.compare.matrix import Matrix
from metasd.sim.oracle.rounds import best_fixed
from metasd.sim.replay.run import Replay
from metasd.sim.reproduce import matched
from metasd.sim.reproduce.finding import NO_TRAINED, Claim, Outcome, Setting, found, over, rate, rounds, seconds

UCB = "metasd-ucb"
OURS = ("default:objective=rounds", "default", "planner")
RIVALS = {
    "random": Claim("UCB is faster than random choice", "M", low=1),
    "exp3": Claim("UCB is faster than EXP3", "M", low=1),
    "sequential-halving": Claim("UCB / SH: 1.07 on QA, 0.85 on Ja-En", "H"),
} | dict.fromkeys(OURS, matched.OURS)


def run(setting: Setting) -> Outcome:
    """Tokens per round and seconds of every policy, and MetaSD-UCB over each of them."""
    trace, outcome = setting.trace, Outcome()
    missing = "" if setting.trained else NO_TRAINED
    matrix = Matrix(trace)
    drafting = np.flatnonzero(~matrix.pool.plain)
    arms = matrix.rounds[:, drafting]
    played = {spec: setting.play(spec) for spec in (UCB, *RIVALS) if not (setting.quick and spec == "planner")}
    took = {spec: rounds(each) for spec, each in played.items()}
    own, _ = best_fixed(arms, trace.domains)
    overall, arm = best_fixed(arms, [ALL] * len(arms))
    outcome.findings.append(
        found("UCB, share of the best drafter of each domain", over(own, took[UCB]), matched.PAPER, missing=missing)
    )
    name = matrix.pool.arms[drafting[arm[0]]].name
    beats = Claim("faster than one single drafter for all", "M", low=1)
    outcome.findings.append(found(f"UCB over the best single drafter ({name})", over(overall, took[UCB]), beats))
    for spec, rival in RIVALS.items():
        if spec in took:
            outcome.findings.append(found(f"UCB over {spec}", over(took[spec], took[UCB]), rival))
    near = Claim("EXP3 is close to random choice", "H", low=0.95, high=1.05)
    outcome.findings.append(found("exp3 over random", over(took["random"], took["exp3"]), near))
    _single(outcome, matrix, took)
    matched.tell(outcome, setting, matrix, {spec: each for spec, each in played.items() if spec in (UCB, *OURS)})
    matched.one_for_all(outcome, setting, took[UCB])
    _rates(outcome, setting, played, over(trace.lengths.astype(np.float64), own))
    cells = {(c["domain"], c["arm"]): c["tokens_per_round"] for c in matrix.cells()}
    names = [matrix.pool.arms[k].name for k in drafting]
    values = [[cells[d, a] for a in names] for d in matrix.domains]
    outcome.maps["Tokens per round, domain by drafter"] = {"rows": matrix.domains, "columns": names, "values": values}
    return outcome


def _single(outcome: Outcome, matrix: Matrix, took: Mapping[str, Floats]) -> None:
    """A row a drafter: MetaSD-UCB and our default over it, on all prompts."""
    for k in np.flatnonzero(~matrix.pool.plain).tolist():
        row: dict[str, Any] = {"drafter": matrix.pool.arms[k].name}
        for spec in (UCB, OURS[0]):
            times = over(matrix.rounds[:, k], took[spec])
            row |= {f"{spec} over it": times.value, f"{spec}, interval": times.interval}
        outcome.tables.setdefault("Every single drafter", []).append(row)


def _rates(outcome: Outcome, setting: Setting, played: Mapping[str, Replay], best: Estimate) -> None:
    """Tokens per round of every policy and times plain decoding; ``best``: those of the best drafter of each domain."""
    plain = seconds(setting.play("fixed:arm=plain"))
    for spec, each in played.items():
        spent = seconds(each)
        speed = None if spent is None or plain is None else over(plain, spent)
        per_round = rate(each)
        row = {"policy": spec, "tokens per round": per_round.value, "interval": per_round.interval}
        row |= {"times plain, s": None if speed is None else speed.value}
        outcome.tables.setdefault("Policies", []).append(
            row | {"interval, s": None if speed is None else speed.interval}
        )
    outcome.tables["Policies"].append(
        {"policy": "best drafter of each domain", "tokens per round": best.value, "interval": best.interval}
        | {"times plain, s": None, "interval, s": None}
    )
