"""An adversary walks everything it can reach from what a policy is given, and must not find the future."""

from __future__ import annotations

import gc
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError

import metasd.sim.env.private as vault
from metasd.core.records import Context, Revealed, Rounds
from metasd.sim.env.scalar import MetaSDEnv
from metasd.sim.env.vector import MetaSDVectorEnv
from metasd.sim.replay.session import TraceSession
from metasd.traces.find import register_trace
from metasd.traces.trace import Trace

GIVEN = (Context, Rounds, Revealed, MetaSDEnv, MetaSDVectorEnv)
CODE = (types.ModuleType, types.FunctionType, types.CodeType, type, property, np.dtype)
BOUND = (types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType)


def crawl(roots):
    """{path: object} of all that is reachable: attributes (slots and properties too), containers, ``base``, closures.

    Names with two leading underscores are Python's own and lead to code. Code is entered through closures and bound
    objects only: a function's globals are the whole program.
    """
    found, seen, todo = {}, {}, [(name, thing) for name, thing in roots.items()]
    while todo:
        path, thing = todo.pop()
        if id(thing) in seen or len(path) > 300:
            continue
        seen[id(thing)] = thing  # keeps it alive, so that no id is used twice
        found[path] = thing
        todo += list(children(path, thing))
    return found


def children(path, thing):
    if isinstance(thing, str | bytes | int | float | complex | bool | type(None) | np.generic):
        return
    if isinstance(thing, np.ndarray):
        yield f"{path}.base", thing.base
        if thing.dtype == object:
            yield from ((f"{path}[{i}]", x) for i, x in enumerate(thing.ravel()))
        return
    if isinstance(thing, dict):
        yield from ((f"{path}[{k!r}]", v) for k, v in thing.items())
        return
    if isinstance(thing, list | tuple | set | frozenset):
        yield from ((f"{path}[{i}]", v) for i, v in enumerate(thing))
        return
    if isinstance(thing, BOUND):
        yield f"{path}.__self__", thing.__self__
        return
    if isinstance(thing, types.FunctionType):
        yield from ((f"{path}.cell{i}", c.cell_contents) for i, c in enumerate(thing.__closure__ or ()))
        return
    if isinstance(thing, CODE):
        return
    for name in dir(thing):
        if not name.startswith("__"):
            try:
                yield f"{path}.{name}", getattr(thing, name)
            except Exception:  # an attribute that cannot be read tells nothing
                continue


def guilty(found, trace):
    """Paths that lead to the environment's side, or to memory of the trace's tables."""
    tables = [a for a in (trace.proposed, trace.accepted, trace.accept, trace.overlap, trace.tokens) if a is not None]
    bad = []
    for path, thing in found.items():
        if isinstance(thing, np.ndarray) and thing.dtype != object:
            bad += [path] * any(np.shares_memory(thing, table) for table in tables)
        module = type(thing).__module__
        inner = module.startswith(("metasd.sim", "metasd.traces")) and not isinstance(thing, GIVEN)
        bad += [path] * (inner and not isinstance(thing, CODE))
    return bad


@pytest.fixture(scope="module")
def trace(make_trace):
    # lengths beyond any coincidence: what is accepted is drawn apart from all that a policy sees
    return make_trace(8, lengths=(60, 70, 50), depth=7)


ARGUMENTS = {"feedback": "full", "observe": ["position", "available", "last", "history", "signals", "lag", "cost"]}


def test_the_crawler_finds_a_planted_leak(trace):
    session = TraceSession.per_prompt(trace)
    context = session.context
    assert guilty(crawl({"session": session}), trace)
    assert guilty(crawl({"context": (context, lambda: session)}), trace)
    context.position = trace.accepted[:3, 0]
    assert guilty(crawl({"context": context}), trace)
    assert guilty(crawl({"x": [{"y": trace.accepted[5:][::2]}]}), trace)


@pytest.mark.parametrize("kwargs", [{}, ARGUMENTS])
def test_scalar_environment_refers_to_nothing_of_the_future(trace, kwargs):
    env = gym.make("MetaSD-v0", trace=register_trace("test-leak", trace), render_mode="ansi", **kwargs)
    obs, info = env.reset(seed=0)
    step = (obs, info)
    for n in range(8):
        assert not guilty(crawl({"env": env, "step": step, "rendered": env.render()}), trace)
        step = env.step(n % 3)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_vector_environment_refers_to_nothing_of_the_future(trace, mode):
    name = register_trace("test-leak", trace)
    for kwargs in ({}, ARGUMENTS):
        env = gym.make_vec("MetaSD-v0", num_envs=3, trace=name, autoreset_mode=mode, **kwargs)
        step = env.reset(seed=0)
        for n in range(40):
            if n % 8 == 0 or step[-1].get("_rounds", np.zeros(1)).any():
                assert not guilty(crawl({"env": env, "step": step}), trace)
            step = env.step(np.full(3, n % 3))


