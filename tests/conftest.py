"""What all tests share: a cache folder of their own, and one comparison to look at."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import own_warnings
import pytest
from hypothesis import HealthCheck, settings

from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.outcome import Comparison
from metasd.sim.compare.run import compare
from metasd.traces import synthetic

own_warnings.install()

# A busy machine must not fail a test: neither the time of an example nor that of making it is looked at.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What live runs keep goes to a folder of the tests; models converted before are used where they are."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made = tmp_path_factory.mktemp("cache")
    (made / "metasd").mkdir()
    for name in ("metasd/models", "huggingface"):
        if (home / name).is_dir():
            (made / name).symlink_to(home / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made))
        yield


POLICIES = ("metasd-ucb", "random", "fixed:arm=arm1", "metasd-ucb:beta=0.5")


@pytest.fixture(scope="session")
def outcome() -> Comparison:
    """Four policies on a trace with two domains, in this process."""
    trace = synthetic("two-language", prompts=12, length=60, arms=3, draft_length=4, seed=2)
    return compare([trace], POLICIES, 3, workers=1)


@pytest.fixture(scope="session")
def made(outcome: Comparison) -> dict[str, Any]:
    return document(outcome)
