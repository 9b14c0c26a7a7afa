"""Experiment c: what MetaSD-UCB depends on: beta, forgetting, lengths of drafts and answers, number of drafters."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.sim.compare.matrix import Matrix
from metasd.sim.oracle.rounds import fixed_arm_rounds
from metasd.sim.reproduce.finding import Claim, Outcome, Setting, found, over, rate, rounds, times
from metasd.traces.select import take_drafters

ANSWERS = (16, 32, 64, 128, 256, 512)
BETAS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def run(setting: Setting) -> Outcome:
    """One sweep after the other, each with the other choices at their defaults."""
    outcome = Outcome()
    _betas(setting, outcome)
    _lengths(setting, outcome)
    _numbers(setting, outcome)
    _answers(setting, outcome)
    return outcome


def _betas(setting: Setting, outcome: Outcome) -> None:
    specs = {beta: f"metasd-ucb:beta={beta}" for beta in (BETAS[::2] if setting.quick else BETAS)}
    reset = {beta: setting.play(spec, reset="prompt") for beta, spec in specs.items()}
    kept = {beta: setting.play(spec, reset="never") for beta, spec in specs.items()}
    for beta in specs:
        row: dict[str, Any] = {"beta": beta}
        for name, played in (("reset", reset[beta]), ("kept", kept[beta])):
            found_rate = rate(played)
            row |= {f"{name}, tokens per round": found_rate.value, f"{name}, interval": found_rate.interval}
        outcome.tables.setdefault("Beta, reset at every prompt and kept", []).append(row)
    small = min(reset, key=lambda beta: rounds(reset[beta]).sum())
    chosen = Claim("chosen empirically; value not recovered", "H")
    outcome.findings.append(
        found(f"beta {small:g} (best of the sweep) over 2", times(reset[small], reset[2.0]), chosen)
    )
    anew = Claim("the bandit starts anew at every query", "H")
    outcome.findings.append(found("kept over reset, beta 0.1", times(kept[0.1], reset[0.1]), anew))


def _lengths(setting: Setting, outcome: Outcome) -> None:
    depth = setting.trace.depth
    lengths = [n for n in ((1, 3, 8) if setting.quick else range(1, depth + 1)) if n <= depth]
    for length in lengths:
        played, matrix = setting.play("metasd-ucb", draft_length=length), Matrix(setting.trace, length)
        best = matrix.rounds[:, ~matrix.pool.plain]
        speed = rate(played)
        share = over(best[:, best.sum(axis=0).argmin()], rounds(played))
        row = {"draft length": length, "tokens per round": speed.value, "interval": speed.interval}
        row |= {"over the best single drafter": share.value, "interval of that": share.interval}
        outcome.tables.setdefault("Draft length", []).append(row)


def _answers(setting: Setting, outcome: Outcome) -> None:
    """Shorter answers: what trying every drafter at the start of each costs."""
    trace, pool = setting.trace, setting.trace.pool()
    cut = trace.lengths[~np.asarray(trace.ended)]  # nobody knows how these went on
    longest, drafting = int(min([trace.lengths.max(), *cut])), np.flatnonzero(~pool.plain)
    for budget in [n for n in ANSWERS if n < longest] + [longest]:
        arms = fixed_arm_rounds(trace, pool, budget=budget)[:, drafting]
        name = pool.arms[drafting[arms.sum(axis=0).argmin()]].name
        played = setting.play("metasd-ucb", budget=budget)
        speed, share = rate(played), times(played, setting.play(f"fixed:arm={name}", budget=budget))
        row = {
            "longest answer": budget,
            "best single drafter": name,
            "tokens per round": speed.value,
            "interval": speed.interval,
        }
        row |= {"over the best single drafter": share.value, "interval of that": share.interval}
        outcome.tables.setdefault("Length of the answers", []).append(row)


def _numbers(setting: Setting, outcome: Outcome) -> None:
    """Drafters from the best on, one more at a time: what worse ones in the pool cost."""
    trace = setting.trace
    matrix = Matrix(trace)
    of = matrix.pool.drafter_of[~matrix.pool.plain]
    order = of[np.argsort(matrix.rounds[:, ~matrix.pool.plain].sum(axis=0), kind="stable")].tolist()
    order = list(dict.fromkeys(order))
    whole = {}
    for n in range(1, len(order) + 1):
        part = take_drafters(trace, order[:n])
        whole[n] = Setting(part, setting.seeds, setting.quick).play("metasd-ucb")
        speed = rate(whole[n])
        row = {"drafters": n, "added": trace.drafters[order[n - 1]].name}
        row |= {"tokens per round": speed.value, "interval": speed.interval}
        outcome.tables.setdefault("Number of drafters, the best ones first", []).append(row)
    if len(order) > 1:
        grows = Claim("not measured; asked for by a reviewer", "H")
        what = f"{len(order)} drafters over the best 1"
        outcome.findings.append(found(what, times(whole[len(order)], whole[1]), grows))
