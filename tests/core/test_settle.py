"""``settle`` is the only maker of Rounds: its rules, stated as properties and as examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metasd.core.records import NO_END, Rounds, StopReason, concatenate, settle


def one(*, draft_length: int, remaining: int, proposed: int, agreed: int, ends_in: int = int(NO_END)) -> Rounds:
    def column(value: int) -> np.ndarray:
        return np.array([value], np.int64)

    return settle(
        lane=column(0),
        prompt=column(0),
        arm=column(0),
        draft_length=column(draft_length),
        position=column(0),
        remaining=column(remaining),
        proposed=column(proposed),
        agreed=column(agreed),
        ends_in=column(ends_in),
        catch_up=column(0),
    )


@given(
    draft_length=st.integers(0, 9),
    remaining=st.integers(1, 12),
    proposed=st.integers(0, 12),
    agreed=st.integers(0, 12),
    ends_in=st.one_of(st.integers(1, 12), st.just(int(NO_END))),
)
def test_what_holds_of_every_round(draft_length: int, remaining: int, proposed: int, agreed: int, ends_in: int) -> None:
    r = one(draft_length=draft_length, remaining=remaining, proposed=proposed, agreed=agreed, ends_in=ends_in)
    drafted, accepted, emitted = int(r.drafted[0]), int(r.accepted[0]), int(r.emitted[0])
    assert 0 <= accepted <= drafted <= min(draft_length, proposed, remaining - 1)
    assert emitted - accepted in (0, 1)
    assert 1 <= emitted <= min(remaining, ends_in)
    assert bool(r.finished[0]) == (emitted in (remaining, ends_in))
    assert (emitted == accepted) == (r.stop[0] == StopReason.TEXT_ENDED)


@pytest.mark.parametrize(
    ("case", "accepted", "emitted", "finished", "stop"),
    [
        (dict(draft_length=4, remaining=9, proposed=4, agreed=2), 2, 3, False, StopReason.REJECTED),
        (dict(draft_length=4, remaining=9, proposed=4, agreed=4), 4, 5, False, StopReason.DRAFT_LIMIT),
        (dict(draft_length=4, remaining=9, proposed=3, agreed=3), 3, 4, False, StopReason.PROPOSAL_ENDED),
        (dict(draft_length=4, remaining=9, proposed=4, agreed=4, ends_in=2), 2, 2, True, StopReason.TEXT_ENDED),
        (dict(draft_length=4, remaining=9, proposed=4, agreed=2, ends_in=3), 2, 3, True, StopReason.REJECTED),
        (dict(draft_length=4, remaining=3, proposed=4, agreed=4), 2, 3, True, StopReason.BUDGET_ENDED),
        (dict(draft_length=4, remaining=1, proposed=4, agreed=4), 0, 1, True, StopReason.BUDGET_ENDED),
        (dict(draft_length=0, remaining=5, proposed=0, agreed=0), 0, 1, False, StopReason.DRAFT_LIMIT),
        (dict(draft_length=4, remaining=5, proposed=0, agreed=0), 0, 1, False, StopReason.PROPOSAL_ENDED),
    ],
)
def test_examples(case: dict[str, int], accepted: int, emitted: int, finished: bool, stop: StopReason) -> None:
    r = one(**case)
    assert (r.accepted[0], r.emitted[0], r.finished[0], r.stop[0]) == (accepted, emitted, finished, stop)


def test_take_and_concatenate_are_inverse() -> None:
    a = one(draft_length=4, remaining=9, proposed=4, agreed=2)
    b = one(draft_length=4, remaining=9, proposed=4, agreed=4)
    both = concatenate([a, b])
    assert both.counts() == a.counts() + b.counts()
    assert both.take(np.array([1])).counts() == b.counts()
