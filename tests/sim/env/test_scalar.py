"""MetaSD-v0, scalar."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import metasd
from metasd.core.errors import TraceError, UsageError
from metasd.core.observation import GROUPS
from metasd.core.pool import Pool
from metasd.sim.oracle.rounds import clairvoyant_rounds, fixed_arm_rounds
from metasd.sim.replay.session import TraceSession
from metasd.traces.find import register_trace


@pytest.fixture(scope="module")
def names(make_trace):
    pool = Pool(make_trace(0).drafters, [(0, 4), (1, 2), (2, 4), (-1, 0), (2, 1)])
    traces = {"greedy": make_trace(0), "sampled": make_trace(0, sampled=True), "timeless": make_trace(0, costs=False)}
    for trace in traces.values():
        trace.manifest = {**trace.manifest, "pool": pool.to_json()}
    return {k: register_trace(f"test-{k}", t) for k, t in traces.items()} | {"traces": traces}


def make(names, which="greedy", **kwargs):
    return gym.make("MetaSD-v0", trace=names[which], **kwargs)


def episode(env, choose, **reset):
    """Observations, rewards, masks and the last info of one episode."""
    obs, info = env.reset(**reset)
    seen, rewards, masks = [obs], [], [info["action_mask"]]
    terminated = False
    while not terminated:
        obs, reward, terminated, truncated, info = env.step(choose(len(rewards), info["action_mask"]))
        seen.append(obs)
        rewards.append(reward)
        masks.append(info["action_mask"])
        assert not truncated
    return np.array(seen), np.array(rewards), np.array(masks), info


@pytest.mark.parametrize("which", ["greedy", "sampled", "timeless"])
@pytest.mark.parametrize("kwargs", [{}, {"feedback": "full"}, {"observe": list(GROUPS)}, {"render_mode": "ansi"}])
def test_gymnasiums_checker_finds_nothing(names, which, kwargs):
    check_env(make(names, which, **kwargs).unwrapped)


def test_registered_by_name_with_json_arguments(names):
    kwargs = {"trace": names["greedy"], "observe": ["position", "signals"], "prompts": ["p0", 4], "domain": "chat"}
    env = gym.make("metasd:MetaSD-v0", **kwargs)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert json.loads(json.dumps(kwargs)) == kwargs
    first, second = (episode(e, lambda n, m: n % 5, seed=1) for e in (env, again))
    np.testing.assert_array_equal(first[0], second[0])


def test_import_is_cheap_and_registers():
    code = "import metasd, sys, gymnasium; gymnasium.spec('MetaSD-v0'); print([m for m in sys.modules if m in "
    code += "('torch', 'transformers', 'metasd.sim.env.scalar', 'metasd.policies')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert metasd.__version__


@pytest.mark.parametrize("which", ["greedy", "sampled"])
def test_same_seed_same_episodes(names, which):
    a, b = make(names, which), make(names, which)
    choose = lambda n, mask: int(np.flatnonzero(mask)[n % mask.sum()])  # noqa: E731
    for seed in (3, None, None, 3):
        one, two = episode(a, choose, seed=seed), episode(b, choose, seed=seed)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
        assert one[3]["rounds"] == two[3]["rounds"]
    prompts = {episode(a, choose, seed=s)[3]["prompt"] for s in range(40)}
    assert prompts == {0, 1, 2, 3, 4}  # a miss has probability below 5 * 0.8^40 < 7e-4; the seeds are fixed


@pytest.mark.parametrize("which", ["greedy", "sampled", "timeless"])
@pytest.mark.parametrize("reward", ["block_efficiency", "block_divergence", "tokens"])
def test_looking_rounds_up_equals_playing_them(names, which, reward):
    """Both ways to step: the walk, and arrays (forced by a group of the observation that depends on the path)."""
    walk = make(names, which, reward=reward, observe=["position", "last", "available", "signals"])
    arrays = make(names, which, reward=reward, observe=["position", "last", "available", "signals", "history"])
    width = walk.observation_space.shape[0]
    rng = np.random.default_rng(0)
    for seed in range(12):
        arms = rng.integers(0, 5, 50)
        one, two = (episode(e, lambda n, m, arms=arms: arms[n], seed=seed) for e in (walk, arrays))
        np.testing.assert_array_equal(one[0], two[0][:, :width])
        np.testing.assert_allclose(one[1], two[1])
        np.testing.assert_array_equal(one[2], two[2])
        np.testing.assert_allclose(one[3].pop("seconds"), two[3].pop("seconds"))
        assert {k: v for k, v in one[3].items() if k != "action_mask"} == {
            k: v for k, v in two[3].items() if k != "action_mask"
        }


@pytest.mark.parametrize("observe", [["position"], ["position", "lag"]])
@pytest.mark.parametrize("kwargs", [{}, {"feedback": "full", "scope": "all"}, {"max_new_tokens": 3}])
def test_equals_a_trace_session(names, observe, kwargs):
    """Rounds, return and seconds of an episode are those of TraceSession playing the same arms."""
    trace = names["traces"]["greedy"]
    env = make(names, observe=observe, **kwargs)
    budget = kwargs.pop("max_new_tokens", None)
    for p in range(5):
        _, rewards, _, info = episode(env, lambda n, m: (3 * n + 2) % 5, options={"prompt": p})
        session = TraceSession(trace, episodes=[[p]], seeds=[0], budget=budget, **kwargs)
        n, seconds, accepted = 0, 0.0, []
        while not session.done:
            rounds = session.play(np.array([(3 * n + 2) % 5]))
            n, seconds = n + 1, seconds + float(rounds.seconds[0])
            accepted.append(int(rounds.accepted[0]))
        assert (info["prompt"], info["rounds"]) == (p, n)
        assert info["seconds"] == pytest.approx(seconds)
        np.testing.assert_allclose(rewards * 4, accepted)
        assert info["oracle_rounds"] == clairvoyant_rounds(trace, trace.pool(), prompts=[p], budget=budget)[0]
        assert info["best_fixed_rounds"] == fixed_arm_rounds(trace, trace.pool(), prompts=[p], budget=budget).min()


def test_comparators_can_be_left_out_and_are_absent_before_the_end(names):
    for which in ("greedy", "sampled"):
        env = make(names, which)
        _, info = env.reset(seed=0, options={"prompt": "p0"})
        assert set(info) == {"action_mask"}
        over = False
        while not over:
            _, _, over, _, info = env.step(0)
            expected = {"prompt", "rounds", "seconds", "best_fixed_rounds", "oracle_rounds"} if over else set()
            assert set(info) == {"action_mask"} | expected
        assert 1 <= info["oracle_rounds"] <= info["rounds"]
        assert info["oracle_rounds"] <= info["best_fixed_rounds"]
    info = episode(make(names, comparators=False), lambda n, m: 0)[3]
    assert info["best_fixed_rounds"] == info["oracle_rounds"] == -1
    assert np.isnan(episode(make(names, "timeless"), lambda n, m: 0)[3]["seconds"])


def test_observation_says_what_it_documents(names):
    trace = names["traces"]["greedy"]
    env = make(names, observe=list(GROUPS))
    labels = env.unwrapped.labels
    assert len(labels) == env.observation_space.shape[0] == len(set(labels))
    obs, _, masks, _ = episode(env, lambda n, m: 2 if n % 2 else 0, options={"prompt": 0})
    at = {name: i for i, name in enumerate(labels)}
    row = np.rint(obs[:, at["position.used"]] * 47).astype(int)
    assert row[0] == 0
    assert row[-1] == 30
    inside = row[:-1]
    np.testing.assert_array_equal(obs[:-1, at["available.lookup@4"]], trace.proposed[inside, 0] > 0)
    assert (obs[-1, [at[f"available.{n}"] for n in env.unwrapped.arms]] == 0).all()
    assert (masks[-1] == 1).all()
    np.testing.assert_array_equal(masks[:-1, 3], 1)
    np.testing.assert_array_equal(obs[2::2, at["last.model@4"]], 1)
    np.testing.assert_array_equal(obs[1::2, at["last.lookup@4"]], 1)
    matched = trace.signals[inside, 0, 0].astype(float)
    np.testing.assert_allclose(obs[:-1, at["signals.lookup.match_length"]], matched / (matched + 8), rtol=1e-6)
    np.testing.assert_array_equal(obs[:, at["signals.model.match_length"]], -1)
    assert obs[0, at["history.lookup@4.mean"]] == -1
    assert obs[-1, at["history.table@2.mean"]] == -1
    n = trace.prompt_lengths[0] - 1
    assert obs[0, at["lag.model"]] == pytest.approx(n / (n + 32))
    costs = obs[:-1, [at[f"cost.{k}"] for k in env.unwrapped.arms]]
    np.testing.assert_allclose(costs.max(axis=1), 1)
    assert (costs > 0).all()


def test_full_feedback_hands_out_the_revealed_arrays(names):
    env = make(names, feedback="full")
    env.reset(seed=0, options={"prompt": 4})
    positions, over = [], False
    while not over:
        _, _, over, _, info = env.step(0)
        positions += info["revealed"]["position"].tolist()
        assert not info["revealed"]["censored"].any()
    assert positions == list(range(40))


def test_render_tells_of_committed_tokens_only(names):
    env = make(names, render_mode="ansi")
    env.reset(options={"prompt": 0})
    assert "lookup@4" in env.render()
    _, _, _, _, _ = env.step(3)
    token = names["traces"]["greedy"].tokens[0]
    assert env.render() == f"position 0 | plain [] 0/0 accepted | tokens {token}"


def test_render_without_a_mode_warns(names):
    env = make(names).unwrapped
    with pytest.warns(UserWarning, match="render mode"):
        assert env.render() is None


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"reward": "money"}, "money"),
        ({"feedback": "some"}, "some"),
        ({"feedback": "full", "scope": "mine"}, "mine"),
        ({"observe": ["future"]}, "future"),
        ({"draft_length": 9}, "9"),
        ({"max_new_tokens": 99}, "99"),
        ({"prompts": ["nobody"]}, "nobody"),
        ({"domain": "poetry"}, "poetry"),
        ({"render_mode": "human"}, "human"),
    ],
)
def test_wrong_arguments_name_the_value(names, kwargs, words):
    from metasd.sim.env.scalar import MetaSDEnv

    with pytest.raises(UsageError, match=words):
        MetaSDEnv(trace=names["greedy"], **kwargs)


def test_wrong_use_is_refused(names, tmp_path):
    env = make(names).unwrapped
    with pytest.raises(ResetNeeded):
        env.step(0)
    with pytest.raises(UsageError, match="speed"):
        env.reset(options={"speed": 1})
    env.reset()
    with pytest.raises(UsageError, match="7"):
        env.step(7)
    with pytest.raises(UsageError, match="-1"):
        env.step(-1)
    episode(env, lambda n, m: 0)
    with pytest.raises(ResetNeeded):
        env.step(0)
    for copier in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="look ahead"):
            copier(env)
    with pytest.raises(TraceError):
        gym.make("MetaSD-v0", trace=str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="tokens_per_second"):
        make(names, "timeless", reward="tokens_per_second")
    assert make(names, reward="tokens_per_second").reset(seed=0)[0].shape == (1 + 5 + 7,)
    with pytest.raises(UsageError, match="kind"):
        gym.make("MetaSD-v0", trace="synthetic:arms=3")


@pytest.mark.parametrize("kwargs", [{}, {"observe": list(GROUPS)}])
def test_action_masks_are_those_of_the_info(names, kwargs):
    env = make(names, **kwargs)
    with pytest.raises(ResetNeeded):
        env.unwrapped.action_masks()
    some = False
    for seed in range(3):
        _, info = env.reset(seed=seed)
        over = False
        while not over:
            masks = env.get_wrapper_attr("action_masks")()  # as stable-baselines3 finds it
            assert masks.dtype == bool
            np.testing.assert_array_equal(masks, info["action_mask"] == 1)
            some |= not masks.all()
            _, _, over, _, info = env.step(int(masks.argmax()))
        np.testing.assert_array_equal(env.unwrapped.action_masks(), info["action_mask"] == 1)
    assert some


def test_an_unknown_render_mode_is_a_type_error_too(names):
    """stable-baselines3 asks for rgb_array and makes the environment without a mode on a TypeError."""
    with pytest.warns(UserWarning, match="rgb_array"), pytest.raises(TypeError, match="rgb_array"):
        make(names, render_mode="rgb_array")
