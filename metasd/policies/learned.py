"""Models trained with stable-baselines3 or sb3-contrib on ``MetaSD-v0``, as policies: the same live and in replay.

The model sees what the environment showed it in training, encoded by the same
``metasd.core.observation.ContextEncoder``.
They are imported only when a model is bound; they are no dependencies.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.noise import Keys
from metasd.core.observation import DEFAULT, ContextEncoder
from metasd.core.pool import Pool
from metasd.core.records import Bools, Context, Floats, Ints, Rounds
from metasd.policies.base import Policy, best

ALGORITHMS = {
    "ppo": ("stable_baselines3", "PPO"),
    "a2c": ("stable_baselines3", "A2C"),
    "dqn": ("stable_baselines3", "DQN"),
    "maskable-ppo": ("sb3_contrib", "MaskablePPO"),
}
"""Module and class of each ``algorithm``."""


class SB3(Policy):
    """A trained model of stable-baselines3 (ppo, a2c, dqn) or sb3-contrib (maskable-ppo).

    It plays the allowed arm that it rates highest.

    path: what ``model.save`` wrote. Loading it runs pickled code: load only models you trust.
    observe: the environment's ``observe`` groups in training, joined by "+", in the same order.
    The model's rating is the probability it gives each arm (dqn: the value); it does not go on learning.
    """

    def __init__(self, path: str, algorithm: str = "ppo", observe: str = "+".join(DEFAULT), mask: bool = True) -> None:
        super().__init__("block_efficiency", mask)
        if algorithm not in ALGORITHMS:
            raise UsageError(f"algorithm {algorithm!r} is unknown; choose one of {', '.join(ALGORITHMS)}")
        if not Path(path).is_file():
            raise UsageError(f"model {path} does not exist; train one on MetaSD-v0 and save it there")
        self.path, self.algorithm, self.observe_groups = path, algorithm, observe

    def wants(self, overlap: bool, timed: bool = False, models: bool = True) -> dict[str, Any]:
        reads = ContextEncoder(Pool((), [(-1, 0)]), 1, self.observe_groups.split("+")).reads
        return super().wants(overlap, timed, models) | {"reads": reads}

    def bind(self, pool: Pool, lanes: int, *, reset: str | None = None, overlap: bool = True) -> None:
        """As ``Policy.bind``. Raises UsageError when the model does not fit the pool, or cannot be loaded."""
        self._encoder = ContextEncoder(pool, lanes, self.observe_groups.split("+"))
        self._model = load(self.path, self.algorithm)
        expected = ((self._encoder.width,), len(pool))
        given = (self._model.observation_space.shape, int(getattr(self._model.action_space, "n", -1)))
        if given != expected:
            raise UsageError(
                f"{self.path} was trained on observations {given[0]} and {given[1]} arms, but here they are "
                f"{expected[0]} and {expected[1]}; give the pool and the observe groups it was trained with"
            )
        super().bind(pool, lanes, reset=reset, overlap=overlap)

    def begin(self, lanes: Ints, keys: Keys) -> None:
        super().begin(lanes, keys)
        self._encoder.begin(lanes)

    def choose(self, context: Context, allowed: Bools) -> Ints:
        return best(self.ratings(np.ascontiguousarray(self._encoder.encode(context).T)), allowed)

    def ratings(self, observation: Floats) -> Floats:
        """[B, K] what the model thinks of each arm, from observations [B, W]."""
        inner = self._model.policy
        tensor = inner.obs_to_tensor(observation)[0]
        rated = inner.q_net(tensor) if self.algorithm == "dqn" else inner.get_distribution(tensor).distribution.probs
        return np.asarray(rated.detach().cpu().numpy(), np.float64)

    def update(self, rounds: Rounds) -> None:
        """Only the observation takes note of rounds, of all of them."""
        self._encoder.update(rounds)

    def state_dict(self) -> dict[str, Any]:
        kept = {k: v.copy() for k, v in vars(self._encoder).items() if isinstance(v, np.ndarray)}
        return super().state_dict() | {f"encoder.{k}": v for k, v in kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state.items() if not k.startswith("encoder.")})
        for name, value in vars(self._encoder).items():
            if isinstance(value, np.ndarray):
                value[...] = state[f"encoder.{name}"]


def load(path: str, algorithm: str) -> Any:
    """The saved model, on the CPU. Raises UsageError without its package, or when the file is no model of it."""
    module, name = ALGORITHMS[algorithm]
    try:
        package = importlib.import_module(module)
    except ImportError as error:
        named = module.replace("_", "-")
        raise UsageError(f"policy sb3 needs {named} ({error}); install it with pip") from error
    try:
        return getattr(package, name).load(path, device="cpu")
    except (ValueError, KeyError, OSError) as error:
        raise UsageError(f"{path} is not a saved {algorithm} model ({error}); give what model.save wrote") from error
