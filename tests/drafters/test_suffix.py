"""The suffix drafter against a search of the plain text, in the text itself and in earlier outputs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.core.errors import UsageError
from metasd.core.specs import build
from metasd.drafters import TEXT_DRAFTERS, SuffixDrafter
from metasd.drafters.suffix import END

texts = st.lists(st.integers(0, 3), max_size=40)


def followers(known: list[int], run: list[int]) -> dict[int, tuple[int, int]]:
    """By token that followed ``run`` in ``known``: how often, and where last."""
    found: dict[int, tuple[int, int]] = {}
    for at in range(len(run), len(known)):
        if known[at - len(run) : at] == run:
            found[known[at]] = (found.get(known[at], (0, 0))[0] + 1, at)
    return found


def longest(known: list[int], text: list[int], most: int) -> list[int] | None:
    ends = (text[len(text) - n :] for n in range(min(most, len(text)), 0, -1))
    return next((run for run in ends if followers(known, run)), None)


def expected(known: list[int], text: list[int], most: int, length: int) -> tuple[list[int], list[float]]:
    """What the source ``known`` lets follow ``text``, and each token's share."""
    drafted, shares = [], []
    while len(drafted) < length:
        run = longest(known, text + drafted, most)
        if run is None:
            break
        told = followers(known, run)
        token = max(told, key=lambda t: told[t])
        if token == END:
            break
        shares.append(told[token][0] / sum(n for n, _ in told.values()))
        drafted.append(token)
    return drafted, shares


@settings(max_examples=150)
@given(prompt=texts, answer=texts, most=st.integers(1, 6), length=st.integers(1, 5))
def test_the_text_itself_is_searched_as_a_plain_search_does(prompt, answer, most, length):
    drafter = SuffixDrafter(draft_length=5, max_match=most, keeps=0)
    drafter.begin(prompt)
    text = list(prompt)
    for token in [*answer, None]:
        drafts = drafter.draft(length)
        tokens, shares = expected(text, text, most, length)
        assert (drafts.tokens, drafter.offer(length)) == (tokens, tokens)
        assert drafts.confidence == pytest.approx(shares)
        assert drafter.look().available == bool(tokens)
        if token is not None:
            drafter.extend([token])
            text.append(token)


@settings(max_examples=100)
@given(earlier=st.lists(texts, max_size=4), prompt=texts, answer=texts, most=st.integers(1, 5))
def test_earlier_outputs_are_searched_too_and_the_longer_end_wins(earlier, prompt, answer, most):
    drafter = SuffixDrafter(draft_length=4, max_match=most, keeps=10_000)
    known: list[int] = []
    for output in earlier:
        drafter.begin(())
        drafter.extend(output)
        known += [*output, END] if output else []
    drafter.begin(prompt)
    text = list(prompt)
    for token in [*answer, None]:
        own, other = longest(text, text, most) or [], longest(known, text, most) or []
        source = known if len(other) > len(own) else text
        assert drafter.draft(4).tokens == expected(source, text, most, 4)[0]
        if own or other:
            signals = drafter.shown()
            if drafter.ready():
                assert signals[0] == max(len(own), len(other))
                assert signals[6] == (len(other) > len(own))
        if token is not None:
            drafter.extend([token])
            text.append(token)


def test_earlier_outputs_stay_bounded_and_the_oldest_go():
    drafter = SuffixDrafter(keeps=200)
    draw = random.Random(0)
    for number in range(100):
        drafter.begin([1000 + number])
        drafter.extend([5000 + 10 * number + i for i in range(draw.randint(1, 60))])
        assert len(drafter.outputs) <= 200
        assert all(len(h.count) <= 2 * len(h.tokens) + 1 for h in drafter.outputs.halves)
    drafter.begin(())
    drafter.begin([5000 + 10 * 99])
    assert drafter.draft(1).tokens == [5000 + 10 * 99 + 1]
    drafter.begin([5000])
    assert drafter.draft(1).tokens == []


def test_the_longest_text_costs_what_a_short_one_does():
    """Counts are kept up over at most ``max_match`` classes a token, however much a text repeats itself."""
    drafter = SuffixDrafter(keeps=0, max_match=16)
    drafter.begin([7] * 20_000)
    assert drafter.draft(8).tokens == [7] * 8


@pytest.mark.parametrize(
    ("given_", "said"),
    [({"min_match": "0"}, "min_match 0"), ({"max_match": "0"}, "max_match 0"), ({"keeps": "-1"}, "keeps -1")],
)
def test_impossible_settings_are_refused(given_, said):
    with pytest.raises(UsageError, match=said):
        build(TEXT_DRAFTERS["suffix"], "suffix", given_, "drafter")
