"""The scalar Gymnasium environment: the vector environment's engine with one lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium import Space
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.observation import DEFAULT
from metasd.core.records import Revealed
from metasd.sim.env import private
from metasd.sim.env.engine import COUNTS, Engine, Setup
from metasd.sim.env.spaces import action_space, observation_space
from metasd.sim.env.text_walk import TextWalk, walk_of

_LANE = np.zeros(1, np.int64)


class MetaSDEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Choose the drafter of every draft-verify round while a recorded text is decoded.

    ## Description
    A large *target* model decodes a text; before each round one *arm* (a drafter and a draft length, or plain
    decoding) is chosen to guess the next tokens, and the target keeps the leading guesses it agrees with and adds one
    token of its own. The environment replays a trace that holds, for every position of the target's text, what every
    drafter would have drafted. At temperature 0 that is an exact counterfactual; above it, drafts are accepted with
    the recorded probability, decided by noise tied to the text position, whose joint law given the text is exact.

    ## Action Space
    `Discrete(K)`: the arm, in the order of the pool (`env.unwrapped.arms` names them). An arm without a proposal is a
    plain round: nothing drafted, one token emitted.

    ## Observation Space
    `Box(-1, 1, (W,), float32)`, every entry finite; `env.unwrapped.labels` names the entries. Groups chosen by
    `observe`, K arms, D drafters, G the longest draft length:

    | group | entries | meaning |
    |---|---|---|
    | `position` | 1 | share of the token budget used; 0 where none is known |
    | `available` | K | 1 where the arm has a proposal now, else 0 |
    | `last` | K + 2 | the previous round of the text: arm one-hot, drafted / G, accepted / G |
    | `history` | 2 K | mean accepted / G of each arm in this text (-1: none yet), its share of rounds |
    | `signals` | D F | what each drafter says before drafting (`metasd.core.signals`); n as n / (n + 8), -1 unknown |
    | `lag` | D | tokens n the drafter would have to catch up, as n / (n + 32) |
    | `cost` | K | expected seconds over those of the dearest arm, -1 without a clock |

    In the last observation of an episode no arm is available.

    ## Rewards
    `reward` names one of `metasd.core.rewards`. The default, `block_efficiency`, is accepted / G: summed over an
    episode it
    is (tokens - rounds) / G (and 1 / G more where the text ends inside a draft), so the largest return is the
    fewest rounds. `block_divergence`, `tokens` and `tokens_per_second` are the others; `auto` is `block_divergence`
    where the trace records overlap.

    ## Starting State
    A text drawn uniformly from the chosen ones with the environment's seed, at position 0. `reset(options={"prompt":
    id or index})` picks one.

    ## Episode End
    Terminated when the text ends or its token budget is used up. Never truncated (unless `max_episode_steps` is given
    to `gym.make`).

    ## Information
    Always `action_mask` [K] int8: arms with a proposal, all of them where there is none; `action_masks()` gives it as
    booleans, for sb3-contrib's MaskablePPO. With `feedback="full"` also
    `revealed`, a dict of the arrays of `metasd.core.records.Revealed`: what the tokens committed so far say of every
    drafter
    in `scope`, lengths only once resolved, -1 for numbers that are unknown. When the episode has ended also `prompt`
    (index in the trace), `rounds`, `seconds` (nan without a clock), `best_fixed_rounds` (the best single arm for this
    text) and `oracle_rounds` (the clairvoyant optimum; both -1 with `comparators=False`).

    ## Arguments
    | name | default | meaning |
    |---|---|---|
    | `trace` | `"reference"` | trace folder, `"reference"`, `"synthetic:kind=iid,..."` or a registered name |
    | `reward` | `"block_efficiency"` | see above |
    | `feedback` | `"bandit"` | `"full"` adds `revealed` |
    | `scope` | `"free"` | drafters that `revealed` speaks of; `"all"` charges model drafters' catch-up to every round |
    | `draft_length` | `None` | one arm a drafter of this length, instead of the recorded arms |
    | `max_new_tokens` | `None` | token budget, as recorded by default |
    | `prompts` | `None` | ids or indices of the texts to draw from |
    | `domain` | `None` | only texts of this domain |
    | `observe` | `("position", "available", "last")` | groups of the observation |
    | `comparators` | `True` | work out the best fixed arm and the optimum at an episode's end |
    | `render_mode` | `None` | `"ansi"`: the last round as a line of text |

    ## Version History
    * v0: first version
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 - as gym.Env declares it

    def __init__(
        self,
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
        self.render_mode = render_mode
        engine = Engine(setup, 1)
        self._handle = private.keep(self, (engine, walk_of(engine)))
        self._K = len(engine.pool)
        self._running = False
        self._seeded = False
        self.arms = tuple(engine.pool.names)
        self.labels = tuple(engine.encoder.labels)
        self.action_space = action_space(engine.pool)
        self.observation_space: Space[NDArray[np.float32]] = observation_space(engine.encoder)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode. ``options``: {"prompt": id or index of the text}."""
        super().reset(seed=seed)
        engine, walk = self._fetch()
        if seed is not None or not self._seeded:
            engine.seed(_LANE, [int(self.np_random.integers(1 << 62)) if seed is None else seed])
            self._seeded = True
        engine.begin(_LANE, check_options(options, {"prompt"}).get("prompt"))
        self._running = True
        if walk is not None:
            walk.begin()
            return walk.observation, {"action_mask": walk.mask}
        context = engine.context()
        return engine.encoder.encode(context).reshape(-1), {"action_mask": engine.mask(context.available)[0]}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Play one round with arm ``action``."""
        if not self._running:
            raise ResetNeeded("the episode is over, or none was begun; call reset first")
        arm = int(action)
        if not 0 <= arm < self._K:
            raise UsageError(f"action {arm} is outside 0..{self._K - 1}")
        engine, walk = self._fetch()
        info: dict[str, Any] = {}
        if walk is None:
            return self._step_by_arrays(engine, arm, info)
        reward, over = walk.play(arm)
        if over:
            self._end(engine, info)
        info["action_mask"] = walk.mask
        return walk.observation, reward, over, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """[K] arms with a proposal now, as ``info["action_mask"]`` has them: what sb3-contrib's MaskablePPO asks
        for."""
        engine, walk = self._fetch()
        if not self._seeded:
            raise ResetNeeded("no episode was begun; call reset first")
        if not self._running:
            return np.ones(self._K, bool)
        mask = engine.mask(engine.context().available)[0] if walk is None else walk.mask
        return mask.astype(bool)

    def _step_by_arrays(
        self, engine: Engine, arm: int, info: dict[str, Any]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """A step whose observation, reward or feedback depends on the whole path."""
        rounds = engine.play(np.array([arm]))
        reward = float(engine.rewards(rounds)[0])
        over = bool(rounds.finished[0])
        revealed = engine.revealed(None)
        if revealed is not None:
            info["revealed"] = as_dict(revealed)
        context = engine.context()
        info["action_mask"] = engine.mask(context.available)[0]
        if over:
            self._end(engine, info)
            info["action_mask"][:] = 1
            engine.close(context, _LANE)
        return engine.encoder.encode(context).reshape(-1), reward, over, False, info

    def _end(self, engine: Engine, info: dict[str, Any]) -> None:
        """The episode is over: say how it went."""
        self._running = False
        result = engine.result(_LANE)
        info.update({name: int(count) for name, count in zip(COUNTS, result.counts[:, 0], strict=True)})
        info["seconds"] = float(result.seconds[0])

    def render(self) -> str | None:
        """The last round as text, with ``render_mode="ansi"``."""
        if self.render_mode is None:
            gym.logger.warn('render() needs a render mode; make the environment with render_mode="ansi"')
            return None
        engine, walk = self._fetch()
        return engine.describe(0, engine.played(0) if walk is None else walk.last)

    def _fetch(self) -> tuple[Engine, TextWalk | None]:
        found: tuple[Engine, TextWalk | None] = private.fetch(self._handle)
        return found

    def close(self) -> None:
        """Forget the trace."""
        private.drop(self._handle)

    def __reduce__(self) -> NoReturn:
        """Refused: a copy could be played ahead to see what the original will do."""
        raise TypeError("a MetaSD environment cannot be copied or pickled: the copy would let a policy look ahead")


def as_dict(revealed: Revealed) -> dict[str, NDArray[Any]]:
    """The arrays of ``Revealed`` by name, unknown numbers as -1 instead of nan."""
    columns = {f.name: getattr(revealed, f.name) for f in fields(revealed)}
    return {name: np.nan_to_num(c, nan=-1.0) if c.dtype.kind == "f" else c for name, c in columns.items()}


def check_options(options: dict[str, Any] | None, known: set[str]) -> dict[str, Any]:
    """Reset options. Raises UsageError for one that is not known."""
    given = dict(options or {})
    for name in given:
        if name not in known:
            raise UsageError(f"reset option {name!r} is unknown; known: {', '.join(sorted(known))}")
    return given


class RenderModeError(UsageError, TypeError):
    """An unknown render mode. A TypeError as well: stable-baselines3 then makes the environment without one."""


def check_render_mode(mode: str | None, known: Sequence[str]) -> None:
    """Raises RenderModeError for a render mode that is not known."""
    if mode is not None and mode not in known:
        raise RenderModeError(f"render_mode {mode!r} is unknown; use {', '.join(known)} or None")
