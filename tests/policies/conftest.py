"""A small world of keyed agreements: every counterfactual is fixed by (key, position, drafter), as in a trace."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.core.noise import key, mix, uniform_at
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import NO_END, Context, Revealed, settle
from metasd.core.signals import INDEX, F

G = 4


def make_pool(drafters=3, plain=True, lengths=(G,)):
    names = ["lookup", "small", "table", "other", "fifth"][:drafters]
    infos = [DrafterInfo(n, n, free=n in ("lookup", "table"), deterministic=True) for n in names]
    arms = [(d, length) for d in range(drafters) for length in lengths]
    return Pool(infos, arms + ([(-1, 0)] if plain else []))


class World:
    """B texts without end; drafter d agrees at each position with chance ``agree[d]``, independently."""

    def __init__(self, pool, agree, keys, *, shows=1.0, remaining=10_000, seconds=None):
        self.pool, self.keys = pool, np.asarray(keys, np.uint64)
        self.agree = np.asarray(agree, float)
        self.shows = np.broadcast_to(np.asarray(shows, float), self.agree.shape)
        self.position = np.zeros(len(self.keys), np.int64)
        self.remaining = np.full(len(self.keys), remaining, np.int64)
        self.seconds = np.ones(len(pool)) if seconds is None else np.asarray(seconds, float)

    def _uniform(self, what, position, lane=slice(None)):
        """[n, D] uniforms of each lane at ``position`` [n]; ``what`` separates uses."""
        streams = mix(self.keys[lane, None] + np.uint64(1000 * what) + np.arange(len(self.agree), dtype=np.uint64))
        return uniform_at(streams, position[:, None])

    def agreement(self, position, lane=slice(None)):
        return (self._uniform(1, position, lane) < self.agree).astype(float)

    def lengths(self, position, lane=slice(None)):
        """[n, D] accepted length of a draft that begins at ``position``, at most G."""
        table = np.stack([self.agreement(position + j, lane) for j in range(max(self.pool.max_draft_length, 1))])
        return np.cumprod(table, axis=0).sum(axis=0).astype(np.int64)

    def proposes(self, position=None, lane=slice(None)):
        return self._uniform(2, self.position if position is None else position, lane) < self.shows

    def context(self):
        proposes = self.proposes()
        available = np.where(self.pool.plain, True, proposes[:, self.pool.drafter_of])
        signals = np.full((len(self.keys), len(self.agree), F), np.nan)
        signals[:, 0, INDEX["match_length"]] = np.floor(8 * self._uniform(3, self.position)[:, 0])
        signals[:, 0, INDEX["hit_fast"]] = self._uniform(4, self.position)[:, 0]
        return Context(
            position=self.position.copy(),
            remaining=self.remaining.copy(),
            available=available,
            signals=signals,
            lag=np.zeros((len(self.keys), len(self.agree)), np.int64),
            cost=np.broadcast_to(self.seconds, available.shape).copy(),
            tail=np.full((len(self.keys), 2), -1),
            proposal=np.full((len(self.keys), len(self.agree)), -1),
        )

    def play(self, arms, overlap=True):
        lanes = np.arange(len(self.keys))
        drafter = self.pool.drafter_of[arms]
        proposed = np.where(self.proposes()[lanes, drafter], self.pool.max_draft_length, 0)
        rounds = settle(
            lane=lanes,
            prompt=lanes,
            arm=arms,
            draft_length=self.pool.draft_length[arms],
            position=self.position.copy(),
            remaining=self.remaining.copy(),
            proposed=proposed,
            agreed=self.lengths(self.position)[lanes, drafter],
            ends_in=np.full(len(lanes), NO_END),
            catch_up=np.zeros(len(lanes), np.int64),
            draft_seconds=np.zeros(len(lanes)),
            verify_seconds=self.seconds[arms],
            catch_up_seconds=np.zeros(len(lanes)),
        )
        if overlap:
            inside = np.arange(self.pool.max_draft_length) < rounds.drafted[:, None]
            rounds.overlap = np.where(inside, self.agree[drafter][:, None], np.nan)
        self._before = self.position.copy()
        self.position += rounds.emitted
        self.remaining -= rounds.emitted
        return rounds

    def reveal(self):
        """What the last play committed: agreement by position, and the starts it resolved."""
        new = self.position - self._before
        lanes = np.repeat(np.arange(len(new)), new)
        positions = np.concatenate([np.arange(a, b) for a, b in zip(self._before, self.position, strict=True)])
        agreement = self.agreement(positions, lanes)
        agreement[~self.proposes(positions, lanes)] = np.nan
        back = np.arange(self.pool.max_draft_length + 1)  # a start this far back may be resolved by a new position
        lane, start = np.repeat(lanes, len(back)), (positions[:, None] - back).ravel()
        lengths = self.lengths(np.maximum(start, 0), lane)
        row, drafter = np.nonzero((start[:, None] >= 0) & (lengths == np.tile(back, len(lanes))[:, None]))
        return Revealed(
            lane=lanes,
            position=positions,
            agreement=agreement,
            start_lane=lane[row],
            start=start[row],
            drafter=drafter,
            proposed=np.full(len(row), self.pool.max_draft_length),
            accepted=lengths[row, drafter],
            ended=np.zeros(len(row), bool),
            censored=np.zeros(len(row), bool),
            signals=np.full((len(row), len(self.agree), F), np.nan),
        )


def drive(policy, world, rounds, overlap=True):
    """[rounds, B] arms that ``policy``, already bound, plays in ``world``."""
    played = []
    for _ in range(rounds):
        arms = policy.select(world.context())
        played.append(arms.copy())
        policy.update(world.play(arms, overlap))
        if policy.feedback == "full":
            policy.observe(world.reveal())
    return np.array(played)


def lane_keys(lanes, seed=0):
    return np.array([key(seed, j) for j in range(lanes)], np.uint64)


class Bench:
    """What the tests use, handed out as one fixture."""

    G = G
    World = World
    drive = staticmethod(drive)
    keys = staticmethod(lane_keys)
    pool = staticmethod(make_pool)

    @staticmethod
    def bound(policy, pool, keys, **settings):
        policy.bind(pool, len(keys), **settings)
        policy.begin(np.arange(len(keys)), np.asarray(keys, np.uint64))
        return policy


@pytest.fixture
def bench():
    return Bench
