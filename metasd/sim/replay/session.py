"""Texts of a trace under a policy, without Gymnasium: the replay side of ``core.Session``.

Knows which text follows which on every lane. What a round does is ``lanes``' business, what full information says is
``revealed``'s. At temperature 0 a replay is an exact counterfactual; above it, the joint law is exact given the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.noise import Keys
from metasd.core.plans import Judged, Plan, Suggest
from metasd.core.pool import Pool
from metasd.core.records import Context, Ints, Revealed, Rounds
from metasd.sim.replay.lanes import Lanes
from metasd.sim.replay.reveal import TraceRevealer
from metasd.sim.replay.trees import Trees
from metasd.traces.trace import Trace


class TraceSession:
    """See ``core.Session``. An episode is one text under one seed.

    Args:
        pool: arms over the trace's drafters; the recorded ones by default.
        episodes: for each lane, the indices of the texts it decodes, in order.
        seeds: for each lane, one seed or one per episode. Keys are ``noise.key(seed, id of the prompt)``.
        budget: token budget of every text, at most what was recorded for texts the recorder cut. None: as recorded.
        costs: clock of the rounds, the trace's own by default; without either, rounds carry no seconds.
        reads: optional fields of ``Context`` to fill.
        overlap: fill ``Rounds.overlap``.
        feedback: "full" makes ``reveal`` available.
        scope: "free" reveals drafters whose counterfactuals cost nothing; "all" also model drafters, which are then
            caught up after every round: each round's ``catch_up`` and ``catch_up_seconds`` include it.
        censored: ``reveal`` also delivers, flagged, what is known of lengths that are cut off at the frontier.
        plans: it is played with ``play_plans``; the trace must keep its prompts' tokens.
        sharing: lanes that take their texts from each of the queues in ``episodes``, as live lanes do from one.

    Attributes:
        episode_prompt, episode_seed: [E] text and seed of each episode, lane after lane; ``Rounds.prompt`` is an
            index into them.

    Raises UsageError for a text that does not exist, a budget above the recorded one, a pool that does not fit.
    """

    def __init__(
        self,
        trace: Trace,
        pool: Pool | None = None,
        *,
        episodes: Sequence[Any],
        seeds: Sequence[Any],
        budget: int | None = None,
        costs: CostModel | None = None,
        reads: frozenset[str] = frozenset(),
        overlap: bool = False,
        feedback: str = "bandit",
        scope: str = "free",
        censored: bool = False,
        plans: bool = False,
        sharing: int = 1,
    ) -> None:
        self.pool = trace.pool() if pool is None else pool
        self.lanes = sharing * len(episodes)
        self._queue_of = np.repeat(np.arange(len(episodes)), sharing)
        self._trace = trace
        self._reads = frozenset(reads)
        full = feedback == "full"
        catch_all = full and scope == "all"
        self._lanes = Lanes(
            trace, self.pool, self.lanes, budget=budget, costs=costs, overlap=overlap, catch_all=catch_all
        )
        self._revealer = TraceRevealer(self._lanes, scope, censored) if full else None
        self._trees = Trees(self._lanes) if plans else None
        self._queue(episodes, seeds)
        self._keys: Keys = np.zeros(self.lanes, np.uint64)
        self._running = np.zeros(self.lanes, bool)
        self._next(np.arange(self.lanes))

    @classmethod
    def per_prompt(
        cls,
        trace: Trace,
        pool: Pool | None = None,
        *,
        lanes: int = 256,
        seeds: Sequence[int] = (0,),
        **kwargs: Any,
    ) -> TraceSession:
        """Every text under every seed, spread over at most ``lanes`` lanes: for ``reset=prompt``."""
        pairs = np.stack(np.meshgrid(np.arange(len(trace)), np.asarray(seeds), indexing="ij"), -1).reshape(-1, 2)
        used = max(min(lanes, len(pairs)), 1)
        split = [pairs[lane::used] for lane in range(used)]
        return cls(trace, pool, episodes=[s[:, 0] for s in split], seeds=[s[:, 1] for s in split], **kwargs)

    @classmethod
    def in_order(
        cls, trace: Trace, pool: Pool | None = None, *, orders: Sequence[Any], seeds: Sequence[int], **kwargs: Any
    ) -> TraceSession:
        """One lane a seed, or ``sharing``, meeting the texts of its order one after the other: for ``reset=never``."""
        return cls(trace, pool, episodes=orders, seeds=seeds, **kwargs)

    def _queue(self, episodes: Sequence[Any], seeds: Sequence[Any]) -> None:
        """Lay the lanes' queues end to end."""
        if len(seeds) != len(episodes):
            raise UsageError(f"{len(seeds)} seeds for {len(episodes)} lanes; give one entry a lane")
        queues = [np.asarray(e, np.int64).reshape(-1) for e in episodes]
        of_lane = [np.broadcast_to(np.asarray(s, np.int64), q.shape) for s, q in zip(seeds, queues, strict=True)]
        empty = np.zeros(0, np.int64)
        self.episode_prompt: Ints = np.concatenate([empty, *queues])
        self.episode_seed: Ints = np.concatenate([empty, *of_lane])
        wrong = (self.episode_prompt < 0) | (self.episode_prompt >= len(self._trace))
        if wrong.any():
            raise UsageError(f"text {self.episode_prompt[wrong][0]} is not in the trace, which has {len(self._trace)}")
        bounds = np.concatenate([[0], np.cumsum([len(q) for q in queues])]).astype(np.int64)
        self._cursor, self._stop = bounds[:-1].copy(), bounds[1:].copy()

    def _next(self, lanes: Ints) -> None:
        """``lanes`` go on with their next episode, or are done."""
        queue = self._queue_of[lanes]
        episode = self._cursor[queue] + np.arange(len(lanes)) - np.searchsorted(queue, queue)
        more = episode < self._stop[queue]
        going, idle, episode = lanes[more], lanes[~more], episode[more]
        np.add.at(self._cursor, queue[more], 1)
        text, seed = self.episode_prompt[episode], self.episode_seed[episode]
        ids = [self._trace.ids[p] for p in text]
        pairs = list(zip(seed.tolist(), ids, strict=True))
        self._keys[going] = np.array([noise.key(s, i) for s, i in pairs], np.uint64)
        judge = np.array([noise.judge_key(s, i) for s, i in pairs], np.uint64) if self._trace.sampled else None
        self._lanes.begin(going, text, episode, judge)
        self._lanes.park(idle)
        if self._trees is not None:
            self._trees.begin(going)
        self._running[going], self._running[idle] = True, False
        self._fresh = going
        self._active: Ints | None = None if self._running.all() else np.flatnonzero(self._running)

    @property
    def context(self) -> Context:
        made = self._lanes.context(self._reads)
        if self._trees is not None:
            self._trees.fill(made)
        return made

    @property
    def done(self) -> bool:
        return not self._running.any()

    @property
    def fresh(self) -> Ints:
        return self._fresh.copy()

    @property
    def keys(self) -> NDArray[np.uint64]:
        return self._keys.copy()

    def play(self, arms: Ints) -> Rounds:
        """One round on every lane that is not done; ``arms`` is [B], entries of lanes that are done are ignored.

        Raises UsageError for an arm that is not in the pool.
        """
        arms = np.array(arms, np.int64)
        chosen = arms if self._active is None else arms[self._active]
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self.pool):
            raise UsageError(f"arms {chosen.min()}..{chosen.max()} chosen, but the pool has 0..{len(self.pool) - 1}")
        rounds = self._lanes.play(chosen, self._active)
        rounds.lane, rounds.prompt = rounds.lane.copy(), rounds.prompt.copy()
        return self._played(rounds)

    @property
    def suggest(self) -> Sequence[Suggest]:
        """[B] the sources of each lane. Raises UsageError for a session made without ``plans``."""
        return self._planned().suggest

    def play_plans(self, plans: Sequence[Plan]) -> Rounds:
        """One round on every lane that is not done; ``plans`` is [B], entries of lanes that are done are ignored.

        Nodes that the budget leaves no room for are cut off. Raises UsageError for a plan that this trace cannot play.
        """
        if len(plans) != self.lanes:
            raise UsageError(f"{len(plans)} plans for {self.lanes} lanes; give one a lane")
        active = np.arange(self.lanes) if self._active is None else self._active
        return self._played(self._planned().play(plans, active))

    @property
    def judged(self) -> Sequence[Judged]:
        """[n] what the last ``play_plans`` said, in the order of its rounds."""
        return self._planned().judged

    def _planned(self) -> Trees:
        if self._trees is None:
            raise UsageError("this session plays arms; make it with plans=True")
        return self._trees

    def _played(self, rounds: Rounds) -> Rounds:
        """Lanes whose text is over go on with their next one."""
        if self._revealer is not None:
            self._revealer.after(rounds)
        over = rounds.finished
        if over.any():
            self._next(rounds.lane[over])
        else:
            self._fresh = self._fresh[:0]
        return rounds

    def reveal(self) -> Revealed:
        """Full information on the tokens committed by the last play. Raises UsageError with bandit feedback."""
        if self._revealer is None:
            raise UsageError("this session gives bandit feedback; make it with feedback='full' to reveal more")
        return self._revealer.reveal()
