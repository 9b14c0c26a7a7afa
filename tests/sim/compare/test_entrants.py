"""Policies from a package, a file or as objects: compared and replayed, in workers too, and not resumed once edited."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from metasd import policies
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.policies import POLICIES, Policy, make, register_policy
from metasd.sim.compare import workers
from metasd.sim.compare.entrants import code_of
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.sim.replay.run import replay
from metasd.traces import Trace, synthetic

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # what a worker cannot import, as of a notebook

SOURCE = """
import numpy as np
from metasd.policies import Policy
from .shift import SHIFT

class Last(Policy):
    "Plays the last allowed arm, or one before it."
    def __init__(self, back: int = SHIFT):
        super().__init__()
        self.back = back
    def choose(self, context, allowed):
        counted = np.where(allowed, np.arange(allowed.shape[1]), -1)
        return np.sort(counted, axis=1)[:, -1 - self.back]
"""


def small() -> Trace:
    return synthetic("two-language", prompts=2, length=40, arms=3, draft_length=4, seed=1)


OWN = ("ownbandits", "mine")  # modules that tests make


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(POLICIES)
    yield
    POLICIES.clear()
    POLICIES.update(before)
    policies.REGISTERED.clear()
    for name in [n for n in sys.modules if n.startswith(OWN)]:
        del sys.modules[name]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of somebody else, put where it can be imported."""
    home = tmp_path / "elsewhere" / "ownbandits"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "shift.py").write_text("SHIFT = 0\n")
    (home / "last.py").write_text(SOURCE)
    sys.path.append(str(home.parent))
    return home


def rows(outcome: Any) -> dict[str, float]:
    return {r["policy"]: r["rounds"] for r in document(outcome)["results"]}


def test_a_separate_package_is_compared_in_workers_as_it_is_replayed(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE.replace("from .shift import SHIFT", "SHIFT = 1"))
    specs = ["ownbandits.last:Last", "ownbandits.last:Last,back=1", f"{file}:Last"]
    trace = small()
    found = rows(compare([trace], specs, workers=2))
    assert set(found) == set(specs)  # named as they were given
    for spec in specs:
        assert found[spec] == replay(trace, spec).ledger.totals().rounds
    assert found[specs[1]] == found[specs[2]] != found[specs[0]]


def test_objects_and_classes_are_compared_in_workers_as_they_are_replayed(package: Path) -> None:
    cls = type(make("ownbandits.last:Last"))
    own, trace = cls(back=1), small()
    before = dict(vars(own))
    found = rows(compare([trace], [cls, own, cls(back=1), "ownbandits.last:Last"], workers=2))
    assert set(found) == {"Last", "Last:back=1", "Last:back=1 #2", "ownbandits.last:Last"}
    assert found["Last"] == found["ownbandits.last:Last"]
    assert found["Last:back=1"] == found["Last:back=1 #2"] == replay(trace, own).ledger.totals().rounds
    assert vars(own) == before  # copies played


class Learner(Policy):
    """Counts what it was told; a class of this test's own."""

    default_reset = "never"

    def allocate(self, lanes: int, arms: int) -> None:
        self.told = np.zeros(lanes)

    def choose(self, context: Any, allowed: Any) -> Any:
        return allowed.argmax(axis=1)

    def learn(self, rounds: Any, reward: Any) -> None:
        self.told[rounds.lane] += 1


def test_a_registered_name_takes_part_in_workers() -> None:
    register_policy("counter", Learner)
    assert set(rows(compare([small()], ["counter", "random"], 2, workers=2))) == {"counter", "random"}


def test_a_replayed_object_stays_as_it_was() -> None:
    own = Learner()
    first, second = (replay(small(), own, keep_rounds=True) for _ in range(2))
    assert first.policy == "Learner"
    assert not hasattr(own, "told")
    assert own.reward_name == "auto"
    assert first.ledger.totals().rounds == second.ledger.totals().rounds


