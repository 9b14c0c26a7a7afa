from typing import Any

import own_warnings
import pytest

from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.outcome import Comparison
from metasd.sim.compare.run import compare
from metasd.traces import synthetic

own_warnings.install()

POLICIES = ("metasd-ucb", "random", "fixed:arm=arm1", "metasd-ucb:beta=0.5")


@pytest.fixture(scope="session")
def outcome() -> Comparison:
    """Four policies on a trace with two domains, in this process."""
    trace = synthetic("two-language", prompts=12, length=60, arms=3, draft_length=4, seed=2)
    return compare([trace], POLICIES, 3, workers=1)


@pytest.fixture(scope="session")
def made(outcome: Comparison) -> dict[str, Any]:
    return document(outcome)
