"""Every number of a comparison on a trace worked out by hand (``hand_trace``), and resampled ones by scalar code."""

from __future__ import annotations

from statistics import pvariance
from typing import Any

import numpy as np
import pytest
from hand_trace import ARMS, POLICY, ROW, hand_trace

from metasd.sim.compare.bootstrap import Clusters
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.sim.oracle.regret import rows
from metasd.sim.replay.run import replay


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document(compare([hand_trace()], [POLICY], 1, workers=1))


def row(made: dict[str, Any], domain: str = "all") -> dict[str, Any]:
    return next(r for r in made["results"] if r["domain"] == domain)


def test_the_row_of_a_replay() -> None:
    found = rows(replay(hand_trace(), POLICY))[-1]
    assert {key: found[key] for key in ROW} == pytest.approx(ROW)
    assert found["arms"] == ARMS


def test_the_row_of_a_comparison(made: dict[str, Any]) -> None:
    found = row(made)
    assert {key: found[key] for key in ROW} == pytest.approx(ROW)
    assert found["arms"] == ARMS
    assert found["fraction_of_optimum"] == pytest.approx(7 / 9)
    assert found["regret_seconds"] == pytest.approx((5.375 - 5.5) + (6.625 - 4.125) + (3.6875 - 4.125))
    assert found["oracle_seconds"] == pytest.approx(5.375 + 3.5625 + 3.625)
    assert found["oracle_seconds_exact"]


def test_the_rows_of_its_domains(made: dict[str, Any]) -> None:
    code, chat = row(made, "code"), row(made, "chat")
    assert (code["prompts"], code["rounds"], code["emitted"], code["oracle_rounds"]) == (2, 5, 10, 5)
    assert (chat["prompts"], chat["rounds"], chat["emitted"], chat["oracle_rounds"]) == (1, 4, 4, 2)
    assert (code["regret_rounds"], chat["regret_rounds"]) == (-1, 2)
    assert (code["tokens_per_second"], chat["tokens_per_second"]) == pytest.approx((10 / 9.0625, 4 / 6.625))


def test_differences_are_to_the_best_arm_throughout(made: dict[str, Any]) -> None:
    """small: 10 rounds and 20.4375 s; copy takes 11 rounds, though 16 s."""
    paired = row(made)["paired"]
    assert paired["tokens_per_round"] == pytest.approx(14 / 9 - 14 / 10)
    assert paired["tokens_per_second"] == pytest.approx(14 / 15.6875 - 14 / 20.4375)


def test_variance_reduction_is_that_of_pairing(made: dict[str, Any]) -> None:
    """Variance of two independent runs over that of the difference, over the resamples of three prompts."""
    emitted, mine, best = (7, 4, 3), (3, 4, 2), (6, 2, 2)
    resamples = Clusters(np.zeros(3)).weights.tolist()

    def rates(rounds: tuple[int, ...]) -> list[float]:
        return [
            sum(n * e for n, e in zip(w, emitted, strict=True)) / sum(n * r for n, r in zip(w, rounds, strict=True))
            for w in resamples
        ]

    a, b = rates(mine), rates(best)
    wanted = (pvariance(a) + pvariance(b)) / pvariance([x - y for x, y in zip(a, b, strict=True)])
    assert row(made)["paired"]["variance_reduction"] == pytest.approx(wanted)


def test_comparators(made: dict[str, Any]) -> None:
    """By domain: copy on code (4 + 3 against 6 + 2), small on chat; by prompt: copy, small, small."""
    found = {
        (c["comparator"], c["arm"]): (c["rounds"], c["tokens_per_round"], c["fraction_of_optimum"])
        for c in made["comparators"]
    }
    rounds = {
        ("fixed arm", "copy@2"): 11,
        ("fixed arm", "small@2"): 10,
        ("best fixed arm", "small@2"): 10,
        ("best fixed arm of each domain", None): 9,
        ("best fixed arm of each prompt", None): 8,
        ("clairvoyant optimum", None): 7,
    }
    assert found == {key: pytest.approx((n, 14 / n, 7 / n)) for key, n in rounds.items()}
