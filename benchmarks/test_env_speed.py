"""Speed of replay on one core, each figure beside its yardstick in the same run.

Times are the best of many short blocks, ours and the yardstick's in turn: what the code can do when the machine lets
it. Run with ``tox -e bench`` or ``OMP_NUM_THREADS=1 pytest benchmarks/test_env_speed.py``.
"""

from __future__ import annotations

import time

import gymnasium as gym
import numpy as np
import pytest

import metasd  # noqa: F401 - registers MetaSD-v0
from metasd.core.pool import Pool
from metasd.policies.ucb import MetaSDUCB
from metasd.sim.replay.session import TraceSession
from metasd.traces import synthetic
from metasd.traces.find import register_trace
from metasd.traces.trace import Trace

LANES, ARMS, BLOCK = 4096, 5, 20


def best(blocks: int, *calls):
    """Least seconds of one call of each, over blocks taken in turn."""
    found = [float("inf")] * len(calls)
    for _ in range(blocks):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(BLOCK):
                call()
            found[i] = min(found[i], (time.perf_counter() - start) / BLOCK)
    return found


def vector(name: str, **kwargs):
    env = gym.make_vec(name, num_envs=LANES, vectorization_mode="vector_entry_point", **kwargs)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 2, LANES)
    return lambda: env.step(actions)


def report(benchmark, call, **figures) -> None:
    """Let pytest-benchmark show the call, with what was found about it."""
    benchmark.extra_info.update(figures)
    benchmark.pedantic(call, rounds=20, iterations=1)


def test_vector_env_beside_cartpole(benchmark) -> None:
    ours, cartpole = vector("MetaSD-v0", trace="synthetic:kind=iid,prompts=256"), vector("CartPole-v1")
    for _ in range(300):
        ours()
    seconds, yardstick = best(60, ours, cartpole)
    figures = {"steps_per_second_millions": LANES / seconds / 1e6, "cartpole_over_ours": yardstick / seconds}
    report(benchmark, ours, **figures)
    assert LANES / seconds >= 8e6


def test_scalar_env_through_the_default_wrappers(benchmark) -> None:
    env = gym.make("MetaSD-v0", trace="synthetic:kind=iid,prompts=256")
    env.reset(seed=0)

    def steps(n: int = 500) -> None:
        for i in range(n):
            if env.step(i % ARMS)[2]:
                env.reset()

    (seconds,) = best(10, steps)
    report(benchmark, steps, steps_per_second=500 / seconds)
    assert 500 / seconds >= 40_000


def rounds(trace: Trace, *, play_only: bool = False):
    """A call that plays one round of MetaSD-UCB on every lane of an endless session."""
    session = endless(trace)
    policy = MetaSDUCB(reward="block_efficiency")
    policy.bind(session.pool, LANES)
    arms = np.random.default_rng(0).integers(0, len(session.pool), LANES)

    def call() -> None:
        context = session.context
        if play_only:
            session.play(arms)
            return
        if len(session.fresh):
            policy.begin(session.fresh, session.keys[session.fresh])
        policy.update(session.play(policy.select(context)))

    return call


def endless(trace: Trace) -> TraceSession:
    texts = np.random.default_rng(1).integers(0, len(trace), (LANES, 400))
    return TraceSession(trace, episodes=list(texts), seeds=[0] * LANES)


def test_env_and_ucb_beside_pymab(benchmark) -> None:
    pymab = pytest.importorskip("pymab")
    call = rounds(synthetic("iid", prompts=256, length=128, arms=ARMS))
    seconds = min(best(60, call))
    horizon, replicates = 1000, 100
    experiment = pymab.Experiment(
        environment=pymab.BanditEnvironment(np.linspace(0.3, 0.8, ARMS), pymab.BernoulliReward()),
        policies={"ucb": pymab.policies.UCBPolicy(n_arms=ARMS)},
        config=pymab.ExperimentConfig(horizon=horizon, n_replicates=replicates, seed=0),
    )
    theirs = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        experiment.run()
        theirs = min(theirs, time.perf_counter() - start)
    mine, pymabs = LANES / seconds, horizon * replicates / theirs
    report(benchmark, call, rounds_per_second_millions=mine / 1e6, over_pymab=mine / pymabs)
    assert mine >= 3e6
    assert mine >= 20 * pymabs


