"""Live decoding: lossless whatever is chosen, and every number of a round right."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Rounds, StopReason, concatenate
from metasd.drafters import LookupDrafter, TableDrafter
from metasd.runtime.load import Target, as_target
from metasd.runtime.models import ModelDrafter, SkipDrafter
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession

from .conftest import VOCAB, perturbed, tiny_model, tiny_tokenizer

ARMS = ((0, 8), (1, 3), (2, 1), (2, 5), (3, 4), (-1, 0))
PROMPTS = [("a", [5, 9, 7]), ("b", [30]), ("c", [8, 8, 8, 12, 50, 8, 8, 8]), ("d", [44, 3, 19, 21])]
LOOKUP, TABLE, SHORT, LONG, SKIP, PLAIN = range(6)


def drafters_for(target: Target, model: Any, temperature: float = 0.0, seed: int = 0) -> tuple[list[Any], Pool]:
    sampling = Sampling(temperature)
    info = DrafterInfo("model", "model", free=False, deterministic=False)
    made: list[Any] = [
        LookupDrafter(draft_length=8),
        TableDrafter(draft_length=3),
        ModelDrafter(info, model, vocab_size=target.vocab_size, sampling=sampling, seed=seed),
        SkipDrafter(target, "1-2", sampling=sampling, seed=seed),
    ]
    return made, Pool([d.info for d in made], ARMS)


def play_all(session: LiveSession, arms: Any) -> Rounds:
    """Every text to its end, the arms from an iterator."""
    rounds = []
    while not session.done:
        rounds.append(session.play(np.array([next(arms)])))
    return concatenate(rounds)


def cycle(*arms: int) -> Any:
    while True:
        yield from arms


def generated(target: Target, prompt: list[int], budget: int) -> list[int]:
    """What transformers itself decodes greedily."""
    ids = torch.tensor([prompt])
    out = target.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=budget,
        do_sample=False,
        eos_token_id=sorted(target.eos_ids),
    )
    return out[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def target(tiny_target: Target) -> Target:
    """The tiny target, ending at tokens it likes, so that texts end inside drafts."""
    return dataclasses.replace(tiny_target, eos_ids=frozenset({34, 61}))


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


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_catch_up_follows_the_cache_rule(target: Target, tiny_drafter: Any) -> None:
    """valid = n_text + min(drafted - 1, accepted) after drafting, lag = n_text - 1 - valid: as a replay counts it."""
    made, pool = drafters_for(target, tiny_drafter)
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=40, reads=frozenset({"lag"}))
    rng = np.random.default_rng(3)
    lagged, valid = 0, {}
    while not session.done:
        if len(session.fresh):
            valid = {2: 0, 3: 0}
        context, arm = session.context, int(rng.integers(6))
        prompt = session._at
        n = len(PROMPTS[prompt][1]) + int(context.position[0])
        lag = [max(0, n - 1 - valid[d]) if d in valid else 0 for d in range(4)]
        assert context.lag is not None
        assert context.lag.tolist() == [lag]
        rounds = session.play(np.array([arm]))
        drafter, drafted = ARMS[arm][0], int(rounds.drafted[0])
        charged = lag[drafter] if drafted and drafter in valid else 0
        assert rounds.catch_up.tolist() == [charged]
        assert rounds.catch_up_seconds is not None
        assert (rounds.catch_up_seconds[0] > 0) == (charged > 0)
        lagged += charged > 0
        if drafted and drafter in valid:
            valid[drafter] = n + min(drafted - 1, int(rounds.accepted[0]))
    assert lagged > 10


def test_context_says_what_is_known_now(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    reads = frozenset({"signals", "tail", "proposal"})
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=12, reads=reads)
    proposals = 0
    while not session.done:
        at, context = session._at, session.context
        text = PROMPTS[at][1] + session.texts[at]
        assert context.position[0] == len(session.texts[at])
        assert context.remaining[0] == 12 - len(session.texts[at])
        assert context.tail is not None
        assert context.tail.tolist() == [([-1, *text])[-2:]]
        assert context.available.shape == (1, 6)
        assert context.available[0, [SHORT, LONG, SKIP, PLAIN]].all()
        assert context.proposal is not None
        assert context.signals is not None
        assert np.isnan(context.signals[0, 2:]).all()
        assert (context.proposal[0, :2] >= 0).tolist() == context.available[0, :2].tolist()
        assert context.proposal[0, 2:].tolist() == [-1, -1]
        assert (context.lag, context.cost) == (None, None)
        rounds = session.play(np.array([LOOKUP]))
        assert bool(rounds.drafted[0]) == bool(context.available[0, LOOKUP] and context.remaining[0] > 1)
        if rounds.accepted[0]:
            assert session.texts[at][int(rounds.position[0])] == context.proposal[0, 0]
        proposals += int(rounds.drafted[0] > 0)
    assert proposals > 3
    assert session.context.remaining.tolist() == [0]
    assert session.fresh.tolist() == []


def test_fresh_and_keys_name_the_text(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=5, seed=7)
    keys = []
    while not session.done:
        keys.append((int(session.keys[0]), session.fresh.tolist() == [0]))
        session.play(np.array([PLAIN]))
    assert len({k for k, _ in keys}) == 4
    assert sum(fresh for _, fresh in keys) == 4
    assert keys[0][1]


def test_streaming_hears_every_token(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    heard: list[tuple[int, list[int], int, int]] = []
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=20, on_tokens=lambda *a: heard.append(a))
    rounds = play_all(session, cycle(LONG, LOOKUP))
    texts: list[list[int]] = [[] for _ in PROMPTS]
    for prompt, tokens, _, _ in heard:
        texts[prompt] += tokens
    assert texts == session.texts
    assert [arm for _, _, arm, _ in heard] == rounds.arm.tolist()
    assert [n for *_, n in heard] == rounds.accepted.tolist()


def test_overlap_fills_the_round(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    rounds = play_all(LiveSession(target, made, pool, PROMPTS, max_new_tokens=20, overlap=True), cycle(LONG, LOOKUP))
    assert rounds.overlap is not None
    assert rounds.overlap.shape == (len(rounds), 8)
    assert ((~np.isnan(rounds.overlap)).sum(axis=1) == rounds.drafted).all()
    with np.errstate(invalid="ignore"):
        assert not ((rounds.overlap < 0) | (rounds.overlap > 1)).any()
    bare = play_all(LiveSession(target, *drafters_for(target, tiny_drafter), PROMPTS, max_new_tokens=20), cycle(LONG))
    assert bare.overlap is None


def costs(pool: Pool) -> CostModel:
    names = tuple(d.name for d in pool.drafters)
    four = np.arange(1.0, 5.0)
    return CostModel(
        names[::-1],
        widths=np.array([1.0, 9.0]),
        verify_seconds=np.array([10.0, 18.0]),
        draft_fixed=four,
        draft_per_token=four / 4,
        catch_up_fixed=four * 2,
        catch_up_per_token=four / 8,
        context=10.0,
        verify_per_context=0.5,
        overhead=0.25,
    )


def test_the_cost_models_clock(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    model = costs(pool)
    session = LiveSession(
        target, made, pool, PROMPTS, max_new_tokens=20, costs=model, clock="model", reads=frozenset({"cost"})
    )
    for arm in cycle(LONG, SKIP, PLAIN, LOOKUP):
        if session.done:
            break
        context, at = session.context, session._at
        r = session.play(np.array([arm]))
        column = 3 - max(ARMS[arm][0], 0)
        drafted, caught = int(r.drafted[0]), int(r.catch_up[0])
        where = len(PROMPTS[at][1]) + int(r.position[0])
        assert r.verify_seconds == pytest.approx([10.0 + drafted + 0.5 * (where - 10) + 0.25])
        assert r.draft_seconds == pytest.approx([(column + 1) * (1 + drafted / 4) if drafted else 0.0])
        assert r.catch_up_seconds == pytest.approx([(column + 1) * (2 + caught / 8) if caught else 0.0])
        assert r.seconds is not None
        assert context.cost is not None
        if drafted == ARMS[arm][1]:
            assert context.cost[0, arm] == pytest.approx(r.seconds[0]), "what was expected is what was charged"


def test_measured_time_adds_up(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=20)
    rounds = play_all(session, cycle(LONG, LOOKUP))
    assert rounds.seconds is not None
    assert rounds.seconds.sum() == pytest.approx(session.seconds)
    assert session.forward_share is not None
    assert 0 < session.forward_share < 1
    assert session.prefill_seconds > 0
    drew = rounds.arm == LONG
    assert (rounds.draft_seconds[drew & (rounds.drafted > 0)] > 0).all()  # type: ignore[index]


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


def test_sampled_texts_follow_the_target() -> None:
    """Chi-squared over all texts of 3 tokens, every drafter in turn. Threshold 1e-7: the false-alarm probability."""
    target = as_target(tiny_model(4, layers=3, vocab=5, spread=0.4), tiny_tokenizer(5), "five")
    target = dataclasses.replace(target, eos_ids=frozenset({4}))
    made, pool = drafters_for(target, perturbed(target.model, 5, 0.3), 2.0)
    count = 300
    prompts = [(f"p{i}", [2, 3, 2, 3, 2]) for i in range(count)]
    session = LiveSession(target, made, pool, prompts, max_new_tokens=3, sampling=Sampling(2.0), seed=11)
    rounds = play_all(session, cycle(LONG, SKIP, LOOKUP))
    assert rounds.accepted.sum() > count / 4
    assert (rounds.stop == StopReason.REJECTED).sum() > count / 4
    expected: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        grown: dict[tuple[int, ...], float] = {}
        for text, chance in expected.items():
            if text and text[-1] == 4:
                grown[text] = chance
                continue
            with torch.inference_mode():
                p = torch.softmax(target.model(torch.tensor([[2, 3, 2, 3, 2, *text]])).logits[0, -1] / 2.0, -1)
            for token in range(5):
                grown[(*text, token)] = chance * float(p[token])
        expected = grown
    seen = dict.fromkeys(expected, 0)
    for tokens in session.texts:
        seen[tuple(tokens)] += 1
    big = [t for t in expected if expected[t] * count >= 5]
    observed = [seen[t] for t in big] + [count - sum(seen[t] for t in big)]
    wanted = [expected[t] * count for t in big] + [count - sum(expected[t] * count for t in big)]
    assert len(big) > 10
    assert stats.chisquare(observed, wanted).pvalue > 1e-7
