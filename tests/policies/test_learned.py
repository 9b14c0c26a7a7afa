"""Models of stable-baselines3 as policies. They are untrained here: what matters is that their ratings are followed."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from metasd.core.errors import UsageError
from metasd.core.observation import ContextEncoder
from metasd.policies import make

OBSERVE = "position+available+last+history+signals"
AGREE, SHOWS = [0.35, 0.85, 0.1], [0.6, 0.9, 0.5]


class Shapes(gym.Env):
    """Nothing but the spaces of MetaSD-v0 for some pool."""

    def __init__(self, width, arms):
        self.observation_space = gym.spaces.Box(-1, 1, (width,), np.float32)
        self.action_space = gym.spaces.Discrete(arms)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.fixture(params=["ppo", "a2c", "dqn"])
def spec(request, bench, tmp_path):
    sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    pool = bench.pool()
    env = Shapes(ContextEncoder(pool, 1, OBSERVE.split("+")).width, len(pool))
    path = tmp_path / "model.zip"
    getattr(sb3, request.param.upper())("MlpPolicy", env, seed=3, device="cpu").save(path)
    return f"sb3:path={path},algorithm={request.param},observe={OBSERVE}"


def test_the_adapter_loads_nothing_until_bound():
    code = "import sys, metasd.policies.learned; print({'torch', 'stable_baselines3'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UsageError, match="path="):
        make("sb3")
    with pytest.raises(UsageError, match="nowhere"):
        make("sb3:path=nowhere.zip")
    model = tmp_path / "m.zip"
    model.write_bytes(b"not a model")
    with pytest.raises(UsageError, match="trpo"):
        make(f"sb3:path={model},algorithm=trpo")
    with pytest.raises(UsageError, match="taste"):
        make(f"sb3:path={model},observe=position+taste").wants(overlap=False)


def test_it_asks_for_what_its_observation_needs(tmp_path):
    model = tmp_path / "m.zip"
    model.write_bytes(b"")
    assert make(f"sb3:path={model}").wants(overlap=True)["reads"] == frozenset()
    assert make(f"sb3:path={model},observe=signals+cost").wants(overlap=True)["reads"] == {"signals", "cost"}


def test_a_file_that_is_no_model_is_refused(bench, tmp_path):
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    model = tmp_path / "m.zip"
    model.write_bytes(b"not a model")
    with pytest.raises(UsageError, match="not a saved ppo model"):
        bench.bound(make(f"sb3:path={model}"), bench.pool(), bench.keys(1))


def test_a_model_of_another_pool_is_refused(bench, spec):
    with pytest.raises(UsageError, match="4 arms"):
        bench.bound(make(spec), bench.pool(2), bench.keys(1))


def test_it_plays_what_the_model_rates_highest(bench, spec):
    pool, keys = bench.pool(), bench.keys(5)
    policy, world = bench.bound(make(spec), pool, keys), bench.World(pool, AGREE, keys, shows=SHOWS)
    own = ContextEncoder(pool, 5, OBSERVE.split("+"))
    for _ in range(40):
        context = world.context()
        arms = policy.select(context)
        observation = np.ascontiguousarray(own.encode(context).T)
        rated = policy.ratings(observation)
        wanted = np.where(context.available, rated, -np.inf).argmax(axis=1)
        np.testing.assert_array_equal(arms, wanted)
        free = policy._model.predict(observation, deterministic=True)[0]
        np.testing.assert_array_equal(free, rated.argmax(axis=1))
        rounds = world.play(arms)
        policy.update(rounds)
        own.update(rounds)


def test_state_round_trip_and_lanes(bench, spec):
    pool, keys = bench.pool(), bench.keys(4)
    policy, world = bench.bound(make(spec), pool, keys), bench.World(pool, AGREE, keys, shows=SHOWS)
    before = bench.drive(policy, world, 30)
    alone = bench.bound(make(spec), pool, keys[2:3])
    np.testing.assert_array_equal(
        before[:, 2], bench.drive(alone, bench.World(pool, AGREE, keys[2:3], shows=SHOWS), 30)[:, 0]
    )
    twin, twin_world = bench.bound(make(spec), pool, keys), bench.World(pool, AGREE, keys, shows=SHOWS)
    twin_world.position[:], twin_world.remaining[:] = world.position, world.remaining
    twin.load_state_dict(policy.state_dict())
    np.testing.assert_array_equal(bench.drive(policy, world, 30), bench.drive(twin, twin_world, 30))
