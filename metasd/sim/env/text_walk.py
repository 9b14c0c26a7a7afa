"""One episode at list speed: every round of its text is played once by the vector code, and then looked up.

A step through numpy arrays of one lane costs as much as a step of hundreds of lanes. So the scalar environment lets
``Lanes`` play all (position, arm) pairs of a text side by side, and walks through the answers. What depends on the
path, catch-up and the previous round, is kept here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metasd.core.cache_rule import behind, read_after
from metasd.core.records import Rounds
from metasd.sim.env.engine import Engine, Played
from metasd.sim.replay.lanes import Lanes

WALKABLE = frozenset({"position", "available", "last", "signals"})
"""Groups of the observation that depend on nothing but the position and the previous round."""


def walk_of(engine: Engine) -> TextWalk | None:
    """A walk for an engine of one lane; None where observation, reward or feedback depend on more than it knows."""
    simple = engine.revealer is None and engine.reward_name != "tokens_per_second"
    return TextWalk(engine) if simple and WALKABLE.issuperset(engine.encoder.groups) else None


class TextWalk:
    """The text on lane 0 of ``engine``. ``begin`` after the engine has begun it, then ``play`` until it is over."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._K = len(engine.pool)
        lengths = np.minimum(engine.lanes.limit_of, engine.lanes.end_of) - engine.lanes.offsets[:-1]
        self._board = Lanes(
            engine.trace,
            engine.pool,
            int(lengths.max()) * self._K,
            budget=engine.setup.max_new_tokens,
            overlap=engine.lanes.overlap,
            timed=False,
            catch_up=False,
        )
        self._last = engine.encoder.offset("last")
        self._scale = float(engine.encoder.scale)
        self._drafter = engine.pool.drafter_of.tolist()
        self._committed = engine.pool.committed.tolist()
        self._model = (engine.lanes.models & engine.lanes.lagging).tolist()

    def begin(self) -> None:
        """Play every round of the text."""
        engine = self._engine
        lanes = engine.lanes
        length = int(min(lanes.limit[0], lanes.end[0]) - lanes.start[0])
        rounds = self._play_all(length, int(lanes.text[0]))
        self._emitted, self._finished = rounds.emitted.tolist(), rounds.finished.tolist()
        self._drafted, self._accepted = rounds.drafted.tolist(), rounds.accepted.tolist()
        self._reward = engine.rewards(rounds).tolist()
        clock = lanes.clock
        self._whole = None if clock is None else clock.whole(rounds.arm, rounds.drafted).tolist()
        self._see(length)
        self._prompt = int(lanes.shift[0] + lanes.start[0])
        self._read = [-self._prompt] * len(self._model)  # position up to which each drafter has read
        self._position, self.rounds, self.seconds, self.positions = 0, 0, 0.0, 0
        self.last: Played | None = None

    def _play_all(self, length: int, text: int) -> Rounds:
        """[length * K] rounds, by position and arm."""
        board, n = self._board, length * self._K
        at = board.index[:n]
        board.begin(at, np.full(n, text), judge=np.full(n, self._engine.lanes.judge[0]))
        board.row[:n] += at // self._K
        return board.play(at % self._K, at)

    def _see(self, length: int) -> None:
        """What is seen at each position, the last one included, but for the previous round."""
        engine = self._engine
        at = np.arange(length + 1)
        lane = np.zeros(length + 1, np.int64)
        context = engine.lanes.context(engine.encoder.reads, lane, engine.lanes.start[0] + at)
        self._mask: NDArray[np.int8] = engine.mask(context.available)
        self._mask[length] = 1
        engine.close(context, at[length:])
        self._seen = np.ascontiguousarray(engine.encoder.encode(context, lane).T)

    @property
    def observation(self) -> NDArray[np.float32]:
        """[W] fresh."""
        seen: NDArray[np.float32] = self._seen[self._position].copy()
        if self._last >= 0 and self.last is not None:
            _, arm, drafted, accepted, _ = self.last
            seen[self._last + arm] = 1
            seen[self._last + self._K] = drafted * self._scale
            seen[self._last + self._K + 1] = accepted * self._scale
        return seen

    @property
    def mask(self) -> NDArray[np.int8]:
        """[K] fresh."""
        mask: NDArray[np.int8] = self._mask[self._position].copy()
        return mask

    def play(self, arm: int) -> tuple[float, bool]:
        """Reward, and whether the episode is over; the engine then knows how long it took."""
        reward, over = self._play(arm)
        if over:
            engine = self._engine
            engine.tick = int(engine.begun[0]) + self.rounds
            engine.seconds[0], engine.positions[0] = self.seconds, self.positions
        return reward, over

    def _play(self, arm: int) -> tuple[float, bool]:
        position, cell = self._position, self._position * self._K + arm
        emitted, drafted, accepted = self._emitted[cell], self._drafted[cell], self._accepted[cell]
        self.last = (position, arm, drafted, accepted, emitted)
        if self._whole is not None:
            self.seconds += self._whole[cell]
            self.positions += position
            if drafted and self._model[self._drafter[arm]]:
                self._catch_up(self._drafter[arm], position, drafted, accepted)
        self.rounds += 1
        self._position = position + emitted
        return self._reward[cell], self._finished[cell]

    def _catch_up(self, drafter: int, position: int, drafted: int, accepted: int) -> None:
        clock = self._engine.lanes.clock
        lag = int(behind(position, self._read[drafter]))
        if lag and clock is not None:
            self.seconds += float(clock.catch_up(np.array([drafter]), np.array([lag]))[0])
        self._read[drafter] = int(read_after(position, drafted, accepted, self._committed[drafter]))
