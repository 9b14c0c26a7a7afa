"""Captured passes, with capturing replaced by calling: the same text on static buffers; chosen or refused in words."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from metasd.core.errors import UsageError
from metasd.core.plans import Plan
from metasd.distill.answers import batch_answers
from metasd.runtime.engine import capture, graphable, graphs, paths
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import FINAL, Features
from metasd.runtime.engine.tree import TreePass
from metasd.runtime.load import Target, as_target
from metasd.runtime.session import LiveSession
from tests.record.test_families import made
from tests.runtime.sessions import cycle, drafters_for, generated, play_all
from tests.runtime.test_trees import model_of, random_plan
from tests.support import tiny
from tests.support.far import FarDevice, far

PROMPTS = [("a", [5, 9, 7]), ("b", [3]), ("c", [8, 8, 8, 12, 5, 8, 8, 8])]
BUDGET = 16


class Counted(capture.Called):
    """Counts captures and replays."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def capture(self, work: Callable[[], Any]) -> Callable[[], Any]:
        self.captures += 1

        def replay() -> Any:
            self.replays += 1
            return work()

        return replay


def captured(model: Any) -> Counted:
    counted = Counted()
    assert graphable.against(model) is None
    assert graphable.install(model, counted) is None
    counted.captures = counted.replays = 0
    return counted


@pytest.fixture(params=["llama", "gpt2", "window", "kinds"])
def model(request: pytest.FixtureRequest) -> Any:
    """Learned positions, a window narrower than the texts, and layers of two kinds included."""
    return made("Gemma2", wide=False) if request.param == "kinds" else model_of(request.param)


def session_of(target: Target, near: Any, **more: Any) -> LiveSession:
    drafters, pool = drafters_for(target, near)
    return LiveSession(target, drafters, pool, PROMPTS, max_new_tokens=BUDGET, **more)


@pytest.mark.parametrize("kind", ["llama", "window"])
def test_chains_and_trees_decode_the_text_of_plain_decoding(kind: str) -> None:
    target, near = as_target(model_of(kind), tiny.tokenizer(), "tiny"), tiny.near(tiny.llama(7, 3, torch.float32))
    wanted = [generated(target, prompt, BUDGET) for _, prompt in PROMPTS]
    counted, its = captured(target.model), captured(near)
    session = session_of(target, near)
    play_all(session, cycle(*range(6)))
    assert session.texts == wanted
    assert counted.replays > 20
    assert its.replays > 20
    rng, moved = np.random.default_rng(1), 0
    for _ in range(2):
        session = session_of(target, near, plans=True)
        before, widths = counted.captures, counted.replays
        while not session.done:
            ahead = wanted[session.at[0]][len(session.texts[session.at[0]]) :]
            plan = random_plan(rng, ahead, models=True)
            rounds = session.play_plans([plan])
            moved += int(rounds.accepted[0]) > 0 and plan.tokens[:1] != tuple(ahead[:1])
        assert session.texts == wanted
        assert counted.replays > widths + 10
        assert counted.captures == before, "what a session needs is captured before its first text, once a model"
    assert moved > 1


def test_a_pass_says_what_an_eager_one_says_behind_crops_and_moves(model: Any) -> None:
    eager = CachedModel(model)
    counted = captured(model)
    cached = CachedModel(model)
    text, tokens, parents = [5, 9, 7, 4, 4, 9, 20, 6, 6, 5], [3, 6, 6, 3, 8, 3], [-1, -1, 0, 1, 3, 2]
    said = []
    for one in (eager, cached):
        tree = TreePass(one)
        one.read(text[:6])
        rows = [tree.step(text, tokens, parents)]
        tree.keep([1, 3, 4])
        kept = [*text, 6, 3, 8]
        rows += [one.forward([*kept, 2], 1), one.forward([*kept, 7, 7], 3), one.forward([*kept[:8], 3, 3], 2)]
        assert one.length == one.shared([*kept[:8], 3, 3]) == 10
        said.append(torch.cat(rows))
    assert counted.replays == 4
    torch.testing.assert_close(said[1], said[0], rtol=1e-4, atol=1e-4)


def test_a_text_that_outgrows_its_buffers_moves_into_larger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CAPACITY", 8)
    model = tiny.llama(7, 3)
    target = as_target(model, tiny.tokenizer(), "tiny")
    prompt, wanted = [5, 9, 7], generated(target, [5, 9, 7], 40)
    counted = captured(model)
    cached, text, capacities = CachedModel(model), [*prompt], set()
    cached.read(prompt[:-1])
    while len(text) < len(prompt) + 40:
        text.append(int(cached.forward(text, 1)[0].argmax()))
        capacities.add(cached._engine._cache._lease[0].fixed.capacity)
    assert text[len(prompt) :] == wanted
    assert capacities == {8, 16, 32, 64}
    assert (counted.captures, counted.replays) == (2, 40), "the others are the trial's"
    cached.reset()
    cached.read(prompt)
    assert cached._engine._cache._lease[0].fixed.capacity == 8, "a short text is not read in buffers of a long one"


def test_a_shorter_text_does_not_see_what_a_longer_one_saw() -> None:
    model = tiny.llama(7, 3)
    text, tokens, parents, said = [5, 9, 7, 4, 4, 9, 20, 6, 6, 5], [3, 6, 8], [-1, -1, 1], []
    for install in (lambda m: None, captured):
        install(model)
        cached = CachedModel(model)
        tree = TreePass(cached)
        for length in (9, 4):
            cached.read(text[: length - 1])
            rows = tree.step(text[:length], tokens, parents)
            tree.keep([])
        said.append(rows)
    torch.testing.assert_close(said[1], said[0])


