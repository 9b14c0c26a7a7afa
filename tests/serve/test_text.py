"""Several drafters on one index say what each says on an index of its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.core.pool import Pool
from metasd.core.reveal import LiveRevealer, gathered
from metasd.core.signals import rounded
from metasd.drafters import LookupDrafter, SuffixDrafter, TableDrafter
from metasd.serve.text import Text


def drafters():
    return [
        LookupDrafter(draft_length=3),
        LookupDrafter("earliest", 4, min_match=2, max_match=5, occurrence="earliest"),
        SuffixDrafter(draft_length=4, max_match=6),
        TableDrafter(draft_length=3),
    ]


tokens = st.lists(st.integers(0, 4), min_size=1, max_size=30)


@settings(max_examples=60)
@given(texts=st.lists(st.tuples(tokens, st.lists(tokens, max_size=4)), min_size=1, max_size=3), watched=st.booleans())
def test_one_index_for_all_says_what_one_for_each_says(texts, watched):
    alone, models = drafters(), drafters()
    pool = Pool([d.info for d in alone], [(d, drafter.draft_length) for d, drafter in enumerate(alone)])
    for prompt, rounds in texts:
        revealer = LiveRevealer(pool, np.ones(4, bool), sampled=False, censored=False) if watched else None
        text = Text(models, revealer)
        text.begin(prompt)
        for drafter in alone:
            drafter.begin(prompt)
        for committed in [*rounds, []]:
            agreed = []
            for token in committed:
                for drafter in alone:
                    drafter.extend([token])
                agreed.append([d.agreement()[0] for d in alone])
            text.commit(committed)
            looks = [d.look() for d in alone]
            assert text.ready() == [look.available for look in looks]
            np.testing.assert_array_equal(
                rounded(np.array(text.shown(), np.float32)), np.array([look.signals for look in looks])
            )
            assert [text.draft(d, 2) for d in range(4)] == [d.draft(2).tokens for d in alone]
            assert text.offers() == [d.draft(9).tokens for d in alone]
            assert text.first_tokens() == [(d.draft(1).tokens or [-1])[0] for d in alone]
            if revealer is not None and committed:
                np.testing.assert_array_equal(gathered([(0, revealer)]).agreement, np.array(agreed))
        text.finish()


def test_a_proposal_stands_until_it_is_judged_whatever_others_end_meanwhile():
    models = [SuffixDrafter(draft_length=4)]
    pool = Pool([models[0].info], [(0, 4)])

    def text():
        return Text(models, LiveRevealer(pool, np.ones(1, bool), sampled=False, censored=False))

    one, other = text(), text()
    one.begin([7, 1])
    other.begin([9])
    other.commit([1, 2, 3])
    assert one.draft(0, 4) == []
    other.finish()
    assert one.offers() == [[]]
    one.commit([5])
    assert np.isnan(gathered([(0, one.revealer)]).agreement).all()
    one.commit([1, 2])
    assert one.draft(0, 1) == [3]