def played(monkeypatch: pytest.MonkeyPatch, folder: Path, *specs: Any) -> list[str]:
    """Which policies are played anew when the comparison is resumed from ``folder``."""
    anew: list[str] = []
    real = workers.play
    with monkeypatch.context() as patch:
        patch.setattr(workers, "play", lambda job: anew.append(job.spec) or real(job))
        compare([small()], specs, workers=1, resume_dir=folder)
    return [spec for spec in anew if not spec.startswith("fixed:")]


def test_resume_notices_edited_code(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, kept = "ownbandits.last:Last", tmp_path / "kept"
    file = tmp_path / "mine.py"
    file.write_text(SOURCE.replace("from .shift import SHIFT", "SHIFT = 1"))
    specs = [spec, f"{file}:Last", "random"]
    assert played(monkeypatch, kept, *specs) == specs
    assert played(monkeypatch, kept, *specs) == []
    (package / "last.py").write_text(SOURCE + "# edited\n")
    assert played(monkeypatch, kept, *specs) == [spec]
    (package / "shift.py").write_text("SHIFT = 1\n")  # what it imports of its own package counts as well
    assert played(monkeypatch, kept, *specs) == [spec]
    file.write_text(file.read_text() + "# edited\n")
    assert played(monkeypatch, kept, *specs) == [specs[1]]
    assert played(monkeypatch, kept, *specs) == []


def test_resume_tells_objects_by_their_state(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = type(make("ownbandits.last:Last"))
    one, other = cls(), cls()
    other.table = np.arange(3)  # no setting, so not in its name
    assert played(monkeypatch, tmp_path / "kept", one) == ["Last"]
    assert played(monkeypatch, tmp_path / "kept", cls()) == []
    assert played(monkeypatch, tmp_path / "kept", other) == ["Last"]


def test_the_code_of_a_built_in_policy_is_its_own_and_what_it_stands_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from metasd.sim.compare import entrants

    real = entrants._source

    def edited(module: str) -> set[str]:
        """Policies whose digest changes with ``module``."""
        specs = ("ucb1", "exp3", "default")
        before = {s: code_of(make(s), s) for s in specs}
        with monkeypatch.context() as patch:
            patch.setattr(
                entrants, "_source", lambda name: (real(name) or b"") + b"#" if name == module else real(name)
            )
            return {s for s in specs if code_of(make(s), s) != before[s]}

    assert edited("metasd.policies.ucb") == {"ucb1"}
    assert edited("metasd.policies.exponential") == {"exp3"}
    assert "default" in edited("metasd.policies.frontier.policy")
    for module in ("metasd.policies.base", "metasd.core.rewards", "metasd.sim.replay.lanes", "metasd.core.loop"):
        assert edited(module) == {"ucb1", "exp3", "default"}
    assert edited("metasd.sim.env.vector") == set()


def test_a_file_that_a_setting_names_is_part_of_the_code(tmp_path: Path, package: Path) -> None:
    weights, spec = tmp_path / "weights.zip", f"ownbandits.named:Named,path={tmp_path / 'weights.zip'}"
    (package / "named.py").write_text(
        "from metasd.policies.rules import Random\n\nclass Named(Random):\n"
        "    def __init__(self, path: str):\n        super().__init__()\n        self.path = path\n"
    )
    weights.write_bytes(b"1")
    first = code_of(make(spec), spec)
    weights.write_bytes(b"2")
    assert code_of(make(spec), spec) != first


def test_what_has_no_source_is_compared_but_not_kept(tmp_path: Path) -> None:
    space: dict[str, Any] = {"Policy": Policy, "__name__": "nowhere"}
    exec("class Bare(Policy):\n    def choose(self, context, allowed):\n        return allowed.argmax(axis=1)\n", space)
    assert set(rows(compare([small()], [space["Bare"]], workers=1))) == {"Bare"}
    with pytest.raises(UsageError, match="the source of Bare cannot be read"):
        compare([small()], [space["Bare"]], workers=1, resume_dir=tmp_path)


def test_a_bad_policy_is_refused_before_anything_is_played() -> None:
    with pytest.raises(UsageError, match="is no policy class"):
        compare([small()], [Pool])
