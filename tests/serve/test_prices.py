"""A policy that weighs tokens against time is told what drafts cost, by a clock that the test turns."""

from __future__ import annotations

import random

import numpy as np
import pytest
from engine import Engine, Served

from metasd.core.pool import DrafterInfo, Pool
from metasd.serve.adapter import Adapter
from metasd.serve.config import Config
from metasd.serve.pace import LEAST, PROBE, RARELY, TRIES, Pace
from metasd.serve.prices import CAUTION, Prices


def timed(start: float, slope: float, requests: int, steps: int, noise: float = 0.05, seed: int = 3) -> Pace:
    """A pace that has seen ``steps`` passes, of which about a third of the requests had a draft of a token or two."""
    pace, draw = Pace(4), random.Random(seed)
    for _ in range(steps):
        checked = requests + sum(draw.choice((0, 0, 1, 2)) for _ in range(requests))
        pace.price(requests)
        pace.see(requests, checked, (start + slope * checked) * draw.gauss(1, noise), checked)
    return pace


@pytest.mark.parametrize("requests", [1, 8, 32])
@pytest.mark.parametrize(("start", "slope"), [(0.03, 0.0004), (0.02, 0.015), (0.0, 0.015)])
def test_a_draft_token_costs_its_share_of_a_round_without_drafts(requests, start, slope):
    price = timed(start, slope, requests, 200).price(requests)
    assert price == pytest.approx(slope * requests / (start + slope * requests), abs=0.12)


def test_the_first_steps_try_drafts_and_large_batches_are_then_taken_to_be_bound_by_arithmetic():
    for requests, guessed in ((1, 1 / 9), (8, 0.5), (32, 0.8)):
        pace = Pace(4)
        said = [pace.price(requests) for _ in range(TRIES + 2)]
        assert said == pytest.approx([*[0.0] * TRIES, guessed, guessed])


def test_a_line_drawn_through_noise_is_not_believed():
    pace, wild = Pace(4), Pace(4)
    for i in range(LEAST + 2):  # one token more or less, seconds all over the place
        wild.see(32, 32 + i % 2, 0.1 * (1 + i * 7 % 5), 32)
        assert wild.price(32) == pace.price(32)


def test_a_batch_of_a_size_never_seen_is_taken_for_the_nearest():
    assert timed(0.02, 0.015, 16, 200).price(64) == pytest.approx(0.015 * 64 / (0.02 + 0.015 * 64), abs=0.1)


def test_where_nothing_is_drafted_any_more_the_price_stays_known():
    pace = timed(0.02, 0.015, 8, 100)
    known = pace.price(8)
    said = []
    for _ in range(300):
        pace.see(8, 8, 0.14, 8)
        said.append(pace.price(8))
    assert np.ptp(said[100:]) == 0
    assert said[-1] == pytest.approx(known, abs=0.1)


def test_drafts_are_said_to_be_free_now_and_then_so_that_their_price_is_seen_anew():
    pace = timed(0.02, 0.015, 8, 100)
    said = [pace.price(8) for _ in range(RARELY)]
    assert said.count(0.0) == 1


def gated(drafted_seconds: float, steps: int = 400) -> list[bool]:
    """Whether each of ``steps`` steps of 8 requests might have drafts; those with some yield 12 tokens for 8."""
    pace, draw, said = Pace(4), random.Random(5), []
    for _ in range(steps):
        pace.price(8)
        said.append(pace.drafting(8))
        seconds = (drafted_seconds if said[-1] else 0.1) * draw.choice((0.98, 1.0, 1.02, 1.02, 9.0))  # one stalls
        pace.see(8, 14 if said[-1] else 8, seconds, 12 if said[-1] else 8)
    return said


@pytest.mark.parametrize(("seconds", "drafts"), [(0.13, True), (0.17, False)])
def test_steps_with_drafts_are_held_against_steps_without(seconds, drafts):
    said = gated(seconds)
    assert said[:4] == [True] * 4
    late = said[100:]
    assert late.count(not drafts) == pytest.approx(len(late) / PROBE, abs=1.0)


def test_costs_are_of_the_tokens_proposed_up_to_the_arms_length():
    pool = Pool([DrafterInfo(name, "table", True, True) for name in "ab"], [(0, 1), (0, 4), (1, 4), (-1, 0)])
    pace = Pace(4)
    prices = Prices(pace, pool)
    for _ in range(TRIES):
        pace.price(1)
    cost = prices.tell(3, np.array([2]), np.array([[3.0, np.nan]], np.float32))
    token = CAUTION * prices.token
    assert prices.token > 0
    assert cost[2] == pytest.approx([1 + token, 1 + 3 * token, 1 + 4 * token, 1.0])
    assert (cost[:2] == 1).all()
    assert prices.told(np.array([2]), np.array([1])) == pytest.approx([1 + 3 * token])


def served(start: float, slope: float, policy: str) -> tuple[Adapter, float]:
    """All tokens of 24 answers of a text that repeats itself, 8 at once, over the seconds of their passes."""
    now = [0.0]
    made = Adapter(Config(policy=policy, pool=("lookup",)), most=4, max_length=200, clock=lambda: now[0])
    engine = Engine(made.propose, rows=8, seed=1)
    engine.waiting = [Served([i % 7, i // 7 % 7, 1], 120) for i in range(24)]
    while engine.waiting or engine.running:
        now[0] += start + slope * sum(1 + len(r.draft) for r in engine.running)
        engine.step()
    return made, sum(len(r.text) for r in engine.done) / now[0]


@pytest.mark.parametrize("policy", ["default", "ratio-ucb"])
def test_what_does_not_pay_is_not_drafted_and_what_pays_is(policy):
    dear, _ = served(0.0, 0.01, policy)
    cheap, fast = served(0.1, 0.0001, policy)
    plain = served(0.1, 0.0001, "fixed:arm=plain")[1]
    assert dear.counters.drafted < 0.5 * cheap.counters.drafted
    assert fast > 1.3 * plain


def test_arms_of_several_lengths_where_the_price_counts():
    assert Adapter(Config(pool=("lookup",)), most=6, max_length=99).pool.names == [
        *(f"lookup@{n}" for n in (1, 2, 4, 6)),
        "plain",
    ]
    one = Adapter(Config(pool=("lookup",), policy="ucb1"), most=6, max_length=99)
    assert one.pool.names[:-1] == ["lookup@6"]
