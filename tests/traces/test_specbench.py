"""The spec-bench importer: exact along a drafter's own path, approximate beside it, and it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.core.errors import UsageError
from metasd.core.records import UNKNOWN_BUDGET
from metasd.sim.replay.run import replay
from metasd.sim.replay.session import TraceSession
from metasd.traces import import_trace, open_trace, validate
from metasd.traces.importers.specbench import drafter_names, what_was_left

MEDUSA, SPS = "vicuna-7b-v1.3-medusa-float16-temperature-0.0", "vicuna-7b-v1.3-sps-68m-float16-temp-0.0"


def question(number: int, model: str, turns: list[list[int]], texts: list[str] | None = None) -> dict[str, Any]:
    """A line: each turn is a list of tokens emitted by step."""
    choice = {
        "index": 0,
        "turns": texts or [f"text {number}.{i}" for i in range(len(turns))],
        "decoding_steps": [len(t) for t in turns],
        "new_tokens": [sum(t) for t in turns],
        "wall_time": [0.5 * len(t) for t in turns],
        "accept_lengths": [n for t in turns for n in t],
    }
    return {"question_id": number, "category": "writing", "model_id": model, "choices": [choice]}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_two_files_are_two_drafters_on_the_turns_they_share(tmp_path: Path) -> None:
    first = [question(1, MEDUSA, [[3, 1, 2], [1, 5]]), question(2, MEDUSA, [[2, 2]]), question(3, MEDUSA, [[1]])]
    second = [question(2, SPS, [[1, 3]]), question(1, SPS, [[1, 1, 4], [6]], ["text 1.0", "another text"])]
    write(tmp_path / "in" / "a.jsonl", first)
    write(tmp_path / "in" / "b.jsonl", second)
    made = import_trace("spec-bench", tmp_path / "in", tmp_path / "out")
    assert (made.prompts, made.rows, made.unaligned) == (3, 16, 1)
    assert made.warnings[0].startswith("approximate: ")
    assert made.warnings[1:] == ["1 turns left out that are not in all files",
                                 "1 of 3 turns unaligned: the runs' texts differ"]  # fmt: skip
    validate(made.path)
    trace = open_trace(made.path)
    assert not trace.exact
    assert trace.manifest["approximation"] in made.warnings[0]
    assert [d.name for d in trace.drafters] == ["medusa", "sps-68m"]
    assert list(trace.draft_lengths) == [4, 5]
    assert list(trace.ids) == ["1/0", "2/0"]
    assert trace.accepted[:6].T.tolist() == [[2, 1, 0, 0, 1, 0], [0, 0, 3, 2, 1, 0]]
    assert trace.manifest["config"]["seconds_per_step"] == [0.5, 0.5]
    both = open_trace(made.path, include_unaligned=True)
    assert list(both.ids) == ["1/0", "1/1", "2/0"]


def test_own_path_reproduces_the_log(tmp_path: Path) -> None:
    """Always choosing a drafter visits exactly the starts that its run visited."""
    rng = np.random.default_rng(0)
    log = rng.integers(1, 7, 300).tolist()
    made = import_trace("spec-bench", write(tmp_path / "a.jsonl", [question(1, MEDUSA, [log])]), tmp_path / "out")
    trace = open_trace(made.path)
    row, seen = 0, []
    while row < len(trace.tokens):
        seen.append(int(trace.accepted[row, 0]) + 1)
        row += seen[-1]
    assert seen == log


def test_an_unknown_budget_stays_unknown_and_halving_tries_every_arm(tmp_path: Path) -> None:
    """4 arms, 40 texts of 200 tokens: the assumed 256 tokens give each arm its block; the better drafter is kept."""
    rng = np.random.default_rng(2)
    for name, low in ((MEDUSA, 1), (SPS, 5), ("vicuna-7b-v1.3-third-float16-temp-0.0", 1)):
        lines = []
        for number in range(3):
            log = rng.integers(low, 8, 100).cumsum()
            kept = log[log < 200]
            lines.append(question(number, name, [np.diff([0, *kept, 200]).tolist()]))
        write(tmp_path / "in" / f"{name}.jsonl", lines)
    trace = open_trace(import_trace("spec-bench", tmp_path / "in", tmp_path / "out").path)
    session = TraceSession.per_prompt(trace, lanes=3)
    for _ in range(5):
        assert session.context.remaining.tolist() == [UNKNOWN_BUDGET] * 3
        session.play(np.array([1, 0, 2]))
    totals = replay(trace, "sequential-halving").ledger.totals()
    assert all(totals.arms.values())
    assert max(totals.arms, key=lambda arm: totals.arms[arm]).startswith("sps")
    known = TraceSession.per_prompt(trace, lanes=1, budget=300)
    assert known.context.remaining.tolist() == [300]


def test_what_was_left_is_exact_for_a_prefix_determined_drafter() -> None:
    """Against a table of such a drafter, from the log of its own path: equal at all starts of rejected drafts."""
    rng = np.random.default_rng(1)
    bits = rng.random(4000) < 0.6
    table = np.zeros(4001, int)
    for t in range(3999, -1, -1):
        table[t] = 1 + table[t + 1] if bits[t] else 0
    log, row = [], 0
    while row < 4000:
        log.append(min(int(table[row]) + 1, 4000 - row))
        row += log[-1]
    np.testing.assert_array_equal(what_was_left(np.array(log), 4000)[:3900], table[:3900])


def test_a_log_of_another_length_is_cut_or_filled() -> None:
    assert what_was_left(np.array([3, 2]), 4).tolist() == [2, 1, 0, 1]
    assert what_was_left(np.array([3]), 5).tolist() == [2, 1, 0, 0, 0]
    assert what_was_left(np.array([9]), 2).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("models", "names"),
    [
        ([MEDUSA, SPS], ["medusa", "sps-68m"]),
        ([MEDUSA], ["vicuna-7b-v1.3-medusa"]),
        (["x-eagle", "x-eagle-2"], ["x-eagle", "x-eagle-2"]),
        (["same", "same"], ["same#1", "same#2"]),
    ],
)
def test_drafter_names(models: list[str], names: list[str]) -> None:
    assert drafter_names(models) == names


def changed(**choice: Any) -> dict[str, Any]:
    line = question(2, MEDUSA, [[2, 1], [3]])
    line["choices"][0] |= choice
    return line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question_id": 1}, "no model_id"),
        ({"model_id": MEDUSA, "choices": []}, r"no choices\.0"),
        (changed(accept_lengths=[2, 1]), "decoding_steps add up to 3"),
        (changed(new_tokens=[3, 4]), "new_tokens says 4"),
        (changed(accept_lengths=[2, 1, 0]), "accept_lengths holds 0"),
        (changed(wall_time=[1.0]), "differ in length"),
        (changed(wall_time=[1.0, float("nan")]), "wall_time holds"),
        (changed(turns="text"), "differ in length|turns"),
        (question(2, "vicuna-sps-float16-temperature-0.7", [[2]]), "sampled at temperature 0.7"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_written(tmp_path: Path, line: dict, message: str) -> None:
    path = write(tmp_path / "in" / "a.jsonl", [question(1, MEDUSA, [[2]]), line])
    with pytest.raises(UsageError, match=rf"a\.jsonl:2: .*({message})"):
        import_trace("spec-bench", path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    mixed = write(tmp_path / "mixed.jsonl", [question(1, MEDUSA, [[2]]), question(2, SPS, [[2]])])
    with pytest.raises(UsageError, match="in one file"):
        import_trace("spec-bench", mixed, tmp_path / "out")
    write(tmp_path / "in" / "a.jsonl", [question(1, MEDUSA, [[2]])])
    write(tmp_path / "in" / "b.jsonl", [question(2, SPS, [[2]])])
    with pytest.raises(UsageError, match=r"no turn of a\.jsonl is in all 2 files"):
        import_trace("spec-bench", tmp_path / "in", tmp_path / "out")
    plain = write(tmp_path / "plain.jsonl", [question(1, "vicuna-vanilla", [[1, 1, 1]])])
    with pytest.raises(UsageError, match="longest draft is 0"):
        import_trace("spec-bench", plain, tmp_path / "out")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(st.data())
def test_any_value_in_place_of_another_is_refused_by_line_or_taken(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A line with one value replaced by any JSON: a valid trace or one message naming the line, never a crash."""
    folder = tmp_path_factory.mktemp("fuzz")
    line: Any = question(1, MEDUSA, [[3, 1], [2]])
    place, key = line, data.draw(st.sampled_from(sorted(line)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(JSON)
    path = write(folder / "a.jsonl", [line])
    try:
        made = import_trace("spec-bench", path, folder / "out")
    except UsageError as error:
        assert str(error).startswith(f"{path}:1: ") or "no request with a text" in str(error)  # noqa: PT017
        assert not (folder / "out").exists()
    else:
        validate(made.path)
