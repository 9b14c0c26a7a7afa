"""The table that grows from earlier texts, against a slow one that keeps them all."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.policies.planner.grown import BEST, ORDER, RECENT, Grown


def slow_grown(history, context, room):
    """``history``: (prompt tail, what was said) of texts; only the last ``room`` tokens of all of it count."""
    rows, ring = [], []
    for tail, said in history:
        ring += [(t, None) for t in ([0] * ORDER + tail)[-ORDER:]]
        for token in said:
            before = [t for t, _ in ring[-ORDER:]]
            ring.append((token, before))
    for token, before in ring[-room:] if room < len(ring) else ring:
        if before is not None:
            rows.append((before, token))
    found = []
    for order in range(min(ORDER, len(context)), 0, -1):
        after = [t for before, t in rows if before[-order:] == list(context[-order:])][-RECENT:]
        best = sorted(dict.fromkeys(reversed(after)), key=lambda t: -after.count(t))[:BEST]
        for token in best:
            if all(token != f[0] for f in found):
                found.append((token, order, after.count(token) / len(after), False))
    return found


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=12)), max_size=5),
    st.lists(st.integers(0, 2), max_size=5),
    st.sampled_from([5, 9, 200]),
)
def test_a_grown_table_knows_the_texts_before_and_forgets_the_oldest(history, context, room):
    ring, told = np.zeros(room + ORDER, np.int64), np.zeros(2, np.int64)
    made = Grown(ring, told)
    for tail, said in history:
        made.begin(tail)
        made.suggest(tuple(context))  # what is kept of it must not outlive what is said and forgotten later
        made.say(said[:5])
        made.suggest(tuple(context))
        made.say(said[5:])
    made.begin([1])
    wanted = slow_grown([*history, ([1], [])], context, room)
    assert sorted(made.suggest(tuple(context))) == sorted(wanted)
    again = Grown(ring, told)
    assert again.suggest(tuple(context)) == made.suggest(tuple(context))
    made.forget()
    assert made.suggest(tuple(context)) == []


def test_a_grown_table_does_not_know_the_present_text():
    made = Grown(np.zeros(50, np.int64), np.zeros(2, np.int64))
    made.begin([3, 4])
    made.say([5])
    assert made.suggest((4,)) == []
    made.begin([9])
    assert made.suggest((3, 4)) == [(5, 2, 1.0, False)]
    assert made.suggest((9,)) == []


# -- what is put off or kept --------------------------------------------------------------------------------------
