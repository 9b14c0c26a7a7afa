"""Live decoding: lossless whatever is chosen, and the books of every round right."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import StopReason
from metasd.runtime.load import Target
from metasd.runtime.models import ModelDrafter
from metasd.runtime.session import LiveSession

from .conftest import VOCAB, tiny_model
from .sessions import LONG, LOOKUP, PLAIN, PROMPTS, SKIP, TABLE, cycle, drafters_for, generated, play_all


@pytest.fixture(scope="module")
def expected(target: Target) -> list[list[int]]:
    return [generated(target, prompt, 40) for _, prompt in PROMPTS]


@pytest.mark.parametrize("arm", range(6))
def test_every_arm_gives_the_targets_greedy_text(
    target: Target, tiny_drafter: Any, expected: list[list[int]], arm: int
) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=40)
    rounds = play_all(session, cycle(arm))
    assert session.texts == expected
    assert rounds.emitted.sum() == sum(map(len, expected))
    if arm != PLAIN:
        assert rounds.accepted.sum() > 0


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(arms=st.lists(st.integers(0, 5), min_size=1, max_size=30), budget=st.integers(1, 40))
def test_any_sequence_of_arms_is_lossless_and_keeps_the_books(
    target: Target, tiny_drafter: Any, expected: list[list[int]], arms: list[int], budget: int
) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=budget)
    rounds = play_all(session, cycle(*arms))
    assert session.texts == [text[:budget] for text in expected]
    assert (rounds.accepted <= rounds.drafted).all()
    assert np.isin(rounds.emitted - rounds.accepted, (0, 1)).all()
    assert (rounds.drafted <= np.maximum(budget - rounds.position - 1, 0)).all()
    assert rounds.finished.sum() == len(PROMPTS)
    for p, text in enumerate(session.texts):
        own = rounds.take(rounds.prompt == p)
        assert own.emitted.sum() == len(text)
        assert (np.cumsum(own.emitted) - own.emitted == own.position).all()


def test_the_cases_that_matter_are_seen(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=40)
    rounds = play_all(session, cycle(LONG, LOOKUP, SKIP, LONG, TABLE))
    seen = set(rounds.stop.tolist())
    assert {StopReason.REJECTED, StopReason.DRAFT_LIMIT} <= seen
    assert ((rounds.drafted == 0) & (rounds.arm == LOOKUP)).any(), "a drafter without a proposal is a plain round"
    empty = rounds.take(rounds.drafted == 0)
    assert (empty.emitted == 1).all()
    assert (empty.catch_up == 0).all()


def test_end_of_text_inside_an_accepted_draft(target: Target) -> None:
    """The target drafts for itself, so everything is accepted and the end falls inside a draft."""
    made, pool = drafters_for(target, target.model)
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=40)
    rounds = play_all(session, cycle(LONG))
    assert session.texts == [generated(target, p, 40) for _, p in PROMPTS]
    inside = rounds.take(rounds.stop == StopReason.TEXT_ENDED)
    assert len(inside) > 0
    assert inside.finished.all()
    assert (inside.accepted == inside.emitted).all(), "the target's own token behind the end is not emitted"
    assert (inside.drafted > inside.accepted).any(), "what was drafted behind the end still counts as drafted"
    ended = [t for t in session.texts if t[-1] in target.eos_ids]
    assert ended
    assert not any(set(text[:-1]) & target.eos_ids for text in ended)
    others = rounds.take(~rounds.finished)
    assert (others.accepted == others.drafted).all()


def test_budget_end(target: Target) -> None:
    made, pool = drafters_for(target, target.model)
    endless = dataclasses.replace(target, eos_ids=frozenset())
    session = LiveSession(endless, made, pool, PROMPTS[:1], max_new_tokens=9)
    rounds = play_all(session, cycle(LONG))
    assert rounds.counts() == [
        (0, LONG, 0, 5, 5, 6, StopReason.DRAFT_LIMIT, 0, 2),
        (0, LONG, 6, 2, 2, 3, StopReason.BUDGET_ENDED, 1, 1),
    ]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
        ({"max_new_tokens": 300}, "'a'"),
        ({"clock": "sun"}, "'sun'"),
        ({"clock": "model"}, "costs"),
        ({"feedback": "some"}, "'some'"),
        ({"feedback": "full", "scope": "near"}, "'near'"),
    ],
)
def test_settings_that_cannot_work_are_named(
    target: Target, tiny_drafter: Any, settings: dict[str, Any], word: str
) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    with pytest.raises(UsageError, match=word):
        LiveSession(target, made, pool, PROMPTS, **settings)


def test_misuse_is_refused(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    with pytest.raises(UsageError, match="not those of the pool"):
        LiveSession(target, made[::-1], pool, PROMPTS)
    session = LiveSession(target, made, pool, PROMPTS[:1], max_new_tokens=1)
    with pytest.raises(UsageError, match="arm 6"):
        session.play(np.array([6]))
    with pytest.raises(UsageError, match="feedback='full'"):
        session.reveal()
    session.play(np.array([LONG]))
    with pytest.raises(UsageError, match="done"):
        session.play(np.array([LONG]))
    small = tiny_model(1)
    small.config.max_position_embeddings = 20
    info = DrafterInfo("small", "model", free=False, deterministic=False)
    drafter = ModelDrafter(info, small, vocab_size=VOCAB)
    with pytest.raises(UsageError, match="drafter 'small' ends at 20"):
        LiveSession(target, [drafter], Pool([info], [(0, 2)]), PROMPTS, max_new_tokens=18)
