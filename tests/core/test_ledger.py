"""The ledger: sums, switches and rates."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metasd.core.ledger import UNNAMED, Ledger
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Rounds

POOL = Pool([DrafterInfo("a", "lookup", True, True), DrafterInfo("b", "lookup", True, True)], [(0, 3), (1, 3), (-1, 0)])


def rounds(prompt: list[int], arm: list[int], accepted: list[int], seconds: float | None = None) -> Rounds:
    n = len(prompt)
    zero = np.zeros(n, np.int64)
    clock = None if seconds is None else np.full(n, seconds)
    free = None if seconds is None else np.zeros(n)
    acc = np.array(accepted, np.int64)
    return Rounds(
        lane=np.arange(n),
        prompt=np.array(prompt),
        arm=np.array(arm),
        position=zero,
        drafted=np.where(np.array(arm) == 2, 0, 3),
        accepted=acc,
        emitted=acc + 1,
        stop=zero,
        finished=zero.astype(bool),
        catch_up=zero + 2,
        draft_seconds=free,
        verify_seconds=clock,
        catch_up_seconds=free,
    )


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=30))
def test_every_round_is_counted_once_and_switches_are_changes_of_arm(plays: list[tuple[int, int]]) -> None:
    ledger = Ledger(POOL, 2)
    last: dict[int, int] = {}
    switches = 0
    for arm, prompt in plays:
        ledger.add(rounds([prompt], [arm], [1 if arm < 2 else 0], seconds=0.5))
        switches += prompt in last and last[prompt] != arm
        last[prompt] = arm
    total = ledger.totals()
    assert total.rounds == len(plays) == sum(total.arms.values())
    assert total.switches == switches
    assert total.emitted == total.rounds + total.accepted
    assert total.seconds == 0.5 * len(plays)
    assert total.tokens_per_second == total.emitted / total.seconds
    assert total.catch_up == 2 * len(plays)


def test_a_round_without_a_clock_leaves_the_seconds_unknown() -> None:
    ledger = Ledger(POOL, 1)
    ledger.add(rounds([0], [0], [1], seconds=1.0))
    assert ledger.totals().seconds == 1.0
    ledger.add(rounds([0], [0], [1]))
    assert ledger.totals().seconds is None
    assert ledger.totals().tokens_per_second is None


def test_speed_is_a_ratio_of_sums_not_a_mean_of_ratios() -> None:
    ledger = Ledger(POOL, 2)
    ledger.add(rounds([0], [0], [3], seconds=1.0))
    ledger.add(rounds([1], [0], [0], seconds=4.0))
    assert ledger.totals().tokens_per_second == 5 / 5.0
    assert ledger.totals(np.array([0])).tokens_per_second == 4.0


def test_totals_over_seeds_are_means() -> None:
    ledger = Ledger(POOL, 2)
    ledger.add(rounds([0, 1], [0, 1], [3, 1], seconds=1.0))
    total = ledger.totals(seeds=2)
    assert (total.prompts, total.rounds, total.emitted, total.arms["a@3"]) == (1, 1.0, 3.0, 0.5)


def test_accepted_tokens_are_credited_to_who_suggested_them() -> None:
    """Of arms to their drafter, of plans node by node; nodes in the pass are the drafted ones unless a plan says."""
    ledger = Ledger(POOL, 2)
    ledger.add(rounds([0, 1], [0, 1], [2, 3]))
    ledger.add(rounds([0], [2], [0]))
    assert ledger.totals().sources == {"a": 2, "b": 3}
    assert ledger.totals().checked == ledger.totals().drafted == 6
    tree = rounds([1], [0], [3])
    tree.checked, tree.credit = np.array([11]), np.array([[0, 1, 2]])
    ledger.add(tree)
    assert ledger.totals().sources == {"a": 2, "b": 4, UNNAMED: 2}
    assert ledger.totals(np.array([0])).sources == {"a": 2, "b": 0}
    assert ledger.totals().checked == 6 + 11
