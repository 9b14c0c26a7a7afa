"""Medians, ratios within a repeat, noise and the roofline, by hand; the time that passes alone would take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metasd.bench import rows
from metasd.bench.jobs import Job
from metasd.core.costs import CostModel
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Rounds

TEXTS = [["a", "even", [1]], ["b", "odd", [1]]]
JOBS = [Job("generate", "generate"), Job("plain", "plain"), Job("plain again", "plain"), Job("planner", "policy")]


def a_run(name: str, repeat: int, seconds: tuple[float, float], **more: Any) -> dict[str, Any]:
    texts = [{"seconds": s, "tokens": [1] * 10} | more for s in seconds]
    return {"contender": name, "repeat": repeat, "texts": texts} | ({"forward_share": 0.9} if more else {})


RUNS = [
    a_run("generate", 0, (1.0, 1.0)),
    a_run("generate", 1, (2.0, 2.0)),
    a_run("generate", 2, (1.0, 1.0)),
    a_run("plain", 0, (1.0, 1.0)),
    a_run("plain", 1, (2.0, 2.0)),
    a_run("plain", 2, (1.0, 1.0)),
    a_run("plain again", 0, (1.0, 1.0)),
    a_run("plain again", 1, (2.0, 2.5)),
    a_run("plain again", 2, (1.1, 1.1)),
    a_run("planner", 0, (0.5, 1.0), rounds=5, checked=10, decoding=0.5, allowed=0.4),
    a_run("planner", 1, (1.0, 2.0), rounds=5, checked=10, decoding=1.0, allowed=0.4),
    {"contender": "planner", "repeat": 2, "error": "it broke"},
]


def test_ratios_are_taken_within_a_repeat() -> None:
    found = {(r["contender"], r["domain"]): r for r in rows.rows(JOBS, RUNS, TEXTS, 3)}
    planner = found["planner", "all"]
    assert planner["repeats"] == 2
    assert planner["tokens_per_second"] == pytest.approx((20 / 1.5 + 20 / 3) / 2)
    assert planner["times_plain"] == pytest.approx(2 / 1.5)  # in both repeats, although the second was twice as slow
    assert planner["times_plain_high"] == pytest.approx(2 / 1.5)
    assert found["planner", "even"]["times_plain"] == pytest.approx(2)
    assert found["planner", "odd"]["times_plain"] == pytest.approx(1)
    assert planner["tokens_per_round"] == 2
    assert planner["checked_per_round"] == 2
    assert planner["roofline"] == pytest.approx(25)
    assert planner["reached"] == pytest.approx((20 + 10) / 2)
    assert planner["of_roofline"] == pytest.approx((0.8 + 0.4) / 2)
    assert planner["outside_models"] == pytest.approx(0.1)
    assert found["generate", "all"]["roofline"] is None


def test_noise_is_what_the_same_twice_differs_by() -> None:
    heard = rows.noise(RUNS, 3)
    assert heard is not None
    assert heard["repeats"] == 3
    assert heard["typical"] == pytest.approx(1 - 1 / 1.1)
    assert heard["most"] == pytest.approx(1 - 4 / 4.5)
    assert rows.noise(RUNS[:6], 3) is None


def test_the_sentence_names_the_weakest_domain() -> None:
    found = rows.rows(JOBS, RUNS, TEXTS, 3)
    first, second = rows.sentences(found, None)
    assert first.startswith("planner: 10.0 tokens/s; 1.33 x plain decoding (1.33 to 1.33)")
    assert second == "planner gains least in odd: 1.00 x plain decoding"


def test_texts_that_differ_from_generate_are_counted() -> None:
    other = a_run("planner", 0, (1.0, 1.0))
    other["texts"][1]["tokens"] = [1] * 9 + [2]
    found = rows.rows(JOBS, [*RUNS[:9], other], TEXTS, 1)
    assert [r["same_text"] for r in found if r["contender"] == "planner"] == [1, 0, 1]


def test_passes_alone_cost_what_the_table_says() -> None:
    pytest.importorskip("torch")
    from metasd.bench.ours import allowed_seconds

    drafters = [DrafterInfo("lookup", "lookup", True, True), DrafterInfo("small", "model", False, False)]
    pool = Pool(drafters, [(0, 3), (1, 3), (-1, 0)])
    costs = CostModel(
        ("lookup", "small"),
        np.array([1.0, 4.0]),
        np.array([1.0, 4.0]),
        draft_fixed=np.array([7.0, 0.0]),
        draft_per_token=np.array([0.0, 0.5]),
        catch_up_fixed=np.zeros(2),
        catch_up_per_token=np.array([0.0, 0.25]),
        context=10.0,
        verify_per_context=0.1,
        overhead=9.0,
    )

    def a_round(arm: int, drafted: int, **more: Any) -> Rounds:
        one = {n: np.array([0]) for n in ("lane", "prompt", "accepted", "emitted", "stop", "finished")}
        given = {"arm": arm, "drafted": drafted, "position": 5, "catch_up": 2}
        return Rounds(**one, **{k: np.array([v]) for k, v in (given | more).items()})

    def seconds(rounds: Rounds, plans: bool = False) -> float:
        return allowed_seconds(costs, pool, rounds, 15, plans=plans)

    assert seconds(a_round(0, 2)) == pytest.approx(3 + 1)  # three tokens wide, ten tokens further on
    assert seconds(a_round(2, 0)) == pytest.approx(1 + 1)
    assert seconds(a_round(1, 3)) == pytest.approx(4 + 1 + 1.5 + 0.5)
    clock = {"draft_seconds": 0.5, "verify_seconds": 30.0, "catch_up_seconds": 0.25}
    assert seconds(a_round(0, 1, checked=2, **clock), plans=True) == pytest.approx(3 + 1 + 0.75)