def test_buffers_and_passes_go_to_the_next_text_and_end_with_the_model() -> None:
    model = tiny.llama(7, 3)
    counted = captured(model)
    for _ in range(3):
        cached = CachedModel(model)
        cached.read([5, 9, 7])
        cached.forward([5, 9, 7, 4, 4, 4, 4], 1)
        cached.reset()
    assert counted.captures == 1
    first, second = CachedModel(model), CachedModel(model)
    for one in (first, second):
        one.read([5, 9, 7])
        one.forward([5, 9, 7, 4, 4, 4, 4], 1)
    assert counted.captures == 2, "two texts at once need two buffers"
    buffers = weakref.ref(first._engine._cache._lease[0])
    first.reset()
    second.reset()
    graphs.install(model, None)
    del first, second, one, cached
    gc.collect()
    assert buffers() is None


def test_states_between_layers_are_those_of_the_pass() -> None:
    model = tiny.llama(7, 3)
    found = []
    for install in (lambda m: None, captured):
        install(model)
        features = Features([0, 2, FINAL])
        cached = CachedModel(model, features)
        cached.read([5, 9, 7])
        for text in ([5, 9, 7, 4, 4], [5, 9, 7, 4, 8], [5, 9, 7, 4, 8, 3], [5, 9, 7, 2, 6]):
            cached.forward(text, 1)
        found.append(features.rows((0, 2, FINAL), 0, 5))
    torch.testing.assert_close(found[1], found[0])


def test_several_texts_at_once_are_read_as_before() -> None:
    target = as_target(tiny.llama(7, 3), tiny.tokenizer(), "tiny")
    prompts = [prompt for _, prompt in PROMPTS]
    wanted = [a.tokens for a in batch_answers(target, prompts, 9, lambda n: None)]
    captured(target.model)
    assert [a.tokens for a in batch_answers(target, prompts, 9, lambda n: None)] == wanted
    assert [a.tokens for a in batch_answers(target, prompts[:1], 9, lambda n: None)] == wanted[:1]


def test_a_round_reads_the_device_once() -> None:
    model, near = tiny.llama(), tiny.near(tiny.llama())
    with FarDevice() as device:
        target = as_target(far(model), tiny.tokenizer(), "tiny")
        counted, _ = captured(model), captured(far(near))
        session = session_of(target, near, plans=True)
        for plan in (Plan(), Plan((3,), (-1,)), Plan((4, 5, 6), (-1, -1, 0)), Plan((7, 8), (-1, -1))):
            assert session.context.branches
            before, waited, passes = device.reads, device.waits, counted.replays
            session.play_plans([plan])
            assert (device.reads - before, device.waits, counted.replays - passes) == (1, waited, 1)
        before = device.reads
        session.play_plans([Plan((3, 4), (-1, -1), model=2, depth=3)])
        assert device.reads - before == 2


def reader() -> Any:
    """Looks at its tokens to know what to do."""
    model = far(tiny.llama(7, 3, torch.float32))
    heard = model.forward
    model.forward = lambda input_ids, **more: heard(input_ids=input_ids if int(input_ids.max()) else -input_ids, **more)
    return model


def deaf() -> Any:
    """Goes by the length of its cache, not by positions."""
    model = far(tiny.llama(7, 3, torch.float32))
    heard = model.forward
    model.forward = lambda position_ids=None, **more: heard(**more)
    return model


def dynamic() -> Any:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    return far(tiny.llama(7, 3, torch.float32, rope_parameters=rope))


REFUSED = {
    "reads": (reader, "reads values off the device"),
    "deaf": (deaf, "say something else"),
    "rotary": (dynamic, "rotary factors follow the longest position"),
    "mask": (lambda: far(made("GPTNeo", wide=False)), "takes no mask, or its config does not tell"),
}


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    counted = Counted()
    monkeypatch.setattr(capture, "CudaGraphs", lambda device: counted)
    with FarDevice():
        yield counted


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.usefixtures("on_cuda")
def test_what_cannot_be_captured_is_eager_and_says_why(kind: str) -> None:
    make, said = REFUSED[kind]
    model = make()
    path = paths.install(model)
    assert (path.name, graphs.installed(model)) == ("eager", None)
    assert said in path.reason
    with pytest.raises(UsageError, match="engine graphs cannot be had: .*" + said):
        paths.install(model, "graphs")


def test_on_cuda_passes_are_captured_and_a_line_says_so(on_cuda: Counted, caplog: pytest.LogCaptureFixture) -> None:
    model = far(tiny.llama(7, 3, torch.bfloat16))
    with caplog.at_level(logging.INFO, "metasd"):
        assert paths.install(model).name == "graphs"
        assert paths.install(model, "graphs") == paths.EnginePath("graphs", "asked for")
        CachedModel(model).warm(100, (1, 2, 4), (3,))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "engine: graphs (one captured CUDA graph a width)"
    assert lines[-1].startswith("engine: 1 passes over 512 tokens captured in "), "the trial captured the others"
    assert graphs.spent() > 0
    assert as_target(model, tiny.tokenizer(), "tiny").arithmetic["linear"] == "torch+graphs"
    paths.install(model, "eager")
    assert graphs.installed(model) is None


def test_a_device_that_captures_nothing_decodes_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(work: Any) -> Any:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(capture, "CudaGraphs", lambda device: SimpleNamespace(capture=refuse))
    with FarDevice():
        path = paths.install(far(tiny.llama(7, 3)))
    assert path == paths.EnginePath("eager", "operation not permitted when stream is capturing")
    json.dumps(path.reason)
