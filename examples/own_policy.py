"""Evaluate a policy of your own on a recorded trace, beside the default and a bandit.

python examples/own_policy.py [--trace reference] [--seeds 3] [--workers 2]
"""

from __future__ import annotations

import argparse

import numpy as np

import metasd
from metasd.policies import IndexPolicy
from metasd.sim.compare.leaderboard import document


class Optimist(IndexPolicy):
    """Mean reward of an arm, and a bonus that shrinks with the rounds it was played."""

    def __init__(self, bonus: float = 0.3, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.bonus = bonus

    def index(self, context):
        return self.mean + self.bonus / np.sqrt(np.maximum(self.n, 1))


def main() -> None:
    """Print tokens per round and per second, with 95 % intervals clustered by prompt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", default="reference", help="folder, reference, or synthetic:kind=iid,...")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=None, help="processes; one a core by default")
    given = parser.parse_args()
    policies = [Optimist(), Optimist(bonus=0.05), "default", "metasd-ucb", "random"]
    outcome = metasd.compare([given.trace], policies, seeds=given.seeds, workers=given.workers)
    print(f"{'policy':24} {'tokens/round':>12} {'95 % interval':>16} {'tokens/s':>9}")
    for row in document(outcome)["results"]:
        if row["domain"] == "all":
            interval = row["intervals"].get("tokens_per_round")
            between = f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "withheld"
            speed = row["tokens_per_second"]
            print(f"{row['policy']:24} {row['tokens_per_round']:12.3f} {between:>16} {speed or float('nan'):9.1f}")


if __name__ == "__main__":
    main()
