"""A contender of ours: every text with its seconds, and what the seconds of passes alone would have allowed."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from metasd.bench.jobs import Job
from metasd.bench.scene import opened, texts_of
from metasd.core.costs import CostModel
from metasd.core.pool import Pool
from metasd.core.records import Rounds
from metasd.runtime import contenders as live
from metasd.runtime.costs import reads_costs
from metasd.runtime.registry import build_drafters

WARM = 8
"""Tokens decoded before the clock starts, by a contender that is thrown away."""


def decode(settings: dict[str, Any], scene: dict[str, Any], job: Job) -> dict[str, Any]:
    """One run: ``texts`` with what each took, and the share of model passes in all rounds."""
    target, texts = opened(settings), texts_of(scene)
    build = partial(build_drafters, settings["drafters"], target, draft_length=settings["draft_length"])
    costs = None if scene["costs"] is None else CostModel.from_json(scene["costs"])
    known = costs if job.kind == "policy" and reads_costs(job.spec) else None
    warm = live.Decoding(min(WARM, settings["max_new_tokens"]), costs=known)
    live.run(target, [_entrant(job, build)], texts[:1], warm)
    entrant = _entrant(job, build)
    entrant.prepare(target, texts, live.Decoding(settings["max_new_tokens"], costs=known), None)
    made = []
    for at in range(len(texts)):
        began, first = time.perf_counter(), len(entrant.rounds)
        entrant.decode_one()
        seconds = time.perf_counter() - began
        tokens, prompt = entrant.session.texts[at], len(texts[at][2])
        made.append({"seconds": seconds, "tokens": tokens} | _counted(entrant, entrant.rounds[first:], prompt, costs))
    return {
        "texts": made,
        "forward_share": entrant.session.forward_share,
        "arms": entrant.ledger.totals().arms,
    }


def _entrant(job: Job, build: live.Build) -> live.Contender:
    if job.kind == "plain":
        return live.plain()
    if job.kind == "arm":
        return live.fixed_arm(build, job.spec)
    (entrant,) = live.contenders([job.spec], build, baseline=False, prior=None)
    return entrant


def _counted(
    entrant: live.Contender, rounds: list[Rounds], prompt: int, costs: CostModel | None
) -> dict[str, float | None]:
    allowed = None
    if costs is not None:
        pool, plans = entrant.pool, entrant.policy.plans
        allowed = sum(allowed_seconds(costs, pool, r, prompt, plans=plans) for r in rounds)
    return {
        "rounds": len(rounds),
        "checked": sum(int(r.nodes[0]) for r in rounds),
        "decoding": sum(float(r.seconds[0]) for r in rounds if r.seconds is not None),
        "allowed": allowed,
    }


def allowed_seconds(costs: CostModel, pool: Pool, rounds: Rounds, prompt: int, *, plans: bool) -> float:
    """Seconds of the models' passes alone in one live round behind a prompt of so many tokens.

    The target's pass by its width and context, a model drafter's by its tokens; nothing for what works on tokens alone.
    What a plan asked of a model drafter is not kept by number, so there its measured seconds stand.
    """
    context = prompt + rounds.position
    seconds = float(costs.verify(rounds.nodes, context)[0]) - costs.overhead
    if plans:
        asked = bool((~pool.free).any()) and rounds.draft_seconds is not None and rounds.catch_up_seconds is not None
        return seconds + (float((rounds.draft_seconds + rounds.catch_up_seconds)[0]) if asked else 0.0)  # type: ignore[operator]
    arm = int(rounds.arm[0])
    drafter = int(pool.drafter_of[arm])
    if pool.plain[arm] or pool.free[drafter]:
        return seconds
    column = costs.columns(pool)[[drafter]]
    asking: Any = costs.draft(column, rounds.drafted) + costs.catch_up(column, rounds.catch_up)
    return seconds + float(np.asarray(asking)[0])
