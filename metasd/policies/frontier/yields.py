"""What a round of a drafter says of its draft lengths: tokens as counted, or as its overlap lets expect them.

A round's accepted tokens are one throw of dice whose odds the overlap tells: token i of a draft is accepted, given
those before it, with chance 1 - TV(p, q) (Leviathan et al. 2023, arXiv 2211.17192, corollary 3.6), so that a draft of
m tokens yields 1 + sum_i prod_(j <= i) overlap_j, without the noise of the throw. At temperature 0 tokens are accepted
where two argmaxes meet, while overlap is that of the distributions at temperature 1: then it is right only up to
scale, and the scale is learned, as accepted tokens over expected ones.
"""

from __future__ import annotations

import numpy as np

from metasd.core.records import Bools, Floats, Ints, Rounds, StopReason
from metasd.policies.frontier.belief import geometric

EVEN = 20.0  # tokens that the belief in a scale of 1 is worth
LEND = 100.0  # expected tokens of its own up to which a drafter's scale is mostly that of all
STEADY = 0.99  # the running acceptance rate is taken to be no more
DRAFT_LIMIT = int(StopReason.DRAFT_LIMIT)


def yields(rounds: Rounds, drafter: Ints, lengths: Ints, draws: Floats, models: Bools, said: Floats) -> Floats:
    """[n, M] what ``rounds`` of ``drafter`` [n] teach of its draft ``lengths`` [n, M], in tokens.

    As ``expected`` where a model's round carries the overlap of all of its draft, else as ``counted``.

    Args: draws [n, 2] tokens that the drafter had accepted and rejected, models [n], said [B, D, 2] as in ``scale``,
        which the rounds are added to.
    """
    rate = draws[:, 0] / draws.sum(axis=1)
    made = counted(rounds, lengths, rate)
    if rounds.overlap is None:
        return made
    told = models & (np.isfinite(rounds.overlap).sum(axis=1) >= np.maximum(rounds.drafted, 1))
    if not told.any():
        return made
    chances, drafter = chain(rounds.overlap[told]), drafter[told]
    rounds = rounds.take(told)
    said[rounds.lane, drafter] += np.stack((rounds.accepted, chances.sum(axis=1)), axis=1)
    scales = scale(said[rounds.lane], drafter)
    made[told] = expected(chances, rounds.drafted, lengths[told], rate[told], scales)
    return made


def counted(rounds: Rounds, lengths: Ints, rate: Floats) -> Floats:
    """[n, M] tokens the rounds would have emitted at each of the drafter's draft ``lengths`` [n, M].

    Exact up to the length played, and beyond it unless all of the draft was accepted; then what a longer draft would
    have added is unknown, and its mean at the drafter's running acceptance ``rate`` [n] stands in.
    """
    known = np.minimum(rounds.accepted[:, None], lengths) + 1.0
    beyond = np.maximum(lengths - rounds.drafted[:, None], 0)
    full = (rounds.stop == DRAFT_LIMIT)[:, None] & (beyond > 0)
    return np.where(full, known + geometric(np.minimum(rate, STEADY)[:, None], beyond), known)


def chain(overlap: Floats) -> Floats:
    """[n, G] chance that draft tokens 1..i are all accepted, from ``overlap`` [n, G], NaN behind the draft (then 0)."""
    known = np.nan_to_num(np.asarray(overlap, np.float64), nan=0.0)
    return np.cumprod(known, axis=1)


def scale(said: Floats, drafter: Ints) -> Floats:
    """[n] accepted tokens for one that overlap lets expect, of ``drafter`` [n].

    Args: said [n, D, 2] accepted and expected tokens of every drafter's rounds so far.
    """
    pooled = said.sum(axis=1)
    shared = (pooled[:, 0] + EVEN) / (pooled[:, 1] + EVEN)
    own = said[np.arange(len(drafter)), drafter]
    return np.asarray((own[:, 0] + LEND * shared) / (own[:, 1] + LEND))


def expected(chances: Floats, drafted: Ints, lengths: Ints, rate: Floats, scale: Floats) -> Floats:
    """[n, M] as ``counted``, from the ``chain`` of ``chances`` [n, G] times ``scale`` [n]; ``drafted`` [n] >= 1."""
    sums = np.concatenate((np.zeros((len(chances), 1)), np.cumsum(chances, axis=1)), axis=1)
    known = np.take_along_axis(sums, np.minimum(lengths, drafted[:, None]), axis=1)
    beyond = np.maximum(lengths - drafted[:, None], 0)
    last = np.take_along_axis(chances, drafted[:, None] - 1, axis=1)
    return 1.0 + scale[:, None] * (known + last * geometric(np.minimum(rate, STEADY)[:, None], beyond))
