"""What a session says: of the text before a round, of the round behind it, and to whoever listens."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.runtime.load import Target
from metasd.runtime.session import LiveSession

from .sessions import ARMS, LONG, LOOKUP, PLAIN, PROMPTS, SHORT, SKIP, cycle, drafters_for, play_all


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
        prompt = session.at[0]
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
        at, context = session.at[0], session.context
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
