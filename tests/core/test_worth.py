"""Arms that cannot pay: worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metasd.core.worth import Worth, dents, hopeless

from .test_costs import MODEL, POOL

# MODEL: passes of 1, 2, 3, 4, 9 tokens take 1, 2, 1.75, 1.5, 2.5 s; m drafts n tokens in 0.2 + n s, a in 0.1 s


def test_what_full_acceptance_would_need() -> None:
    """m@3 at 1, 2, 3 tokens: 3.2, 3.95 and 4.7 s for 2, 3 and 4 tokens; a@8: 2.6 s for 9."""
    worth = Worth(MODEL, POOL)
    assert worth.needed.tolist() == pytest.approx([0.7 / 3, (2.6 - 9) / 8, -np.inf])
    # 0.01 s a token: from 24 tokens beyond the 100 of the measurement on, a pass is dear enough
    assert worth.pays(np.array([100, 123, 124])).tolist() == [[False, True, True], [False, True, True], [True] * 3]
    assert hopeless(MODEL, POOL, 123) == ["m"]
    assert hopeless(MODEL, POOL, 124) == []


def test_what_just_breaks_even_does_not_pay() -> None:
    even = replace(MODEL, draft_fixed=np.array([0.1, 0.5]), draft_per_token=np.array([0.0, 2 / 3]))
    assert Worth(even, POOL).needed[0] == pytest.approx(0.0)
    assert not Worth(even, POOL).pays(np.array([99]))[0, 0]
    assert Worth(replace(even, verify_per_context=0.0), POOL).pays(np.array([10**6])).tolist() == [[False, True, True]]


def test_one_length_that_pays_is_enough() -> None:
    """At 2 tokens 1.75 + 0.2 + 0.4 < 3, whatever 3 tokens take."""
    dear = replace(MODEL, widths=np.array([1.0, 2.0, 3.0, 4.0]), verify_seconds=np.array([1.0, 2.0, 1.75, 90.0]))
    cheap = replace(dear, draft_per_token=np.array([0.0, 0.2]))
    assert Worth(cheap, POOL).pays(np.array([100]))[0, 0]


def test_a_pool_of_plain_alone_pays() -> None:
    assert Worth(MODEL, POOL.cut(0)).pays(np.array([5])).tolist() == [[True]]


def test_passes_that_wider_ones_undercut_are_found() -> None:
    """2 tokens take 2 s and 4 tokens 1.5 s; where nothing longer than 1 token is drafted nobody minds."""
    assert dents(MODEL, POOL) == [(2, 4)]
    assert dents(MODEL, POOL.cut(1)) == []
    level = replace(MODEL, verify_seconds=np.array([1.0, 1.6, 1.5, 2.5]))
    assert dents(level, POOL) == []
