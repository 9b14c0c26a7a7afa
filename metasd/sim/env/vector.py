"""The vector Gymnasium environment: N lanes stepped as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.observation import DEFAULT
from metasd.core.records import Bools, Context, Floats, Ints
from metasd.sim.env import private
from metasd.sim.env.engine import COUNTS, Engine, Result, Setup
from metasd.sim.env.scalar import as_dict, check_options, check_render_mode
from metasd.sim.env.spaces import action_space, observation_space

Step = tuple[NDArray[np.float32], Floats, Bools, Bools, dict[str, Any]]


class MetaSDVectorEnv(VectorEnv[NDArray[np.float32], Ints, NDArray[Any]]):
    """N copies of ``MetaSDEnv`` as one batch; spaces, rewards, arguments and meaning are documented there.

    ``reset(seed=s)`` gives lane j what ``MetaSDEnv.reset(seed=s + j)`` gives. ``info`` holds one [N] array a key with a
    mask under ``_key``; ``revealed`` is an object array of dicts. Further arguments:
        num_envs: N.
        autoreset_mode: "NextStep" (default), "SameStep" or "Disabled", as Gymnasium defines them.
            NextStep: the step after an episode's end only resets; ``info["autoreset"]`` [N] marks these dummy
            transitions, which a learner must leave out (action ignored, reward 0).
            SameStep: the observation is the next episode's first; the last one and the results are under
            ``final_obs`` and ``final_info``.
            Disabled: the caller resets with ``reset(options={"reset_mask": [N] bool})``.
        max_episode_steps: truncate episodes after so many rounds; never by default.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - an instance's own mode replaces it
        "render_modes": ["ansi"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    _options: ClassVar[set[str]] = {"prompt", "reset_mask"}

    _handle = 0  # nothing kept yet: gymnasium closes what its constructor refused as well

    def __init__(
        self,
        num_envs: int = 1,
        trace: str | None = None,
        reward: str = "block_efficiency",
        feedback: str = "bandit",
        scope: str = "free",
        draft_length: int | None = None,
        max_new_tokens: int | None = None,
        prompts: Sequence[str | int] | None = None,
        domain: str | None = None,
        observe: Sequence[str] = DEFAULT,
        comparators: bool = True,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
    ) -> None:
        setup = Setup(
            trace=trace,
            reward=reward,
            feedback=feedback,
            scope=scope,
            draft_length=draft_length,
            max_new_tokens=max_new_tokens,
            prompts=prompts,
            domain=domain,
            observe=observe,
            comparators=comparators,
        )
        check_render_mode(render_mode, self.metadata["render_modes"])
        mode = _mode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": mode}
        self._next = mode is AutoresetMode.NEXT_STEP
        self._same = mode is AutoresetMode.SAME_STEP
        self.num_envs, self.render_mode, self.max_episode_steps = num_envs, render_mode, max_episode_steps
        engine = Engine(setup, num_envs)
        self._handle = private.keep(self, engine)
        self._all = np.arange(num_envs)
        self._over: Ints = np.zeros(0, np.int64)  # lanes whose episode has ended and that were not begun again
        self._ready = False
        self._seeded = False
        self.arms = tuple(engine.pool.names)
        self.labels = tuple(engine.encoder.labels)
        self.single_action_space = action_space(engine.pool)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.single_observation_space = observation_space(engine.encoder)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode on every lane, or on those of ``options["reset_mask"]`` [N] bool.

        ``seed``: s gives lane j the seed s + j; a list of N gives each lane its own, None there keeps a lane's stream.
        ``options["prompt"]``: id or index of a text for all lanes that are reset, or a list of one for each of them.
        """
        seeds = _seeds(seed, self.num_envs)
        super().reset(seed=seed if isinstance(seed, int) else None)
        given = check_options(options, self._options)
        lanes = self._masked(given.get("reset_mask"))
        engine: Engine = private.fetch(self._handle)
        if not self._seeded:
            base = int(self.np_random.integers(1 << 62))
            seeds = [base + j if s is None else s for j, s in enumerate(seeds)]
            self._seeded = True
        told = [(j, s) for j in lanes.tolist() if (s := seeds[j]) is not None]
        engine.seed(np.array([j for j, _ in told], np.int64), [s for _, s in told])
        engine.begin(lanes, given.get("prompt"))
        self._over = np.setdiff1d(self._over, lanes)
        self._ready = True
        context = engine.context()
        return engine.encoder.encode(context).T, self._info(engine, context)

    def _masked(self, mask: Any) -> Ints:
        if mask is None:
            return self._all
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise UsageError(f"reset_mask must be {self.num_envs} booleans with at least one True")
        if not self._ready and not mask.all():
            raise UsageError("the first reset must be of all lanes; leave reset_mask out")
        return np.flatnonzero(mask)

    def step(self, actions: Any) -> Step:
        """Play one round on every lane."""
        engine: Engine = private.fetch(self._handle)
        arms = self._checked(actions)
        dummy = self._over
        rounds = engine.play(arms)
        reward = engine.rewards(rounds)
        if len(dummy):
            engine.begin(dummy)
            reward[dummy], rounds.finished[dummy] = 0, False
        terminated = rounds.finished
        truncated = np.zeros(self.num_envs, bool)
        if self.max_episode_steps is not None:
            truncated = (engine.tick - engine.begun >= self.max_episode_steps) & ~terminated
        over = np.flatnonzero(terminated | truncated)
        revealed = None if engine.revealer is None else self._revealed(engine, dummy)
        if self._same:
            obs, info = self._same_step(engine, terminated, over)
        else:
            obs, info = self._next_step(engine, terminated, over)
            if self._next:
                info["autoreset"] = _flags(self.num_envs, dummy)
                info["_autoreset"] = np.ones(self.num_envs, bool)
        if revealed is not None:
            info["revealed"], info["_revealed"] = revealed, np.ones(self.num_envs, bool)
        return obs, reward, terminated, truncated, info

    def _checked(self, actions: Any) -> Ints:
        """[N] int64 actions. Raises ResetNeeded or UsageError."""
        if not self._ready:
            raise ResetNeeded("no episode was begun; call reset first")
        if not self._next and len(self._over):
            raise ResetNeeded(f"lane {self._over[0]} is over; reset it with options={{'reset_mask': ...}}")
        arms = np.asarray(actions)
        if arms.shape != (self.num_envs,) or arms.dtype.kind not in "iu":
            raise UsageError(f"actions of shape {arms.shape} and type {arms.dtype}; give {self.num_envs} integers")
        arms = arms.astype(np.int64, copy=False)
        if arms.view(np.uint64).max(initial=0) >= len(self.arms):  # a negative number is a huge one here
            raise UsageError(f"actions {arms.min()}..{arms.max()}, but the arms are 0..{len(self.arms) - 1}")
        return arms

    def _next_step(self, engine: Engine, ended: Bools, over: Ints) -> tuple[Any, dict[str, Any]]:
        """The last observation of episodes that are over; they stay parked until they are begun again."""
        result = engine.result(over) if len(over) else None
        text_over = over if self.max_episode_steps is None else over[ended[over]]
        context = engine.context()
        engine.lanes.park(over)
        info = self._info(engine, context)
        info["action_mask"][text_over] = 1
        engine.close(context, text_over)
        self._over = over
        if result is not None:
            self._add(info, result)
        return engine.encoder.encode(context).T, info

    def _same_step(self, engine: Engine, ended: Bools, over: Ints) -> tuple[Any, dict[str, Any]]:
        """Episodes that are over are begun again at once; how they ended goes under ``final_obs``, ``final_info``."""
        final: dict[str, Any] = {}
        if len(over):
            result = engine.result(over)
            context = engine.context(over)
            mask = np.zeros((self.num_envs, len(self.arms)), np.int8)
            mask[over] = engine.mask(context.available)
            mask[over[ended[over]]] = 1
            engine.close(context, np.flatnonzero(ended[over]))
            seen = engine.encoder.encode(context, over).T
            final["final_obs"] = np.full(self.num_envs, None, object)
            for lane, row in zip(over, seen, strict=True):
                final["final_obs"][lane] = row.copy()
            final["final_info"] = {}
            self._add(final["final_info"], result)
            final["final_info"] |= {"action_mask": mask, "_action_mask": _flags(self.num_envs, over)}
            final |= {key: _flags(self.num_envs, over) for key in ("_final_obs", "_final_info")}
            engine.begin(over)
        context = engine.context()
        return engine.encoder.encode(context).T, self._info(engine, context) | final

    def _info(self, engine: Engine, context: Context) -> dict[str, Any]:
        return {"action_mask": engine.mask(context.available), "_action_mask": np.ones(self.num_envs, bool)}

    def _add(self, info: dict[str, Any], result: Result) -> None:
        """Spread results over [N] arrays, each with its mask."""
        flags = np.zeros((len(COUNTS) + 1, self.num_envs), bool)
        flags[:, result.lane] = True
        counts = np.zeros((len(COUNTS), self.num_envs), np.int64)
        counts[:, result.lane] = result.counts
        seconds = np.zeros(self.num_envs)
        seconds[result.lane] = result.seconds
        info["seconds"], info["_seconds"] = seconds, flags[-1]
        for name, column, flag in zip(COUNTS, counts, flags, strict=False):
            info[name], info[f"_{name}"] = column, flag

    def _revealed(self, engine: Engine, dummy: Ints) -> NDArray[Any] | None:
        """[N] object array of one dict a lane, None with bandit feedback."""
        revealed = engine.revealed(~_flags(self.num_envs, dummy) if len(dummy) else None)
        if revealed is None:
            return None
        out = np.full(self.num_envs, None, object)
        arrays, of_position = as_dict(revealed), ("lane", "position", "agreement")
        edges = np.arange(self.num_envs + 1)
        tokens, starts = (np.searchsorted(lane, edges) for lane in (revealed.lane, revealed.start_lane))  # both sorted
        for j in range(self.num_envs):
            token, start = slice(tokens[j], tokens[j + 1]), slice(starts[j], starts[j + 1])
            out[j] = {k: v[token if k in of_position else start] for k, v in arrays.items()}
        return out

    def render(self) -> tuple[str, ...] | None:
        """The last round of each lane as text, with ``render_mode="ansi"``."""
        if self.render_mode is None:
            gym.logger.warn('render() needs a render mode; make the environment with render_mode="ansi"')
            return None
        engine: Engine = private.fetch(self._handle)
        return tuple(engine.describe(lane, engine.played(lane)) for lane in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Forget the trace."""
        private.drop(self._handle)

    def __reduce__(self) -> NoReturn:
        """Refused: a copy could be played ahead to see what the original will do."""
        raise TypeError("a MetaSD environment cannot be copied or pickled: the copy would let a policy look ahead")


def _mode(mode: str | AutoresetMode) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        names = ", ".join(m.value for m in AutoresetMode)
        raise UsageError(f"autoreset_mode {mode!r} is unknown; use {names}") from None


def _seeds(seed: Any, n: int) -> list[int | None]:
    """[N] the seed of each lane, None where none is given. Raises UsageError."""
    if seed is None or isinstance(seed, int | np.integer):
        return [None if seed is None else int(seed) + j for j in range(n)]
    given = list(seed)
    if len(given) != n:
        raise UsageError(f"{len(given)} seeds for {n} lanes; give an integer, or one a lane")
    return [None if s is None else int(s) for s in given]


def _flags(n: int, lanes: Ints) -> Bools:
    flags = np.zeros(n, bool)
    flags[lanes] = True
    return flags
