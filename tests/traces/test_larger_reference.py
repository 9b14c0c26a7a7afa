"""The larger trace that ships with the package, its halves, and how it was recorded."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from metasd.core.errors import TraceError, UsageError
from metasd.core.prompts import bundled, load_prompts
from metasd.sim.compare.run import compare
from metasd.sim.oracle.rounds import clairvoyant_rounds, fixed_arm_rounds
from metasd.sim.replay.run import replay
from metasd.traces import validate
from metasd.traces.find import find_trace, folder_of
from metasd.traces.shipped import LARGER, REFERENCE, shipped

LIMIT = 4_500_000  # bytes


def halves() -> list:
    return [find_trace(f"{LARGER}:part={part}") for part in ("train", "test")]


def test_it_is_small_whole_and_longer() -> None:
    assert sum(f.stat().st_size for f in shipped(LARGER).rglob("*") if f.is_file()) <= LIMIT
    assert validate(folder_of(LARGER))
    trace, older = find_trace(LARGER), find_trace(REFERENCE)
    assert trace.lengths.max() == 128
    assert len(trace.tokens) > len(older.tokens)
    assert trace.costs is not None
    assert [(d.name, d.kind) for d in trace.drafters] == [(d.name, d.kind) for d in older.drafters]
    assert len(set(Counter(trace.domains).values())) == 1


def test_the_halves_share_no_prompt_and_train_is_of_the_older_ones() -> None:
    whole, (train, test) = find_trace(LARGER), halves()
    assert set(train.ids) <= set(find_trace(REFERENCE).ids)
    assert set(test.ids).isdisjoint(find_trace(REFERENCE).ids)
    assert {*train.ids, *test.ids} == set(whole.ids)
    assert (train.name, test.path) == (f"{LARGER}, train", None)
    for half in (train, test):
        assert set(half.domains) == set(whole.domains)
        for p, name in enumerate(half.ids):
            at = list(whole.ids).index(name)
            mine, its = (slice(*t.offsets[i : i + 2]) for t, i in ((half, p), (whole, at)))
            np.testing.assert_array_equal(half.tokens[mine], whole.tokens[its])
            np.testing.assert_array_equal(half.accepted[mine], whole.accepted[its])


@pytest.mark.parametrize(
    "name", [f"{LARGER}:part=both", f"{LARGER}:", f"{LARGER}:part=test,x=1", "reference:part=test"]
)
def test_other_parts_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="there is reference-2:part=train, reference-2:part=test, "):
        find_trace(name)
    with pytest.raises(UsageError, match="not a folder"):
        folder_of(name)


def test_a_half_is_compared_like_any_trace_in_memory() -> None:
    made = compare([f"{LARGER}:part=test"], ["random"], 1, workers=1)
    assert [(o.name, len(o.trace)) for o in made.traces] == [(f"{LARGER}, test", len(halves()[1]))]


def test_an_installation_without_it_says_so() -> None:
    with pytest.raises(TraceError, match="ships no reference-3 trace"):
        shipped("reference-3")


def test_the_tool_says_how_it_was_recorded() -> None:
    """Prompts, budget and drafters of the trace are those of tools/record_reference.py and the bundled prompts."""
    trace, prompts = find_trace(LARGER), load_prompts(bundled(LARGER))
    assert [(p.id, p.domain) for p in prompts] == list(zip(trace.ids, trace.domains, strict=True))
    tool = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "record_reference.py"))
    assert trace.manifest["config"]["max_new_tokens"] == tool["BUDGET"]
    assert [int(n) for n in trace.draft_lengths] == [tool["LENGTH"]] * len(tool["DRAFTERS"])
    assert [d.kind for d in trace.drafters] == [spec.partition(":")[0] for spec in tool["DRAFTERS"]]


def test_no_policy_beats_the_optimum_on_any_prompt() -> None:
    trace = find_trace(LARGER)
    optimum = clairvoyant_rounds(trace, trace.pool())
    assert np.all(optimum <= fixed_arm_rounds(trace, trace.pool()).min(axis=1))
    for spec in ("random", "metasd-ucb"):
        outcome = replay(trace, spec)
        assert np.all(outcome.ledger.rounds_of() >= optimum[outcome.prompt])
