"""Rounds, contexts and revealed outcomes of one lane, made by hand, and the uniforms that a lane draws."""

from __future__ import annotations

import itertools
import random

import numpy as np

from metasd.core.noise import uniform_at
from metasd.core.records import NO_END, Context, Revealed, settle
from metasd.core.signals import F


def one_round(pool, arm, accepted, *, remaining=1000, proposed=None, seconds=None, catch_up_seconds=0.0, lanes=1):
    """A round on every lane, of ``arm`` with ``accepted``, one for all or [lanes]; ``seconds`` of the target's pass."""
    n, parts = np.full, {}
    if seconds is not None:
        spent = {"draft": 0.0, "verify": float(seconds), "catch_up": float(catch_up_seconds)}
        parts = {f"{name}_seconds": n(lanes, value) for name, value in spent.items()}
    return settle(
        lane=np.arange(lanes),
        prompt=np.arange(lanes),
        arm=n(lanes, arm),
        draft_length=n(lanes, pool.draft_length[arm]),
        position=n(lanes, 0),
        remaining=n(lanes, remaining),
        proposed=n(lanes, pool.max_draft_length if proposed is None else proposed),
        agreed=n(lanes, accepted),
        ends_in=n(lanes, NO_END),
        catch_up=n(lanes, 0),
        **parts,
    )


def context(pool, *, remaining=1000, available=None, cost=None, signals=None, pays=None):
    shown = np.ones((1, len(pool)), bool) if available is None else np.array([available], bool)
    return Context(np.zeros(1, np.int64), np.array([remaining]), shown, signals=signals, cost=cost, pays=pays)


def revealed(agreement, first=0):
    """Positions ``first``.. of lane 0 with the rows of ``agreement``; no starts."""
    rows, none = len(agreement), np.zeros(0, np.int64)
    return Revealed(
        lane=np.zeros(rows, np.int64),
        position=np.arange(first, first + rows),
        agreement=np.asarray(agreement, float),
        start_lane=none,
        start=none,
        drafter=none,
        proposed=none,
        accepted=none,
        ended=none.astype(bool),
        censored=none.astype(bool),
        signals=np.zeros((0, 0, F)),
    )


def stream(seed):
    """200 of (arm, accepted), 4 arms of draft length 4: every arm comes first once, then any; their chances differ."""
    rng = random.Random(seed)
    arms = [*range(4), *(rng.randrange(4) for _ in range(196))]
    return [(a, sum(1 for _ in range(4) if rng.random() < (0.2, 0.5, 0.7, 0.9)[a])) for a in arms]


def uniforms(key):
    """The uniforms of the lane with ``key``, one after the other, as floats."""
    return (uniform_at(np.array([key]), np.array([i])).item() for i in itertools.count())
