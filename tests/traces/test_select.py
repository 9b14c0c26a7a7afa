"""Prompts taken out of a trace keep their rows; halves are disjoint, complete and balanced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.traces import PromptRecord, Trace, TraceWriter, open_trace, split, synthetic, take_prompts, validate
from metasd.traces import format as fmt
from metasd.traces.select import halves


@pytest.mark.parametrize("picked", [[0], [3, 4, 5], [7, 2, 9], list(range(11)), [5, 5]])
def test_taken_prompts_keep_their_rows(source: Trace, picked: list[int]) -> None:
    part = take_prompts(source, picked)
    starts = np.concatenate([[0], np.cumsum(source.prompt_lengths)])
    own = np.concatenate([[0], np.cumsum(part.prompt_lengths)])
    assert list(part.ids) == [source.ids[p] for p in picked]
    for q, p in enumerate(picked):
        mine, its = slice(*part.offsets[q : q + 2]), slice(*source.offsets[p : p + 2])
        for name in ("tokens", "proposed", "accepted", "accept", "overlap", "confidence", "signals", "margin"):
            np.testing.assert_array_equal(getattr(part, name)[mine], getattr(source, name)[its])
        np.testing.assert_array_equal(
            part.prompt_tokens[own[q] : own[q + 1]], source.prompt_tokens[starts[p] : starts[p + 1]]
        )


def test_neighbours_are_views_and_masks_work(source: Trace) -> None:
    assert np.shares_memory(take_prompts(source, [3, 4, 5]).accepted, source.accepted)
    mask = np.zeros(11, bool)
    mask[[2, 7]] = True
    assert list(take_prompts(source, mask).ids) == [source.ids[2], source.ids[7]]
    for wrong in ([], [11], [-1]):
        with pytest.raises(UsageError, match="outside"):
            take_prompts(source, wrong)


@pytest.mark.parametrize("prompts", [2, 3, 7, 40])
def test_halves_are_disjoint_complete_and_balanced_in_each_domain(prompts: int) -> None:
    trace = synthetic("two-language", prompts=prompts, length=4)
    trace.domains = [("a", "b", "c")[p % 3] for p in range(prompts)]
    sides = halves(trace, seed=1)
    assert sorted(np.concatenate(sides).tolist()) == list(range(prompts))
    assert abs(len(sides[0]) - len(sides[1])) <= 1
    for domain in "abc":
        counts = [sum(trace.domains[p] == domain for p in side) for side in sides]
        assert abs(counts[0] - counts[1]) <= 1


def test_halves_depend_on_the_seed_alone() -> None:
    trace = synthetic("iid", prompts=30, length=4)
    np.testing.assert_array_equal(halves(trace, 3)[0], halves(trace, 3)[0])
    assert not np.array_equal(halves(trace, 3)[0], halves(trace, 4)[0])
    with pytest.raises(UsageError, match="at least two"):
        halves(take_prompts(trace, [0]), 0)


def test_split_writes_two_valid_traces_with_costs_and_flags(
    manifest: dict, records: list[PromptRecord], tmp_path: Path
) -> None:
    for record in records[:2]:
        record.column_text, record.unaligned = np.zeros(3, np.int64), True
    with TraceWriter(tmp_path / "t", manifest, shard_prompts=3) as writer:
        for record in records:
            writer.add(record)
    one = np.ones(3)
    CostModel(("arm0", "arm1", "arm2"), np.array([1.0]), np.array([2.0]), one, one, one, one).save(
        tmp_path / "t" / fmt.COSTS
    )
    a, b = split(tmp_path / "t", 0, tmp_path / "a", tmp_path / "b")
    whole = open_trace(tmp_path / "t", include_unaligned=True)
    parts = [open_trace(p, include_unaligned=True) for p in (a, b)]
    assert sorted([*parts[0].ids, *parts[1].ids]) == sorted(whole.ids)
    assert sorted(n for p in parts for n in p.manifest["unaligned"]) == sorted(r.id for r in records[:2])
    for path, part in zip((a, b), parts, strict=True):
        validate(path)
        assert part.costs.to_json() == whole.costs.to_json()
        for q, name in enumerate(part.ids):
            p = list(whole.ids).index(name)
            np.testing.assert_array_equal(
                part.accept[slice(*part.offsets[q : q + 2])], whole.accept[slice(*whole.offsets[p : p + 2])]
            )
    with pytest.raises(UsageError, match="not empty"):
        split(tmp_path / "t", 0, tmp_path / "a", tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(UsageError, match="both halves"):
        split(tmp_path / "t", 0, tmp_path / "d", tmp_path / "d")
