"""Sentences about drafters that cost more than they save: before a run from the costs, after it from its rounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.pool import Pool
from metasd.core.records import Rounds
from metasd.core.worth import dents, hopeless
from metasd.runtime.contenders import Contender, plain_of
from metasd.runtime.conversation import EncodedPrompt

ENOUGH = 8
"""Rounds of a drafter from which something is said of it; plain ones from which they say what plain decoding takes."""


def beforehand(costs: CostModel, pool: Pool, context: int, *, timed: bool) -> list[str]:
    """A sentence for each drafter that cannot pay at ``context`` tokens, and for passes that wider ones undercut.

    timed: whether a drafter that cannot pay is then left out.
    """
    rest = "it is not played" if timed else "a policy that counts rounds plays it all the same"
    took = {int(width): f"{1000 * s:,.1f} ms" for width, s in zip(costs.widths, costs.verify_seconds, strict=True)}
    uneven = [
        f"a pass of {narrow} tokens takes {took[narrow]} here, one of {wide} only {took[wide]}: drafts of {wide - 1} "
        f"cost less to check than drafts of {narrow - 1}, or the measurement was disturbed (--costs measure repeats it)"
        for narrow, wide in dents(costs, pool)
    ]
    return uneven + [
        f"drafter {name} costs more than it can save here: even with every draft token accepted it is slower than "
        f"plain decoding, at every draft length; {rest}"
        for name in hopeless(costs, pool, context)
    ]


def afterwards(
    rounds: Sequence[Rounds],
    pool: Pool,
    *,
    plain: float | None = None,
    costs: CostModel | None = None,
    context: int = 0,
) -> list[str]:
    """A sentence for each drafter whose rounds, if ``ENOUGH``, took longer than plain decoding of their tokens takes.

    Args:
        rounds: of one lane, with their seconds.
        plain: seconds of a token decoded plainly, where that ran beside. Else the run's own plain rounds say it, where
            there are ``ENOUGH``, else ``costs`` at ``context`` tokens; where nothing says it, there are no sentences.
    """
    told = [(r, s) for r in rounds if (s := r.seconds) is not None]
    if plain is None:
        own = [float(s[0]) for r, s in told if pool.plain[r.arm[0]]]
        if len(own) >= ENOUGH:
            plain = float(np.median(own))
        elif costs is not None:
            plain = float(costs.verify(np.array(0), np.array(context)))
        else:
            return []
    said = []
    for d, drafter in enumerate(pool.drafters):
        mine = [(int(r.emitted[0]), float(s[0])) for r, s in told if _by(pool, r, d)]
        tokens, seconds = sum(n for n, _ in mine), sum(s for _, s in mine)
        if len(mine) >= ENOUGH and seconds > tokens * plain:
            said.append(
                f"{drafter.name} cost more than it saved: {len(mine)} rounds of it took {seconds:.2f} s for {tokens} "
                f"tokens, which plain decoding makes in {tokens * plain:.2f} s"
            )
    return said


def _by(pool: Pool, rounds: Rounds, drafter: int) -> bool:
    """Whether the round is one that the drafter was chosen for."""
    arm = int(rounds.arm[0])
    return not pool.plain[arm] and int(pool.drafter_of[arm]) == drafter


def of_run(entrants: Sequence[Contender], costs: CostModel | None, texts: Sequence[EncodedPrompt]) -> list[str]:
    """``afterwards`` of the last of ``entrants``, measured against plain decoding where that ran beside it."""
    chosen, beside = entrants[-1], plain_of(entrants[:-1])
    totals = None if beside is None else beside.ledger.totals()
    plain = totals.seconds / totals.emitted if totals is not None and totals.seconds else None
    context = round(sum(len(tokens) for _, _, tokens in texts) / max(len(texts), 1))
    return afterwards(chosen.rounds, chosen.pool, plain=plain, costs=costs, context=context)
