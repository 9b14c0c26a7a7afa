"""Train PPO (stable-baselines3) on MetaSD-v0, save it, and play it on other texts beside bandits that learn online.

pip install stable-baselines3
python examples/train_ppo.py [--train TRACE] [--test TRACE] [--rounds 80000] [--out ppo.zip]
"""

from __future__ import annotations

import argparse

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

import metasd

OBSERVE = ("available", "last", "history")
TEXTS = "synthetic:kind=two-language,prompts=64,length=128,arms=4"


def train(trace: str, rounds: int) -> PPO:
    """A model trained on ``trace`` for so many rounds."""
    env = make_vec_env(
        lambda: gym.make("metasd:MetaSD-v0", trace=trace, observe=OBSERVE, comparators=False), n_envs=16, seed=0
    )
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
    return model.learn(rounds)


def main() -> None:
    """Train on one trace, play on the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default=f"{TEXTS},seed=1")
    parser.add_argument("--test", default=f"{TEXTS},seed=2")
    parser.add_argument("--rounds", type=int, default=80_000)
    parser.add_argument("--out", default="ppo.zip")
    given = parser.parse_args()
    train(given.train, given.rounds).save(given.out)
    trace = metasd.open_trace(given.test)
    for policy in (f"sb3:path={given.out},observe={'+'.join(OBSERVE)}", "fixed-share", "metasd-ucb:beta=0.2", "random"):
        totals = metasd.replay(trace, policy).ledger.totals()
        print(f"{policy.partition(':path')[0]:20} {totals.rounds:6} rounds {totals.tokens_per_round:6.2f} tokens/round")


if __name__ == "__main__":
    main()
