"""Requests through the adapter, served by a scheduler in small: nothing lost, nothing crossed, every sum exact."""

from __future__ import annotations

import random

import numpy as np
import pytest
from engine import VOCABULARY, Engine, Served, next_token
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.core.errors import UsageError
from metasd.serve import state
from metasd.serve.adapter import Adapter
from metasd.serve.config import Config
from metasd.serve.requests import Requests


def adapter(policy: str = "default", max_length: int = 200, **settings) -> Adapter:
    settings = {"goodput": False, **settings}  # lengths by the clock differ from run to run
    return Adapter(Config(policy=policy, **settings), most=4, max_length=max_length)


def prompts(seed: int, count: int, kinds: int) -> list[list[int]]:
    draw = random.Random(seed)
    known = [[draw.randrange(VOCABULARY) for _ in range(draw.randint(2, 12))] for _ in range(kinds)]
    return [list(draw.choice(known)) for _ in range(count)]


def expected(prompt: list[int], count: int) -> list[int]:
    text = list(prompt)
    for _ in range(count):
        text.append(next_token(text))
    return text


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1 << 30),
    rows=st.integers(1, 9),
    kinds=st.integers(1, 6),
    events=st.lists(st.sampled_from(["step", "step", "arrive", "abort", "preempt", "shuffle"]), max_size=40),
    policy=st.sampled_from(["default", "ucb1", "hedgespec", "random", "fixed:arm=lookup@4"]),
    longest=st.sampled_from([24, 200]),
)
def test_whatever_happens_the_text_is_the_targets_and_the_sums_are_the_engines(
    seed, rows, kinds, events, policy, longest
):
    made = adapter(policy, longest)
    engine = Engine(made.propose, rows=rows, seed=seed, max_length=longest)
    told_apart = {"abort", "preempt"} <= {*events}  # see metasd.serve.requests: the one case no text can tell
    several = [[*p, i % 7, i // 7 % 7] for i, p in enumerate(prompts(seed, 45, 45))]
    coming = [Served(p, 5 + i % 20) for i, p in enumerate(several if told_apart else prompts(seed, 45, kinds))]
    for event in ["arrive", "arrive", *events]:
        if event == "arrive":
            engine.waiting.append(coming.pop())
        getattr(engine, event, engine.step)()
        engine.step()
    for _ in range(2000):
        if not (engine.running or engine.waiting):
            break
        engine.step()
    else:
        pytest.fail("the engine never came to an end")
    for request in engine.done:
        assert request.text == expected(request.prompt, len(request.text) - len(request.prompt))
    c = made.counters
    if engine.unasked == 0:
        assert (c.drafts, c.drafted, c.accepted) == (engine.drafts, engine.drafted, engine.accepted)
        assert c.padded == engine.padded
    assert c.accepted <= engine.accepted
    assert c.at_position.sum() == c.accepted
    assert c.arms.sum() == c.rounds == c.emitted - c.accepted


def test_drafts_are_cut_where_the_engine_is_slow_and_its_sums_still_agree():
    now = [0.0]
    made = Adapter(Config(policy="fixed:arm=lookup@4"), most=4, max_length=2000, clock=lambda: now[0])
    cuts = set()

    def propose(sampled, lengths, texts):
        drafts = made.propose(sampled, lengths, texts)
        now[0] += 0.001 + 0.1 * sum(1 + len(d) for d in drafts)  # a pass costs what its tokens do
        cuts.add(made.counters.cap)
        return drafts

    engine = Engine(propose, rows=3, seed=0, max_length=2000)
    engine.waiting += [Served([1, 2, 3 + i], 400) for i in range(3)]
    while engine.running or engine.waiting:
        engine.step()
    c = made.counters
    assert {0, 4} <= cuts
    assert (c.drafts, c.drafted, c.accepted) == (engine.drafts, engine.drafted, engine.accepted)
    assert c.arms[-1] > c.arms[0], "mostly plain: four more tokens cost more than they bring"
    assert all(r.text == expected(r.prompt, len(r.text) - 3) for r in engine.done)


def test_no_request_takes_over_anothers_text():
    """Every request keeps its number from the first step to the last, through preemption and moving rows."""
    known, numbers = Requests(4, 200), {}

    def propose(sampled, lengths, texts):
        for match in known.recognise(sampled, lengths, texts):
            owner = engine.running[match.row]
            assert numbers.setdefault(id(owner), match.request.number) == match.request.number
            assert match.request.text.tolist() == owner.text
            assert match.request.prompt_length == len(owner.prompt)
            match.request.draft = [next_token(owner.text), 0]
        drafts = [[next_token(r.text), 0] if s else [] for r, s in zip(engine.running, sampled, strict=True)]
        assert len({numbers[id(r)] for r in engine.running if id(r) in numbers}) <= len(engine.running)
        return drafts

    engine = Engine(propose, rows=6, seed=3)
    distinct = [[a, b, c] for a in range(5) for b in range(5) for c in range(2)]
    everyone = [Served(p, 12) for p in distinct]
    engine.waiting += everyone
    for i in range(600):
        engine.step()
        if i % 5 == 0:
            engine.preempt()
        if i % 3 == 0:
            engine.shuffle()
    assert len(engine.done) == len(everyone)
    assert sorted(numbers.values()) == list(range(len(everyone)))


def test_identical_prompts_side_by_side_are_two_requests():
    made = adapter("fixed:arm=lookup@4")
    engine = Engine(made.propose, rows=4, seed=0)
    engine.waiting += [Served([1, 2, 3], 20) for _ in range(4)]
    while engine.running or engine.waiting:
        engine.step()
    assert made.counters.requests == 4
    assert [r.text[:23] for r in engine.done] == [expected([1, 2, 3], 20)] * 4


def test_placeholders_that_the_engine_counts_as_drafts_are_counted():
    made = adapter("ucb1")
    engine = Engine(made.propose, rows=5, seed=2)
    engine.waiting += [Served([a, b, a], 25) for a in range(5) for b in range(5)]
    while engine.running or engine.waiting:
        engine.step()
        if engine.random.random() < 0.2:
            engine.preempt()
    assert made.counters.padded == engine.padded > 10
    assert (made.counters.drafts, made.counters.accepted) == (engine.drafts, engine.accepted)


def test_requests_keep_their_lanes_while_a_text_near_the_limit_keeps_the_engine_from_asking():
    made = adapter("fixed:arm=lookup@4", 40)
    engine = Engine(made.propose, rows=4, seed=2, max_length=40)
    engine.waiting += [Served([1, 2, 3], 60), *(Served([a, 5, 6], 30) for a in range(3))]
    while engine.running or engine.waiting:
        engine.step()
    assert engine.unasked > 0
    assert made.counters.requests == 4
    assert all(r.text == expected(r.prompt, len(r.text) - len(r.prompt)) for r in engine.done)


def test_a_new_prompt_that_goes_on_where_an_answer_ended_is_a_new_request():
    known = Requests(4, 200)

    def see(text: list[int], tokens: list[int]) -> int:
        texts = np.zeros((1, 50), np.int32)
        texts[0, : len(text)] = text
        return known.recognise([tokens], np.array([len(text)], np.int32), texts)[0].request.number

    assert see([1, 2, 3, 4], [4]) == 0
    assert see([1, 2, 3, 4, 5], [5]) == 0
    assert see([1, 2, 3, 4, 5, 9, 9, 8], [8]) == 1


def test_more_requests_than_lanes_and_what_they_start_from():
    made = adapter("ucb1", reset="never")
    engine = Engine(made.propose, rows=20, seed=1)
    engine.waiting += [Served(p, 15) for p in prompts(5, 20, 20)]
    while engine.running or engine.waiting:
        engine.step()
    assert made.lanes.count >= 16
    before = made.policy.n[made.lanes.elder].copy()
    assert before.sum() > 0
    lane = made.lanes.take(999)
    assert made.policy.n[lane].tolist() == before.tolist()


def test_what_was_learned_is_kept_and_a_damaged_file_is_refused(tmp_path):
    file = tmp_path / "state"
    made = adapter("default", state=str(file))
    engine = Engine(made.propose, rows=3, seed=1)
    engine.waiting += [Served(p, 30) for p in prompts(5, 6, 3)]
    while engine.running or engine.waiting:
        engine.step()
    made.save()
    again = adapter("default", state=str(file))
    elder = made.lanes.elder
    assert np.array_equal(again.policy.theta[0], made.policy.theta[elder])
    assert np.array_equal(again.policy.theta[5], made.policy.theta[elder])
    with pytest.raises(UsageError, match="of policy 'default'"):
        adapter("ucb1", state=str(file))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UsageError, match="is damaged; remove it, or set metasd"):
        adapter("default", state=str(file))
    fresh = adapter("default", state=str(file), fresh=True)
    assert not np.array_equal(fresh.policy.theta[0], made.policy.theta[elder])


def test_a_state_of_another_pool_is_refused(tmp_path):
    made = adapter("ucb1", state=str(tmp_path / "s"))
    made.save()
    with pytest.raises(UsageError, match="another pool"):
        adapter("ucb1", state=str(tmp_path / "s"), pool=("lookup",))
    with pytest.raises(UsageError, match="cannot be read"):
        state.read(tmp_path / "none", made.policy, "ucb1", made.pool)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pol": 1}, "no key 'pol'"),
        ({"pool": "lookup"}, "give a list of drafters"),
        ({"seed": True}, "metasd.seed is True"),
        ({"log_every": 0}, "seconds above 0"),
        ({"file": "nowhere.toml"}, "nowhere.toml"),
        ([], "give a mapping"),
    ],
)
def test_bad_settings_are_one_line(given, said):
    with pytest.raises(UsageError, match=said) as error:
        Config.read(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pool": ("model:path=x",)}, "cannot run under vLLM's hook"),
        ({"pool": ("lookup:draft_length=9",)}, "drafts 9 tokens and the engine checks 4"),
        ({"policy": "ratio-ucb", "goodput": False}, "reads cost"),
        ({"policy": "planner"}, "plans trees"),
        ({"policy": "nobody"}, "unknown policy 'nobody'"),
        ({"policy": "ucb1", "prior": "none.json"}, "prior none"),
        ({"reset": "daily"}, "reset 'daily' is unknown"),
    ],
)
def test_what_cannot_work_is_said_at_the_start(settings, said):
    with pytest.raises(UsageError, match=said):
        Adapter(Config(**settings), most=4, max_length=200)


def test_settings_from_a_file(tmp_path):
    (tmp_path / "m.toml").write_text('pool = ["lookup"]\npolicy = "ucb1"\nseed = 3\n')
    assert Config.read({"file": str(tmp_path / "m.toml")}) == Config(pool=("lookup",), policy="ucb1", seed=3)
