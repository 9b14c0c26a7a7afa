"""MetaSD-v0 as a vector environment: what each lane gets, by its seed, of full information, and alone."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from metasd.core.errors import UsageError
from metasd.traces.find import register_trace

N = 7


@pytest.fixture(scope="module")
def trace(make_trace):
    return register_trace("test-vector-lanes", make_trace(0))


def make(trace, n=N, **kwargs):
    return gym.make_vec("MetaSD-v0", num_envs=n, vectorization_mode="vector_entry_point", trace=trace, **kwargs)


def test_full_feedback_is_worked_out_once_and_equals_a_choice_by_lane(trace, monkeypatch):
    from metasd.sim.env import vector
    from metasd.sim.env.engine import Engine

    seen, made = [], []
    real, reveal = vector.as_dict, Engine.revealed
    monkeypatch.setattr(vector, "as_dict", lambda revealed: made.append(1) or real(revealed))
    monkeypatch.setattr(Engine, "revealed", lambda self, playing: seen.append(reveal(self, playing)) or seen[-1])
    env = make(trace, feedback="full")
    env.reset(seed=3)
    for n in range(40):
        *_, info = env.step(np.full(N, n % 2))
        whole = real(seen[-1])
        for j in range(N):
            for name, array in info["revealed"][j].items():
                of = whole["lane"] if name in ("lane", "position", "agreement") else whole["start_lane"]
                np.testing.assert_array_equal(array, whole[name][of == j])
    assert len(made) == 40  # and not once a lane


def test_each_lane_may_have_its_own_seed(trace):
    def texts(env, steps=60):
        met = []
        for _ in range(steps):
            *_, info = env.step(np.zeros(N, int))
            met.append(np.where(info.get("_prompt", np.zeros(N, bool)), info.get("prompt", -1), -1))
        return np.array(met)

    env, other = make(trace), make(trace)
    env.reset(seed=5)
    other.reset(seed=list(range(5, 5 + N)))
    np.testing.assert_array_equal(texts(env), texts(other))
    swapped = np.arange(5, 5 + N)[::-1]
    other.reset(seed=swapped)
    env.reset(seed=5)
    np.testing.assert_array_equal(texts(env), texts(other)[:, ::-1])
    env.reset(seed=5)
    other.reset(seed=5)
    env.reset(seed=[9, *[None] * (N - 1)])
    other.reset(seed=[*[None] * (N - 1), 9])
    np.testing.assert_array_equal(texts(env)[:, 1:-1], texts(other)[:, 1:-1])  # None keeps a lane's stream
    with pytest.raises(UsageError, match=f"2 seeds for {N} lanes"):
        env.reset(seed=[1, 2])
    fresh = make(trace)
    fresh.reset(seed=[None] * N)  # never seeded: streams of its own
    met = texts(fresh, 1500)  # long enough that no two lanes meet the same texts at the same steps by chance
    assert len(np.unique(met, axis=1).T) == N


def test_one_lane_shows_what_the_scalar_environment_shows(trace):
    one, scalar = make(trace, 1, render_mode="ansi"), gym.make("MetaSD-v0", trace=trace, render_mode="ansi")
    seen, _ = one.reset(seed=2)
    alone, _ = scalar.reset(seed=2)
    over = False
    while not over:
        np.testing.assert_array_equal(seen[0], alone)
        assert one.render() == (scalar.render(),)
        seen, _, ended, _, _ = one.step(np.array([1]))
        alone, _, over, _, _ = scalar.step(1)
        assert ended[0] == over
    assert one.render() == (scalar.render(),)


def test_what_the_constructor_refused_can_be_closed(trace):
    """As gymnasium does when it collects the half-made object."""
    from metasd.sim.env.vector import MetaSDVectorEnv

    env = MetaSDVectorEnv.__new__(MetaSDVectorEnv)
    with pytest.raises(UsageError):
        env.__init__(N, trace, feedback="none")
    env.close()
