"""The shipped traces of trained drafters: small, whole, of two pools, and recorded as the tool says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from metasd.core.prompts import TOTAL
from metasd.sim.reproduce.finding import Setting
from metasd.sim.reproduce.matched import without_total
from metasd.sim.reproduce.shift import REWORDED, TWO, UNSEEN, check, kinds
from metasd.traces import validate
from metasd.traces.find import find_trace, folder_of
from metasd.traces.shipped import SAMPLED, SHIFTED, SHIPPED, TRAINED, shipped

LIMIT = 8_000_000  # bytes of the three together
TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "record_reference.py"))
SETS = {TRAINED: TOOL["CLEAN"], SHIFTED: TOOL["SHIFTED"], SAMPLED: TOOL["SAMPLED"]}


def test_they_are_small_and_whole() -> None:
    assert SHIPPED[2:] == tuple(SETS)
    assert sum(f.stat().st_size for name in SETS for f in shipped(name).rglob("*") if f.is_file()) <= LIMIT
    for name in SETS:
        assert validate(folder_of(name))


@pytest.mark.parametrize("name", SETS)
def test_the_tool_says_how_they_were_recorded(name: str) -> None:
    trace = find_trace(name)
    assert [(p.id, p.domain) for p in TOOL["first"](SETS[name])] == list(zip(trace.ids, trace.domains, strict=True))
    config = trace.manifest["config"]
    assert (config["max_new_tokens"], config["temperature"]) == (TOOL["BUDGET"], TOOL["WARM"] * (name == SAMPLED))
    assert trace.sampled == (name == SAMPLED)
    specs = TOOL["trained"](Path("pool"))
    assert [d.kind for d in trace.drafters] == [spec.partition(":")[0] for spec in specs]
    wanted = [TOOL["SHORT"] if d.kind in ("head", "model") else TOOL["LENGTH"] for d in trace.drafters]
    assert [int(n) for n in trace.draft_lengths] == wanted
    assert trace.overlap is not None
    assert trace.costs is not None


@pytest.mark.parametrize("name", SETS)
def test_two_pools_share_the_texts_and_no_drafter(name: str) -> None:
    whole = find_trace(name)
    white, black = (find_trace(f"{name}:pool={pool}") for pool in ("white-box", "black-box"))
    assert {d.kind for d in white.drafters} == {"head"}
    assert {d.kind for d in black.drafters} == {"lookup", "table", "model"}
    assert {d.name for d in whole.drafters} == {d.name for d in (*white.drafters, *black.drafters)}
    assert [d for d in black.drafters if d.kind == "model"] == list(find_trace(f"{name}:pool=models").drafters)
    for part in (white, black):
        np.testing.assert_array_equal(part.tokens, whole.tokens)
        assert part.name != whole.name
        column = [d.name for d in whole.drafters].index(part.drafters[0].name)
        np.testing.assert_array_equal(part.accepted[:, 0], whole.accepted[:, column])
        assert {d.settings["domain"] for d in part.drafters if d.kind != "lookup"} == {*TOOL["MADE_FOR"]}
        assert TOTAL not in {d.settings.get("domain") for d in without_total(part).drafters}
        assert Setting(part, 1, True).trained


def test_the_shifted_one_goes_with_the_clean_one() -> None:
    clean, other = find_trace(TRAINED), find_trace(SHIFTED)
    check(clean, other)
    assert set(clean.ids).isdisjoint(other.ids)
    assert set(kinds(other, sorted(set(clean.domains)))) == {TWO, REWORDED, UNSEEN}


def test_no_machine_path_is_in_them() -> None:
    for name in SETS:
        for drafter in find_trace(name).drafters:
            assert not {"/", "\\"} & set(str(drafter.settings.get("path", "")))
        for file in ("manifest.json", "journal.jsonl", "costs.json"):
            text = (shipped(name) / file).read_text()
            assert not re.search(r'"(/|[A-Za-z]:)[^"]*"', text)
