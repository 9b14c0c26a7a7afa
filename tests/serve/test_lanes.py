"""What requests of one server learn from each other."""

from __future__ import annotations

import numpy as np
import pytest
from engine import Engine, Served

from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Revealed
from metasd.core.signals import F
from metasd.policies import make
from metasd.serve.adapter import Adapter
from metasd.serve.config import Config
from metasd.serve.lanes import BASE, FIRST, Lanes

POOL = Pool([DrafterInfo("a", "table", True, True)], [(0, 2), (0, 4), (-1, 0)])


def starts(lane: int, accepted: list[int]) -> Revealed:
    """One start of drafter 0 on ``lane`` for each of ``accepted``, with signals that differ."""
    n = len(accepted)
    signals = np.linspace(0.1, 0.9, n * F, dtype=np.float32).reshape(n, 1, F)
    columns = {"position": np.arange(n), "start": np.arange(n), "drafter": np.zeros(n, int)}
    columns |= {"lane": np.full(n, lane), "start_lane": np.full(n, lane), "agreement": np.ones((n, 1))}
    columns |= {"proposed": np.full(n, 4), "accepted": np.array(accepted), "signals": signals}
    return Revealed(**columns, ended=np.zeros(n, bool), censored=np.zeros(n, bool))


def alone(*taught: list[int]):
    """A policy whose one lane was taught everything."""
    policy = make("default")
    policy.bind(POOL, 1, overlap=False)
    for accepted in taught:
        policy.observe(starts(0, accepted))
    return policy


@pytest.mark.parametrize("times", [1, 3])
def test_requests_know_what_others_learned_and_nothing_counts_twice(times):
    policy = make("default")
    lanes = Lanes(policy, POOL, None, 0)
    one, two = lanes.take(0), lanes.take(1)
    policy.observe(starts(one, [1, 4, 2]))
    policy.observe(starts(two, [0, 3]))
    for _ in range(times):
        lanes.share()
    whole = alone([1, 4, 2], [0, 3])
    for lane in (BASE, one, two, lanes.take(2)):
        assert policy.A[lane] == pytest.approx(whole.A[0])
        assert policy.b[lane] == pytest.approx(whole.b[0])
        assert policy.mass[lane].sum() == pytest.approx(whole.mass[0].sum())
        drafting = policy.theta[lane][:2]
        assert drafting == pytest.approx(np.linalg.solve(whole.A[0, 0], whole.b[0, :2].T).T)
    policy.observe(starts(one, [2]))
    lanes.release(one)
    assert policy.A[lanes.take(3)] == pytest.approx(alone([1, 4, 2], [0, 3], [2]).A[0])


def test_lanes_that_are_added_share_too():
    policy = make("default")
    lanes = Lanes(policy, POOL, None, 0)
    taken = [lanes.take(i) for i in range(2 * FIRST)]
    assert BASE not in taken
    assert len({*taken}) == 2 * FIRST
    policy.observe(starts(taken[0], [3, 3]))
    lanes.share()
    assert policy.A[taken[-1]] == pytest.approx(alone([3, 3]).A[0])


@pytest.mark.parametrize("settings", [{"policy": "ucb1", "reset": "never"}, {"policy": "default", "reset": "prompt"}])
def test_lanes_that_cannot_or_must_not_share_learn_by_themselves(settings):
    made = Adapter(Config(**settings, goodput=False), most=4, max_length=99)
    one, two = made.lanes.take(0), made.lanes.take(1)
    before = {k: v[two].copy() for k, v in made.policy.state_dict().items()}
    made.policy.observe(starts(one, [1, 2]))
    made.lanes.share()
    assert all(np.array_equal(v[two], before[k]) for k, v in made.policy.state_dict().items())


def test_what_running_requests_learned_is_saved(tmp_path):
    made = Adapter(Config(state=str(tmp_path / "s"), goodput=False), most=4, max_length=99)
    engine = Engine(made.propose, rows=2, seed=1, max_length=99)
    engine.waiting += [Served([1, 2, 3], 60), Served([2, 3, 1], 60)]
    for _ in range(15):
        engine.step()
    assert engine.running
    made.save()
    again = Adapter(Config(state=str(tmp_path / "s"), goodput=False), most=4, max_length=99)
    assert again.policy.mass[5].sum() == pytest.approx(made.policy.mass[BASE].sum())
    assert made.policy.mass[BASE].sum() > 5
