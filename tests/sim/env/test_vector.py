"""MetaSD-v0 as a vector environment: the checks that Gymnasium's checker makes of scalar ones, and more."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from metasd.core.errors import UsageError
from metasd.core.observation import GROUPS
from metasd.traces.find import register_trace

N = 7
FINAL = ("prompt", "rounds", "best_fixed_rounds", "oracle_rounds", "seconds")
MODES = ("NextStep", "SameStep", "Disabled")


@pytest.fixture(scope="module")
def trace(make_trace):
    return register_trace("test-vector", make_trace(0))


def make(trace, n=N, **kwargs):
    return gym.make_vec("MetaSD-v0", num_envs=n, vectorization_mode="vector_entry_point", trace=trace, **kwargs)


def step(env, actions):
    """A step under which DISABLED resets by itself: the transitions a learner would keep."""
    obs, reward, terminated, truncated, info = env.step(actions)
    over = terminated | truncated
    if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and over.any():
        next_obs, _ = env.reset(options={"reset_mask": over})
        return next_obs, reward, terminated, truncated, info
    return obs, reward, terminated, truncated, info


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kwargs", [{}, {"feedback": "full"}, {"observe": list(GROUPS)}])
def test_spaces_types_and_shapes(trace, mode, kwargs):
    env = make(trace, autoreset_mode=mode, **kwargs)
    assert env.metadata["autoreset_mode"] == AutoresetMode(mode)
    obs, info = env.reset(seed=1, options={})
    env.action_space.seed(0)
    for _ in range(60):
        assert obs in env.observation_space
        assert np.isfinite(obs).all()
        assert info["action_mask"].shape == (N, 4)
        assert info["action_mask"].dtype == np.int8
        assert info["action_mask"].any(axis=1).all()
        obs, reward, terminated, truncated, info = step(env, env.action_space.sample())
        assert (reward.shape, terminated.shape, truncated.shape) == ((N,), (N,), (N,))
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float64, bool, bool)
        assert not truncated.any()
    env.close()
    env.close()


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_returned_twice(trace, mode):
    env = make(trace, autoreset_mode=mode, feedback="full")
    obs, info = env.reset(seed=0)
    kept = [(obs, obs.copy(), info["action_mask"], info["action_mask"].copy())]
    for n in range(40):
        obs, reward, terminated, _, info = step(env, np.full(N, n % 3))
        kept.append((obs, obs.copy(), reward, reward.copy()))
        kept.append((terminated, terminated.copy(), info["action_mask"], info["action_mask"].copy()))
        obs_base, old_base = obs.base if obs.base is not None else obs, kept[-3][0]
        assert not np.shares_memory(obs_base, old_base)
    for a, b, c, d in kept:
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(c, d)


def test_same_seed_same_run(trace):
    runs = []
    for seed in (0, 0, 99):
        env = make(trace)
        out = [env.reset(seed=seed)[0]]
        for n in range(30):
            obs, reward, *_ = env.step(np.full(N, n % 3))
            out += [obs, reward]
        runs.append([*out, env.reset()[0]])
    for a, b in zip(runs[0], runs[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(runs[0], runs[2], strict=True))


def scalar_run(trace, seed, steps, choose, **kwargs):
    """Episodes of a scalar environment: per episode (prompt, rewards, observations, final info)."""
    env = gym.make("MetaSD-v0", trace=trace, **kwargs)
    obs, _ = env.reset(seed=seed)
    episodes, rewards, seen, t = [], [], [obs], 0
    while t < steps:
        obs, reward, over, _, info = env.step(choose(t))
        rewards.append(reward)
        seen.append(obs)
        t += 1
        if over:
            episodes.append((rewards, seen, {k: info[k] for k in FINAL}))
            obs, _ = env.reset()
            rewards, seen = [], [obs]
    return episodes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("observe", [("position", "available", "last"), GROUPS])
def test_lane_j_equals_a_scalar_run_with_its_seed(make_trace, mode, sampled, observe):
    name = register_trace(f"test-vector-{sampled}", make_trace(3, sampled=sampled))
    env = make(name, autoreset_mode=mode, observe=observe)
    scalars = [scalar_run(name, 50 + j, 120, lambda t: t % 3, observe=observe) for j in range(N)]
    obs, _ = env.reset(seed=50)
    played, episode = np.zeros(N, int), np.zeros(N, int)
    rewards, seen = [[] for _ in range(N)], [[obs[j]] for j in range(N)]
    compared = 0
    while played.min() < 100:
        obs, reward, terminated, _, info = env.step(played % 3)
        dummy = info.get("autoreset", np.zeros(N, bool))
        last, final = obs, info
        if mode == "SameStep" and terminated.any():
            final = info["final_info"]
        after = env.reset(options={"reset_mask": terminated})[0] if mode == "Disabled" and terminated.any() else obs
        for j in range(N):
            if dummy[j]:
                assert reward[j] == 0
                assert not terminated[j]
                seen[j] = [obs[j]]
                continue
            played[j] += 1
            rewards[j].append(reward[j])
            seen[j].append(info["final_obs"][j] if mode == "SameStep" and terminated[j] else last[j])
            if terminated[j] and episode[j] < len(scalars[j]):
                expected = scalars[j][episode[j]]
                np.testing.assert_array_equal(rewards[j], expected[0])
                np.testing.assert_array_equal(seen[j], expected[1])
                for k in FINAL:
                    assert final[f"_{k}"][j]
                    assert final[k][j] == pytest.approx(expected[2][k], nan_ok=True)
                compared += 1
            if terminated[j]:
                episode[j] += 1
                rewards[j], seen[j] = [], [after[j]]
    assert compared > 3 * N


def test_the_dummy_transition_is_flagged_and_the_action_ignored(trace):
    runs = []
    for other in (0, 2):
        env = make(trace)
        env.reset(seed=4)
        dummy, out = np.zeros(N, bool), []
        for n in range(60):
            actions = np.full(N, n % 3)
            actions[dummy] = other  # what is chosen in a dummy step must not matter
            obs, reward, terminated, _, info = env.step(actions)
            assert (info["autoreset"] == dummy).all()
            assert (reward[dummy] == 0).all()
            dummy = terminated
            out.append(obs)
        runs.append(np.array(out))
    np.testing.assert_array_equal(*runs)


def test_results_are_there_exactly_when_an_episode_ends(trace):
    env = make(trace)
    env.reset(seed=0)
    for n in range(60):
        _, _, terminated, _, info = env.step(np.full(N, n % 3))
        assert all((k in info) == terminated.any() for k in FINAL)
        if terminated.any():
            for k in FINAL:
                np.testing.assert_array_equal(info[f"_{k}"], terminated)
            assert (info["oracle_rounds"] <= info["rounds"]).all()


def test_gymnasiums_wrappers_understand_the_infos(trace):
    env = gym.wrappers.vector.DictInfoToList(make(trace, autoreset_mode="SameStep"))
    env.reset(seed=0)
    ended = 0
    for n in range(40):
        _, _, terminated, _, infos = env.step(np.full(N, n % 3))
        for j in range(N):
            assert infos[j]["action_mask"].shape == (4,)
            assert ("final_info" in infos[j]) == terminated[j]
            ended += terminated[j]
            if terminated[j]:
                assert infos[j]["final_info"]["rounds"] >= 1
    assert ended > N
    stats = gym.wrappers.vector.RecordEpisodeStatistics(make(trace))
    stats.reset(seed=0)
    lengths = []
    for n in range(60):
        _, _, _, _, info = stats.step(np.full(N, n % 3))
        if "episode" in info:
            at = info["_episode"]
            lengths += list(zip(info["episode"]["l"][at], info["rounds"][at], strict=True))
    assert lengths
    assert all(a == b for a, b in lengths)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_max_episode_steps_truncates(trace, mode):
    env = make(trace, max_episode_steps=3, autoreset_mode=mode)
    env.reset(seed=0, options={"prompt": "p4"})
    for n in range(1, 4):
        obs, _, terminated, truncated, info = env.step(np.zeros(N, int))
        assert not terminated.any()
        assert truncated.all() == (n == 3)
    final = info["final_obs"][0] if mode == "SameStep" else obs[0]
    longer = make(trace)
    longer.reset(seed=0, options={"prompt": "p4"})
    for _ in range(3):
        expected = longer.step(np.zeros(N, int))[0]
    np.testing.assert_array_equal(final, expected[0])  # what a learner bootstraps from is the true next observation


def test_full_feedback_is_split_by_lane(trace):
    env = make(trace, feedback="full")
    env.reset(seed=0)
    for n in range(30):
        _, _, _, _, info = env.step(np.full(N, n % 3))
        for j in range(N):
            revealed = info["revealed"][j]
            assert (len(revealed["position"]) == 0) == bool(info["autoreset"][j])
            assert set(revealed["lane"].tolist()) <= {j}


def test_wrong_use_is_refused(trace):
    env = make(trace, autoreset_mode="Disabled")
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(N, int))
    with pytest.raises(UsageError, match="first reset"):
        env.reset(options={"reset_mask": np.eye(N, dtype=bool)[0]})
    env.reset(seed=0)
    for bad in (np.zeros(N - 1, int), np.zeros(N), np.full(N, 4), np.full(N, -1)):
        with pytest.raises(UsageError, match="actions"):
            env.step(bad)
    with pytest.raises(UsageError, match="reset_mask"):
        env.reset(options={"reset_mask": np.zeros(N, bool)})
    over = np.zeros(N, bool)
    while not over.any():
        over = env.step(np.zeros(N, int))[2]
    with pytest.raises(ResetNeeded, match="reset_mask"):
        env.step(np.zeros(N, int))
    with pytest.raises(UsageError, match="Sometimes"):
        make(trace, autoreset_mode="Sometimes")


def test_render_gives_a_line_a_lane(trace):
    env = make(trace, render_mode="ansi")
    env.reset(seed=0)
    assert len(env.render()) == N
    env.step(np.zeros(N, int))
    assert all("lookup@4" in line for line in env.render())
