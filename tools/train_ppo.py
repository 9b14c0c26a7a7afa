"""Train PPO (stable-baselines3) on MetaSD-v0 and play it as a policy beside the bandits.

pip install stable-baselines3
metasd trace synth two-language --out train --prompts 64 --length 128 --arms 4 --seed 1
metasd trace synth two-language --out test --prompts 64 --length 128 --arms 4 --seed 2
python tools/train_ppo.py train test model.zip
"""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium as gym
from rich.console import Console
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from metasd.report.terminal import show
from metasd.sim.oracle.regret import rows as rows_of
from metasd.sim.replay.run import replay
from metasd.traces import open_trace

OBSERVE = ("available", "last", "history")
STEPS = 80_000


def train(trace: Path, out: Path) -> None:
    """Train on ``trace`` and save the model to ``out``."""

    def environment() -> gym.Env:
        return gym.make("metasd:MetaSD-v0", trace=str(trace), observe=OBSERVE, comparators=False)

    env = make_vec_env(environment, n_envs=16, seed=0)
    model = PPO(
        "MlpPolicy",
        env,
        seed=0,
        device="cpu",
        n_steps=64,
        batch_size=256,
        learning_rate=1e-3,
        gamma=0.9,
        policy_kwargs={"net_arch": [32]},
    )
    model.learn(STEPS)
    model.save(out)


def main() -> None:
    """Train on the first trace, then replay the model and three bandits on the second."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    learn_from, play_on, out = map(Path, sys.argv[1:])
    train(learn_from, out)
    learned = f"sb3:path={out},observe={'+'.join(OBSERVE)}"
    trace = open_trace(play_on)
    rows = [rows_of(replay(trace, spec))[-1] for spec in (learned, "fixed-share", "metasd-ucb:beta=0.2", "random")]
    show(rows, Console(width=160))


if __name__ == "__main__":
    main()
