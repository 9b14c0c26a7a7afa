"""Seconds under a clock that only models' passes move, worked out by hand: of rounds, sums and rates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import toy

from metasd.core.ledger import Ledger
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import concatenate
from metasd.drafters import LookupDrafter
from metasd.runtime import contenders
from metasd.runtime.models import ModelDrafter
from metasd.runtime.session import LiveSession

TARGET_FIXED, DRAFTER_FIXED = 16.0, 2.0
"""Seconds of a pass, and one more for every token it reads."""
BUDGET = 8
PROMPT = [0, 1, 2, 0]
MODEL, LOOKUP, PLAIN = range(3)


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def drive(self, model: Any, fixed: float) -> Any:
        """``model``, whose every pass takes ``fixed`` seconds and one more a token."""

        def before(module: Any, args: Any, given: dict[str, Any]) -> None:
            self.now += fixed + given["input_ids"].shape[1]

        model.register_forward_pre_hook(before, with_kwargs=True)
        return model


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    return made


def cyclic(*said: int) -> np.ndarray:
    """Logits of a model that says ``said[i]`` after i."""
    return np.tile(np.eye(len(said))[list(said)], (len(said), 1, 1))


def timed(clock: Clock) -> tuple[Any, Callable[[], tuple[list[Any], Pool]]]:
    """A target that counts 0, 1, 2, 0, ..., and a maker of drafters: a model that says 1 after 2, and a lookup."""
    target = toy.target(cyclic(1, 2, 0))
    clock.drive(target.model, TARGET_FIXED)

    def build() -> tuple[list[Any], Pool]:
        info = DrafterInfo("model", "model", free=False, deterministic=False)
        model = ModelDrafter(info, clock.drive(toy.TableModel(cyclic(1, 2, 1)), DRAFTER_FIXED), vocab_size=3)
        drafters = [model, LookupDrafter(draft_length=3)]
        return drafters, Pool([d.info for d in drafters], [(0, 3), (1, 3), (-1, 0)])

    return target, build


def test_every_second_of_a_round_is_where_it_belongs(clock: Clock) -> None:
    """Prefill and the listener's seconds are in no round; the policy's are in its verification."""
    target, build = timed(clock)
    drafters, pool = build()

    def listen(*told: Any) -> None:
        clock.now += 1000.0

    session = LiveSession(
        target, drafters, pool, [("a", PROMPT), ("b", [2, 0, 1])], max_new_tokens=BUDGET, on_tokens=listen
    )
    ledger = Ledger(pool, 2)
    played = []
    for arm, thinking in [(MODEL, 0.5), (PLAIN, 0.25), (MODEL, 0.0), (MODEL, 0.0), *[(PLAIN, 0.0)] * BUDGET]:
        assert session.context.position.tolist() == [len(session.texts[session.at[0]])]
        clock.now += thinking
        played.append(session.play(np.array([arm])))
        ledger.add(played[-1])
    assert session.done
    assert session.texts == [[1, 2, 0, 1, 2, 0, 1, 2], [2, 0, 1, 2, 0, 1, 2, 0]]
    rounds = concatenate(played)
    # 1: reads 3 tokens of the prompt, drafts 1, 2, 1. 3: missed one token, drafts 2, 1, 2. 4: one token may be drafted.
    assert rounds.emitted.tolist() == [3, 1, 2, 2, *[1] * BUDGET]
    assert rounds.catch_up.tolist() == [3, 0, 1, 0, *[0] * BUDGET]
    assert rounds.catch_up_seconds.tolist() == [2 + 3, 0, 2 + 1, 0, *[0] * BUDGET]
    assert rounds.draft_seconds.tolist() == [3 * 3, 0, 3 * 3, 3, *[0] * BUDGET]
    assert rounds.verify_seconds.tolist() == [16 + 4 + 0.5, 16 + 1 + 0.25, 16 + 4, 16 + 2, *[16 + 1] * BUDGET]
    assert session.prefill_seconds == (16 + 3) + (16 + 2)
    assert session.seconds == 34.5 + 17.25 + 32 + 21 + 8 * 17
    assert session.forward_seconds == session.seconds - 0.75
    assert session.forward_share == session.forward_seconds / session.seconds
    first, both = ledger.totals(np.array([0])), ledger.totals()
    assert (first.draft_seconds, first.verify_seconds, first.catch_up_seconds) == (21, 75.75, 8)
    assert first.seconds == 104.75
    assert first.tokens_per_second == 8 / 104.75
    assert both.seconds == session.seconds
    assert both.tokens_per_second == 16 / (104.75 + 136)


def test_reading_for_full_information_is_catch_up(clock: Clock) -> None:
    target, build = timed(clock)
    drafters, pool = build()
    session = LiveSession(target, drafters, pool, [("a", PROMPT)], max_new_tokens=3, feedback="full", scope="all")
    rounds = concatenate([session.play(np.array([PLAIN])) for _ in range(3)])
    assert rounds.catch_up.tolist() == [4, 1, 1]
    assert rounds.catch_up_seconds.tolist() == [2 + 4, 2 + 1, 2 + 1]
    assert rounds.draft_seconds.tolist() == [0, 0, 0]
    assert rounds.verify_seconds.tolist() == [17, 17, 17]
    assert session.forward_seconds == session.seconds == 63


def test_contenders_rates_are_tokens_over_seconds_of_their_own(clock: Clock) -> None:
    target, build = timed(clock)
    entrants = contenders.contenders(["fixed:arm=model"], build, baseline=True, prior=None)
    texts = [("a", "one", PROMPT), ("b", "two", PROMPT)]
    contenders.run(target, entrants, texts, contenders.Decoding(max_new_tokens=BUDGET))
    rows = contenders.rows(entrants, texts)
    # rounds and seconds of one text: the model emits 3, 3, 2; lookup copies three tokens twice and the target adds one
    by_hand = {
        "fixed:arm=plain": (8, 8 * 17),
        "fixed:arm=model@3": (3, (5 + 9 + 20) + (9 + 20) + (3 + 18)),
        "fixed:arm=lookup@3": (2, 2 * 20),
        "fixed:arm=model": (3, 84),
    }
    assert [r["policy"] for r in rows] == [policy for policy in by_hand for _ in range(3)]
    for r in rows:
        rounds, seconds = by_hand[r["policy"]]
        times = 2 if r["domain"] == "all" else 1
        assert (r["prompts"], r["emitted"]) == (times, 8 * times)
        assert (r["rounds"], r["seconds"]) == (rounds * times, seconds * times)
        assert r["tokens_per_second"] == 8 / seconds
        assert r["speedup"] == pytest.approx(136 / seconds)
        assert r["regret_rounds"] == (rounds - 2) * times
