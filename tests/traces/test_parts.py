"""One folder written by several processes: order, holes, kills between a line and its gathering, and other settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metasd.core.errors import TraceError, UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.traces import PromptRecord, TraceWriter, open_trace, validate
from metasd.traces import format as fmt
from metasd.traces.writer import join

POOL = Pool([DrafterInfo("lookup", "lookup", free=True, deterministic=True)], [(0, 2)])
MANIFEST = {"config": {"seed": 1}, "pool": POOL.to_json(), "draft_lengths": [2]}
ORDER = [f"p{i}" for i in range(7)]


def record(i: int) -> PromptRecord:
    n = 3 + i % 2
    zeros = np.zeros((n, 1), int)
    return PromptRecord(f"p{i}", "d", [1, 2], [i + 1] * n, False, proposed=zeros + 1, accepted=zeros)


def begun(out: Path) -> TraceWriter:
    """Two processes have committed all but p4."""
    writer = TraceWriter(out, MANIFEST, order=ORDER)
    part = join(out, MANIFEST, 1, order=ORDER)
    for i in (0, 2, 3):
        writer.add(record(i))
    for i in (1, 5, 6):
        part.add(record(i))
    part.close()
    writer.flush()
    return writer


def test_shards_hold_neighbours_and_are_read_in_order(tmp_path: Path) -> None:
    writer = begun(tmp_path / "t")
    writer.stop()
    assert [e["prompts"] for e in fmt.committed(tmp_path / "t")] == [["p0"], ["p1"], ["p2", "p3"], ["p5", "p6"]]
    assert list(open_trace(tmp_path / "t").ids) == ["p0", "p1", "p2", "p3", "p5", "p6"]


def test_the_first_process_gathers_and_anyone_goes_on(tmp_path: Path) -> None:
    begun(tmp_path / "t").stop()
    line = (tmp_path / "t" / "journal.1.jsonl").read_bytes()
    writer = TraceWriter(tmp_path / "t", MANIFEST, order=ORDER, resume=True)
    assert not (tmp_path / "t" / "journal.1.jsonl").exists()
    writer.stop()
    (tmp_path / "t" / "journal.1.jsonl").write_bytes(line)  # killed between taking the lines and removing them
    with TraceWriter(tmp_path / "t", MANIFEST, order=ORDER, resume=True) as writer:
        assert writer.done == ["p0", "p1", "p2", "p3", "p5", "p6"]
        writer.add(record(4))
    trace = open_trace(tmp_path / "t")
    assert list(trace.ids) == ORDER
    assert [int(trace.tokens[start]) for start in trace.offsets[:-1]] == [1, 2, 3, 4, 5, 6, 7]
    validate(tmp_path / "t")


def test_a_recording_of_which_nobody_recorded_a_prompt_is_not_complete(tmp_path: Path) -> None:
    writer = begun(tmp_path / "t")
    writer.gather()
    with pytest.raises(TraceError, match=r"1 prompts were recorded by nobody, 'p4' first; --resume"):
        writer.close()
    assert not fmt.read_manifest(tmp_path / "t")["complete"]
    with TraceWriter(tmp_path / "t", MANIFEST, order=ORDER, resume=True) as writer:
        writer.add(record(4))
    assert fmt.read_manifest(tmp_path / "t")["complete"]


def test_a_part_of_another_recording_or_one_that_is_written_is_refused(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t", MANIFEST, order=ORDER)
    with pytest.raises(UsageError, match=r"config\.seed is 1 there and 2 here"):
        join(tmp_path / "t", {**MANIFEST, "config": {"seed": 2}}, 1, order=ORDER)
    part = join(tmp_path / "t", MANIFEST, 1, order=ORDER)
    with pytest.raises(UsageError, match="another process"):
        join(tmp_path / "t", MANIFEST, 1, order=ORDER)
    with pytest.raises(UsageError, match="another process"):
        writer.gather()
    part.add(record(0))
    with pytest.raises(UsageError, match="comes twice"):
        part.add(record(0))
    with pytest.raises(UsageError, match="'p9' is none of the 7"):
        part.add(record(9))
    part.close()
    writer.stop()
