"""Every number of a comparison on a trace worked out by hand (``hand_trace``), and resampled ones by scalar code."""

from __future__ import annotations

from statistics import pvariance
from typing import Any

import pytest
from hand_trace import ARMS, POLICY, ROW, hand_trace

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
    assert found["currency"] == "seconds"
    assert found["fraction_of_optimum"] == pytest.approx(7 / 10)
    assert found["regret_seconds"] == pytest.approx((6.375 - 5.5) + (6.125 - 4) + (3.6875 - 3))
    assert found["oracle_seconds"] == pytest.approx(5 + 3.0625 + 3)
    assert found["fraction_of_optimum_seconds"] == pytest.approx(11.0625 / 16.1875)
    assert found["oracle_seconds_exact"]
    assert found["oracle_seconds_gap"] == 0


def test_the_rows_of_its_domains(made: dict[str, Any]) -> None:
    code, chat = row(made, "code"), row(made, "chat")
    assert (code["prompts"], code["rounds"], code["emitted"], code["oracle_rounds"]) == (2, 6, 10, 5)
    assert (chat["prompts"], chat["rounds"], chat["emitted"], chat["oracle_rounds"]) == (1, 4, 4, 2)
    assert (code["regret_rounds"], chat["regret_rounds"]) == (0, 2)
    assert (code["tokens_per_second"], chat["tokens_per_second"]) == pytest.approx((10 / 10.0625, 4 / 6.125))
    assert (code["speedup"], chat["speedup"]) == pytest.approx((10 / 10.0625, 4 / 6.125))


def test_differences_are_to_the_best_arm_throughout(made: dict[str, Any]) -> None:
    """plain: 14 rounds and 14 s; small takes 10 rounds and 20.4375 s, copy 11 and 16 s."""
    paired = row(made)["paired"]
    assert paired["tokens_per_round"] == pytest.approx(14 / 10 - 14 / 14)
    assert paired["tokens_per_second"] == pytest.approx(14 / 16.1875 - 14 / 14)


def test_variance_reduction_is_that_of_pairing() -> None:
    """Variance of two independent runs over that of the difference, in seconds, by leaving out each prompt in turn."""
    emitted, mine, other = (7, 4, 3), (6.375, 6.125, 3.6875), (12.1875, 4.125, 4.125)
    small = "fixed:arm=small"
    found = row(document(compare([hand_trace()], [POLICY, small], workers=1), reference=small))

    def rates(seconds: tuple[float, ...]) -> list[float]:
        return [(sum(emitted) - emitted[i]) / (sum(seconds) - seconds[i]) for i in range(3)]

    a, b = rates(mine), rates(other)
    wanted = (pvariance(a) + pvariance(b)) / pvariance([x - y for x, y in zip(a, b, strict=True)])
    assert found["paired"]["variance_reduction"] == pytest.approx(wanted)


def test_regrets(made: dict[str, Any]) -> None:
    """Rounds: small overall (6 + 2 + 2), by domain copy on code (4 + 3), small on chat (2), in hindsight copy, small,
    small.

    Seconds: plain overall (7 + 4 + 3), by domain copy or plain on code (10), plain on chat (4).
    """
    found = row(made)
    assert found["pseudo_regret_rounds"] == 10 - 10
    assert found["domain_pseudo_regret_rounds"] == 10 - 9
    assert found["hindsight_regret_rounds"] == found["regret_rounds"] == 10 - 8
    assert found["pseudo_regret_seconds"] == pytest.approx(16.1875 - 14)
    assert found["domain_pseudo_regret_seconds"] == pytest.approx(16.1875 - 14)
    assert found["hindsight_regret_seconds"] == found["regret_seconds"] == pytest.approx(16.1875 - (5.5 + 4 + 3))
    code, chat = row(made, "code"), row(made, "chat")
    assert (code["pseudo_regret_rounds"], chat["pseudo_regret_rounds"]) == (6 - 8, 4 - 2)
    assert (code["domain_pseudo_regret_rounds"], chat["domain_pseudo_regret_rounds"]) == (6 - 7, 4 - 2)


def test_three_prompts_have_no_interval(made: dict[str, Any]) -> None:
    found = row(made)
    assert found["prompts_missing"] == 5
    assert set(found["intervals"].values()) == {None}
    assert [v for k, v in found["paired"].items() if k.startswith("p_") or k.endswith("_interval")] == [None] * 4


def test_comparators(made: dict[str, Any]) -> None:
    """By seconds. By domain: copy on code (10 s, as plain), plain on chat; by prompt: copy, plain, plain."""
    keys = ("rounds", "tokens_per_round", "fraction_of_optimum", "seconds", "speedup", "fraction_of_optimum_seconds")
    found = {(c["comparator"], c["arm"]): tuple(c[key] for key in keys) for c in made["comparators"]}
    costs = {
        ("fixed arm", "copy@2"): (11, 16),
        ("fixed arm", "small@2"): (10, 20.4375),
        ("fixed arm", "plain"): (14, 14),
        ("best fixed arm", "plain"): (14, 14),
        ("best fixed arm of each domain", None): (4 + 4 + 3, 14),
        ("best fixed arm of each prompt", None): (4 + 4 + 3, 12.5),
        ("clairvoyant optimum", None): (7, 11.0625),
    }
    assert found == {key: pytest.approx((n, 14 / n, 7 / n, s, 14 / s, 11.0625 / s)) for key, (n, s) in costs.items()}
