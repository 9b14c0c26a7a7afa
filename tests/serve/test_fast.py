"""The kernels say what the drafters say: proposals, signals, full information and records, text by text."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from metasd.core.pool import Pool
from metasd.core.records import Revealed
from metasd.core.reveal import LiveRevealer
from metasd.core.signals import rounded
from metasd.drafters import LookupDrafter, SuffixDrafter, TableDrafter
from metasd.drafters.ngrams import NgramTable
from metasd.serve.fast.arena import Arena
from metasd.serve.fast.compile import FAST
from metasd.serve.fast.earlier import possible
from metasd.serve.fast.texts import SPARE, FastTexts
from metasd.serve.records import Record
from metasd.serve.text import SlowTexts

PHASES = [p for p in Phase if FAST or p is not Phase.shrink]  # shrinking takes minutes where nothing is compiled
SHIPPED = NgramTable.build([[0, 1, 2, 3, 0, 1, 4, 0, 1, 2], [4, 4, 1, 0]], tokenizer="t", vocabulary=5)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "t.safetensors"
    SHIPPED.save(path)
    return str(path)


def drafters(table, keeps=18):
    return [
        LookupDrafter(draft_length=3),
        LookupDrafter("earliest", 4, min_match=2, max_match=5, occurrence="earliest"),
        SuffixDrafter(draft_length=4, max_match=6, keeps=keeps),
        TableDrafter(draft_length=3),
        TableDrafter(table, draft_length=4),
        TableDrafter(name="again", draft_length=1),
    ]


def both(made, censored=False, watch=True):
    pool = Pool([d.info for d in made], [(d, drafter.draft_length) for d, drafter in enumerate(made)])
    revealer = partial(LiveRevealer, pool, np.ones(len(made), bool), sampled=False, censored=censored)
    return FastTexts(made, watch, censored), SlowTexts(made, revealer if watch else None)


def same(fast, slow, pairs):
    asked, wanted = fast.ask([f for f, _, _ in pairs]), slow.ask([s for _, s, _ in pairs])
    np.testing.assert_array_equal(asked.ready, wanted.ready)
    np.testing.assert_array_equal(asked.first, wanted.first)
    np.testing.assert_array_equal(asked.signals, wanted.signals)
    for f, s, _ in pairs:
        for d in range(asked.ready.shape[1]):
            for length in (1, 4):
                assert fast.draft(f, d, length) == slow.draft(s, d, length)


tokens = st.lists(st.integers(0, 4), min_size=1, max_size=5)
events = st.lists(
    st.one_of(
        st.tuples(st.just("open"), tokens),
        st.tuples(st.just("commit"), st.lists(tokens, min_size=1, max_size=3)),
        st.tuples(st.just("close"), st.integers(0, 2)),
    ),
    max_size=9,
)


@settings(max_examples=200 if FAST else 12, phases=PHASES)
@example(events=[("open", [0]), ("commit", [[0, 1, 1] * 5, [0], [4] * 11])], watch=True, censored=True)
@given(events=events, watch=st.booleans(), censored=st.booleans())
def test_kernels_say_what_drafters_say(table, events, watch, censored):
    fast, slow = both(drafters(table), censored, watch)
    pairs = []
    for name, value in [("open", [0, 1, 0, 1, 2]), *events]:
        if name == "open":
            records = Record(value), Record(value)
            pairs.append((fast.open(value, records[0]), slow.open(value, records[1]), records))
        elif name == "close" and value < len(pairs):
            f, s, records = pairs.pop(value)
            fast.close(f)
            slow.close(s)
            assert records[0].tokens == records[1].tokens
            assert records[0].offers == records[1].offers
            np.testing.assert_array_equal(*(rounded(np.array(r.shown, np.float32)) for r in records))
        elif name == "commit" and pairs:
            grown, lanes = pairs[: len(value)], list(range(7, 7 + min(len(value), len(pairs))))
            new = value[: len(grown)]
            got = fast.commit(lanes, [f for f, _, _ in grown], new)
            wanted = slow.commit(lanes, [s for _, s, _ in grown], new)
            assert (got is None) == (wanted is None) == (not watch)
            if watch:
                for name in (f.name for f in fields(Revealed)):
                    np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
        if pairs:
            same(fast, slow, pairs)


def test_texts_and_tables_grow_out_of_their_blocks(table, monkeypatch):
    """Longer than their first blocks, with failures and open proposals taken along; outputs turn their halves over."""
    monkeypatch.setattr("metasd.serve.fast.texts.SPARE", 4)
    made = drafters(table, keeps=60)
    fast, slow = both(made)
    fast._earlier._room = 8
    fast._earlier._grown = fast._earlier._block(8)
    fast._earlier.settings[[3, 5], 5] = fast._earlier._grown
    draw = np.random.default_rng(0)
    for _ in range(4):
        prompt = draw.integers(0, 5, 3).tolist()
        pair = (fast.open(prompt), slow.open(prompt), None)
        for _ in range(12):
            same(fast, slow, [pair])
            new = draw.integers(0, 5, int(draw.integers(1, 5))).tolist()
            got, wanted = fast.commit([0], [pair[0]], [new]), slow.commit([0], [pair[1]], [new])
            np.testing.assert_array_equal(got.signals, wanted.signals)
            np.testing.assert_array_equal(got.accepted, wanted.accepted)
        fast.close(pair[0])
        slow.close(pair[1])
    assert pair[0].room > 3 + SPARE // 64
    assert fast._earlier.outputs[3] > 1
    assert fast._earlier._room > 8


def test_blocks_are_lent_again():
    arena = Arena()
    first, other = arena.take(1000), arena.take(70_000)
    arena.ints[other + 69_999] = 5
    arena.give(first, 1000)
    assert arena.take(1020) == first
    third = arena.take(300_000)
    assert third >= other + 70_000
    assert arena.ints[other + 69_999] == 5


def test_what_kernels_cannot_stand_for_goes_the_slow_way():
    class Own(LookupDrafter):
        pass

    assert possible([LookupDrafter(), SuffixDrafter(), TableDrafter()])
    assert not possible([Own()])
    assert not possible([SuffixDrafter(), SuffixDrafter("b")])