def test_a_round_costs_the_same_in_a_trace_of_any_size(benchmark, tmp_path) -> None:
    """1e3 to 1e7 positions, memory-mapped, once the operating system has most of the files' pages in reach."""
    calls = {n: rounds(mapped(tmp_path / str(n), n), play_only=True) for n in (10**3, 10**5, 10**7)}
    for call in calls.values():
        for _ in range(500):  # also lets the lanes fall out of step, so that texts end in every play
            call()
    found = dict(zip(calls, best(25, *calls.values()), strict=True))
    report(benchmark, calls[10**7], **{f"ns_per_round_{n:.0e}": s / LANES * 1e9 for n, s in found.items()})
    assert found[10**7] <= 2 * found[10**3]  # not 10^4 times: what is left is the caches of the machine


def mapped(folder, positions: int) -> Trace:
    """A trace of ``positions`` rows whose tables lie in files."""
    small = synthetic("iid", prompts=10, length=100, arms=ARMS, overlap=False)
    copies = positions // 1000
    for name in ("proposed", "accepted"):
        folder.mkdir(exist_ok=True)
        file = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (positions, ARMS))
        file.reshape(copies, 1000, ARMS)[:] = getattr(small, name)
        file.flush()
        setattr(small, name, np.load(folder / f"{name}.npy", mmap_mode="r"))
    small.ids = [f"t{i}" for i in range(10 * copies)]
    small.domains = ["iid"] * (10 * copies)
    small.offsets = np.arange(10 * copies + 1) * 100
    small.ended, small.prompt_lengths = np.ones(10 * copies, bool), np.zeros(10 * copies, np.int64)
    return small


def test_a_round_costs_at_most_in_proportion_to_the_arms(benchmark) -> None:
    traces = {k: synthetic("iid", prompts=64, length=128, arms=k, overlap=False) for k in (4, 16, 64)}
    calls = {k: rounds(t, play_only=True) for k, t in traces.items()}
    found = dict(zip(calls, best(15, *calls.values()), strict=True))
    report(benchmark, calls[64], **{f"ns_per_round_{k}_arms": s / LANES * 1e9 for k, s in found.items()})
    assert found[64] <= 16 * found[4]


def test_vector_env_with_a_clock_and_drafters_that_come_and_go(benchmark) -> None:
    """As recorded traces are: a clock, and free drafters without a proposal at half of the positions."""
    trace = synthetic("iid", prompts=256, length=128, arms=ARMS)
    rng = np.random.default_rng(0)
    trace.proposed = np.where(rng.random(trace.proposed.shape) < 0.5, 0, trace.proposed).astype(np.uint8)
    trace.accepted = np.minimum(trace.accepted, trace.proposed)
    free = Pool.from_json({**trace.pool().to_json(), "drafters": [vars_of(d) for d in trace.drafters]})
    trace.drafters, trace.manifest = free.drafters, {**trace.manifest, "pool": free.to_json()}
    trace.costs = clock([d.name for d in free.drafters])
    register_trace("bench-clock", trace)
    ours, cartpole = vector("MetaSD-v0", trace="bench-clock"), vector("CartPole-v1")
    for _ in range(300):
        ours()
    seconds, yardstick = best(60, ours, cartpole)
    report(benchmark, ours, steps_per_second_millions=LANES / seconds / 1e6, cartpole_over_ours=yardstick / seconds)
    assert LANES / seconds >= 8e6


def vars_of(drafter) -> dict:
    return {"name": drafter.name, "kind": drafter.kind, "free": True, "deterministic": True, "settings": {}}


def clock(names: list[str]):
    from metasd.core.costs import CostModel

    D = len(names)
    return CostModel(
        drafters=tuple(names),
        widths=np.array([1.0, 9.0]),
        verify_seconds=np.array([0.02, 0.03]),
        draft_fixed=np.full(D, 1e-4),
        draft_per_token=np.full(D, 1e-3),
        catch_up_fixed=np.zeros(D),
        catch_up_per_token=np.zeros(D),
        verify_per_context=1e-6,
    )
