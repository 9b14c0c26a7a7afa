"""Prompt lookup against a search written the slow way round, and what every text drafter promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metasd.core.errors import UsageError
from metasd.core.signals import INDEX
from metasd.core.specs import build
from metasd.drafters import TEXT_DRAFTERS, LookupDrafter

texts = st.lists(st.integers(0, 3), max_size=40)
occurrences = st.sampled_from(["latest", "earliest"])


def brute_source(text: list[int], low: int, high: int, occurrence: str) -> int | None:
    """Start of the copy: try every run length from long to short, every place in the text."""
    for order in range(high, low - 1, -1):
        starts = [i for i in range(len(text) - order) if text[i : i + order] == text[len(text) - order :]]
        if order <= len(text) and starts:
            return (starts[-1] if occurrence == "latest" else starts[0]) + order
    return None


def brute_backward(text: list[int], source: int) -> int:
    return max(n for n in range(min(source, 64) + 1) if text[source - n : source] == text[len(text) - n :])


@given(texts, st.integers(1, 3), st.integers(0, 4), occurrences)
def test_agrees_with_a_search_of_the_whole_text(text, low, more, occurrence):
    drafter = LookupDrafter(draft_length=6, min_match=low, max_match=low + more, occurrence=occurrence)
    drafter.begin(text)
    source = brute_source(text, low, low + more, occurrence)
    look = drafter.look()
    assert look.available == (source is not None)
    if source is None:
        assert drafter.draft(6).tokens == []
        assert look.signals[INDEX["match_length"]] == 0
    else:
        assert drafter.draft(6).tokens == text[source : source + 6]
        assert look.signals[INDEX["match_length"]] == brute_backward(text, source)
        assert look.signals[INDEX["proposal_length"]] == min(6, len(text) - source)


@given(st.lists(st.integers(0, 2), max_size=120))
def test_rule_of_the_public_traces(text):
    """Longest suffix of 3 to 7 tokens that occurred before, earliest occurrence, copy up to 20."""
    drafter = LookupDrafter(draft_length=20, min_match=3, max_match=7, occurrence="earliest")
    drafter.begin(text[:5])
    drafter.extend(text[5:])
    expected: list[int] = []
    for order in range(min(7, len(text)), 2, -1):
        suffix = text[len(text) - order :]
        found = next((i for i in range(len(text) - order) if text[i : i + order] == suffix), None)
        if found is not None:
            expected = text[found + order : found + order + 20]
            break
    assert drafter.draft(20).tokens == expected


@given(texts, occurrences)
def test_a_short_draft_begins_a_long_one(text, occurrence):
    drafter = LookupDrafter(draft_length=8, occurrence=occurrence)
    drafter.begin(text)
    whole = drafter.draft(8)
    for length in range(1, 8):
        part = drafter.draft(length)
        assert part.tokens == whole.tokens[:length]
        assert part.confidence == whole.confidence[:length]
    assert all(0 < c <= 1 for c in whole.confidence)


@given(texts, texts, st.data())
def test_signals_depend_on_the_committed_text_only(prompt, answer, data):
    """In one go, in pieces with looks and drafts between: the same signals, agreement and draft."""
    whole, pieces = LookupDrafter(), LookupDrafter()
    whole.begin(prompt)
    whole.extend(answer)
    agreement = whole.agreement()
    pieces.begin([9, 9, 9])  # an earlier text leaves nothing behind
    pieces.extend([9])
    pieces.begin(prompt)
    parts, rest = [], list(answer)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.extend(rest[:size])
        parts.append(pieces.agreement())
        pieces.look()
        pieces.draft(3)
        rest = rest[size:]
    np.testing.assert_array_equal(np.concatenate([*parts, np.empty(0)]), agreement)
    np.testing.assert_array_equal(whole.look().signals, pieces.look().signals)
    assert whole.draft(8) == pieces.draft(8)


@given(texts, texts)
def test_agreement_is_the_first_proposal_against_the_token(prompt, answer):
    drafter, judge = LookupDrafter(), LookupDrafter()
    drafter.begin(prompt)
    drafter.extend(answer)
    expected = []
    for i, token in enumerate(answer):
        judge.begin(prompt + answer[:i])
        first = judge.draft(1).tokens
        expected.append(float(first[0] == token) if first else np.nan)
    np.testing.assert_array_equal(drafter.agreement(), np.array(expected))


def test_score_signals_by_hand():
    drafter = LookupDrafter(min_match=1, max_match=2)
    drafter.begin([1, 2, 3, 1])
    drafter.extend([2, 3, 9])  # proposes 2, 3, then 1: right, right, wrong
    np.testing.assert_array_equal(drafter.agreement(), [1, 1, 0])
    signals = drafter.look().signals
    assert not drafter.look().available
    assert signals[INDEX["run"]] == 0
    assert signals[INDEX["hit_fast"]] == np.float16((1 - (1 - 0.5) * 0.8**2) * 0.8)
    assert signals[INDEX["hit_slow"]] == np.float16((1 - (1 - 0.5) * 0.95**2) * 0.95)
    drafter.extend([2, 3])
    assert drafter.agreement()[1] == 1.0
    assert drafter.look().signals[INDEX["run"]] == 1
    assert drafter.look().signals[INDEX["failures"]] == 0  # the latest source of (2, 3) is a new one: 9


def test_failures_count_for_the_source():
    drafter = LookupDrafter(min_match=1, max_match=1, occurrence="earliest")
    drafter.begin([1, 2, 3, 4, 5])
    drafter.extend([1, 7, 1, 8, 1])  # source of 1 is index 1 each time; 2 was wrong twice
    assert drafter.draft(1).tokens == [2]
    assert drafter.look().signals[INDEX["failures"]] == 2
    assert drafter.look().signals[INDEX["in_prompt"]] == 1
    assert drafter.look().signals[INDEX["from_table"]] == 0


def test_occurrences_vote():
    drafter = LookupDrafter(min_match=1, max_match=1)
    drafter.begin([1, 2, 4, 1, 3, 5, 1, 2, 4, 1])
    signals = drafter.look().signals
    assert signals[INDEX["share"]] == np.float16(2 / 3)
    assert signals[INDEX["latest"]] == 0  # the occurrence before the source continued with 3
    assert signals[INDEX["depth"]] == 0
    draft = drafter.draft(3)
    assert draft.tokens == [2, 4, 1]
    assert draft.confidence == [2 / 3, 1.0, 1.0]


@pytest.mark.parametrize(
    "settings", [{"min_match": "0"}, {"min_match": "9"}, {"draft_length": "0"}, {"occurrence": "first"}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError):
        build(TEXT_DRAFTERS["lookup"], "lookup", settings, "drafter")


def test_built_from_a_spec():
    drafter = build(TEXT_DRAFTERS["lookup"], "lookup", {"draft_length": "3", "name": "pl"}, "drafter")
    assert drafter.info.name == "pl"
    assert drafter.info.settings["draft_length"] == 3