def test_context_rounds_and_revelations_refer_to_nothing_of_the_future(trace):
    reads = frozenset({"signals", "lag", "cost", "tail", "proposal"})
    session = TraceSession.per_prompt(
        trace, lanes=2, reads=reads, overlap=True, feedback="full", scope="all", censored=True
    )
    while not session.done:
        context = session.context
        rounds = session.play(np.arange(2) % 3)
        given = {"c": context, "r": rounds, "v": session.reveal(), "fresh": session.fresh, "keys": session.keys}
        assert not guilty(crawl(given), trace)


def test_writing_to_what_is_given_changes_nothing(trace):
    """Whatever a policy does to its arrays, the session goes on as if it had not."""

    def run(spoil):
        session = TraceSession.per_prompt(
            trace, lanes=2, seeds=range(2), feedback="full", reads=frozenset({"lag", "signals"})
        )
        out, n = [], 0
        while not session.done:
            context = session.context
            arms = np.arange(2) + n % 2
            rounds = session.play(arms)
            out += rounds.counts()
            revealed = session.reveal()
            out.append(revealed.start.tolist())
            n += 1
            if spoil:
                things = (context, rounds, revealed, arms, session.fresh, session.keys)
                for array in [a for a in crawl({"x": things}).values() if isinstance(a, np.ndarray)]:
                    array[...] = 77 if array.dtype != bool else True
        return out

    assert run(True) == run(False)


def numbers(found):
    """{path: value} of every number in reach, single cells of small arrays included."""
    out = {}
    for path, thing in found.items():
        if isinstance(thing, int | float | np.generic) and not isinstance(thing, str | bytes):
            out[path] = float(thing) if np.isreal(thing) else np.nan
        elif isinstance(thing, np.ndarray) and thing.dtype.kind in "iufb" and thing.size <= 400:
            out |= {f"{path}[{i}]": float(v) for i, v in enumerate(thing.ravel())}
    return out


def test_no_number_in_reach_foretells_the_next_length(trace):
    """Of each number the adversary can read, how well does it tell the accepted length of what comes next?

    Lengths here are independent of all that is visible, drawn from 0..min(7, proposed): a number that gives
    the next one right in 3 of 4 rounds over 100 rounds is a leak (chance of a false alarm below 1e-20 a number).
    """
    env = gym.make("MetaSD-v0", trace=register_trace("test-leak", trace), **ARGUMENTS)
    right, asked = {}, 0
    for p in range(3):
        step = env.reset(options={"prompt": p})
        position, over, n = 0, False, 0
        while not over:
            upcoming = trace.accepted[trace.offsets[p] + position]
            for path, value in numbers(crawl({"env": env, "step": step})).items():
                for scale in (1, 7):
                    hits = right.setdefault((path, scale), np.zeros(3))
                    hits += np.isclose(value * scale, upcoming)
            asked += 1
            arm, n = n % 3, n + 1
            drafted = min(int(trace.proposed[trace.offsets[p] + position, arm]), 7)
            step = env.step(arm)
            over = step[2]
            position += min(int(upcoming[arm]), drafted) + 1
    assert asked > 40
    assert len(right) > 100
    assert max(hits.max() for hits in right.values()) < 0.75 * asked


def test_an_environment_that_is_gone_leaves_nothing_behind(trace):
    gc.collect()
    before = set(vault._kept)
    env = gym.make("MetaSD-v0", trace=register_trace("test-leak", trace))
    other = gym.make_vec("MetaSD-v0", num_envs=2, trace="test-leak")
    made = set(vault._kept) - before
    assert len(made) == 2
    assert not any(isinstance(vault.fetch(h), Trace) for h in made)
    env.close()
    env.close()
    del other
    gc.collect()
    assert not made & set(vault._kept)
    with pytest.raises(ClosedEnvironmentError):
        vault.fetch(next(iter(made)))


def test_an_environment_that_was_closed_says_so(trace):
    register_trace("test-closed", trace)
    env = gym.make("MetaSD-v0", trace="test-closed")
    env.reset(seed=0)
    env.close()
    for call in (lambda: env.unwrapped.step(0), lambda: env.unwrapped.reset()):
        with pytest.raises(ClosedEnvironmentError, match="was closed; make another"):
            call()
    many = gym.make_vec("MetaSD-v0", num_envs=2, trace="test-closed")
    many.reset(seed=0)
    many.close()
    with pytest.raises(ClosedEnvironmentError, match="was closed; make another"):
        many.unwrapped.step([0, 0])
