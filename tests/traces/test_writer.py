"""A recording killed at any moment keeps what was committed, and resumed it is the uninterrupted one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metasd.core.errors import TraceError, UsageError
from metasd.traces import PromptRecord, Trace, TraceWriter, open_trace, synthetic, validate
from metasd.traces import format as fmt

# Kills itself at call number N of a syscall of the commit protocol, or with half a journal line written.
CHILD = """
import os, signal, sys
from metasd.traces import PromptRecord, TraceWriter, synthetic
from metasd.traces import format as fmt

path, where, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
calls = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(real):
    def call(*args):
        global calls
        calls += 1
        if calls == number:
            die()
        return real(*args)
    return call

if where == "journal":
    line = fmt.journal_line
    def torn(entry):
        global calls
        calls += 1
        if calls < number:
            return line(entry)
        with open(os.path.join(path, "journal.jsonl"), "ab") as file:
            file.write(line(entry)[:40])
        die()
    fmt.journal_line = torn
else:
    setattr(os, where, dying(getattr(os, where)))

trace = synthetic("iid", prompts=10, length=8, arms=2, draft_length=3)
with TraceWriter(path, {**trace.manifest, "draft_lengths": trace.draft_lengths}, shard_prompts=3) as writer:
    for p in range(10):
        at = slice(8 * p, 8 * p + 8)
        writer.add(PromptRecord(trace.ids[p], "d", [1, 2], trace.tokens[at], True, trace.proposed[at],
                                trace.accepted[at], overlap=trace.overlap[at]))
"""


def write_all(path: Path, resume: bool) -> list[str]:
    """What CHILD writes; returns the prompts that were there before."""
    trace = synthetic("iid", prompts=10, length=8, arms=2, draft_length=3)
    manifest = {**trace.manifest, "draft_lengths": trace.draft_lengths}
    with TraceWriter(path, manifest, shard_prompts=3, resume=resume) as writer:
        done = writer.done
        for p in range(10):
            at = slice(8 * p, 8 * p + 8)
            rows = (trace.tokens[at], True, trace.proposed[at], trace.accepted[at])
            if trace.ids[p] not in done:
                writer.add(PromptRecord(trace.ids[p], "d", [1, 2], *rows, overlap=trace.overlap[at]))
    return done


# fsync is called by: the journal's birth (folder), the first manifest (file, folder), then for each shard its file,
# its folder, the journal; replace by the manifest and each shard.
@pytest.mark.parametrize(
    ("where", "number", "committed"),
    [
        ("fsync", 1, 0),  # before the first manifest has a name
        ("fsync", 4, 0),  # first shard written under its temporary name
        ("replace", 3, 3),  # second shard synced, not renamed
        ("fsync", 8, 3),  # second shard renamed, its folder not synced, no journal line
        ("journal", 3, 6),  # half of the third shard's journal line
        ("fsync", 12, 9),  # third journal line written, not synced: a kill (unlike a power cut) keeps it
        ("replace", 6, 10),  # all shards there, the final manifest not renamed
    ],
)
def test_killed_recording_resumes_to_identical_arrays(
    tmp_path: Path, same: Callable[[Trace, Trace], None], where: str, number: int, committed: int
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    child = subprocess.run([sys.executable, "-c", CHILD, str(killed), where, str(number)], timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL
    write_all(whole, resume=False)
    if committed:
        part = open_trace(killed)
        assert list(part.ids) == list(open_trace(whole).ids)[:committed]
        assert "incomplete" in validate(killed)[0]
    else:
        with pytest.raises(TraceError):
            open_trace(killed)
    assert len(write_all(killed, resume=True)) == committed
    same(open_trace(killed), open_trace(whole))
    for file in whole.rglob("*.*"):
        assert (killed / file.relative_to(whole)).read_bytes() == file.read_bytes()
    assert not list(killed.rglob(".*"))
    assert "complete" in validate(killed)[0]


def test_round_trip(recorded: Callable[..., Path], source: Trace, same: Callable, tmp_path: Path) -> None:
    path = recorded(tmp_path / "t")
    same(open_trace(path), source)
    assert len(list((path / fmt.SHARDS).iterdir())) == 3
    validate(path)


def test_stopped_between_shards_resumes(recorded: Callable[..., Path], same: Callable, tmp_path: Path) -> None:
    """A stop flushes a short shard; the arrays do not depend on where the shards were cut."""
    stopped = recorded(tmp_path / "a", stop=6)
    assert len(open_trace(stopped)) == 6
    recorded(stopped, resume=True)
    same(open_trace(stopped), open_trace(recorded(tmp_path / "b")))


def test_an_exception_keeps_the_prompts_added(manifest: dict, records: list[PromptRecord], tmp_path: Path) -> None:
    def interrupted() -> None:
        with TraceWriter(tmp_path / "t", manifest) as writer:
            writer.add(records[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(open_trace(tmp_path / "t").ids) == [records[0].id]
    assert not json.loads((tmp_path / "t" / fmt.MANIFEST).read_text())["complete"]


def test_folder_in_use_is_refused(recorded: Callable[..., Path], tmp_path: Path) -> None:
    path = recorded(tmp_path / "t")
    with pytest.raises(
        UsageError, match=r"holds a recording, 11 prompts of it done; --resume goes on, or give another"
    ):
        recorded(path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("do not lose me")
    for resume in (False, True):
        with pytest.raises(UsageError, match="foreign holds"):
            recorded(tmp_path / "foreign", resume=resume)
    assert (tmp_path / "foreign" / "thesis.tex").read_text() == "do not lose me"
    with pytest.raises(UsageError, match="is a file"):
        recorded(tmp_path / "foreign" / "thesis.tex")


@pytest.mark.parametrize("key", ["temperature", "seed", "new"])
def test_other_configuration_is_refused_by_key(recorded: Callable[..., Path], source: Trace, tmp_path: Path, key: str):
    path = recorded(tmp_path / "t", stop=5)
    source.manifest = {**source.manifest, "config": {**source.manifest["config"], key: 99}}
    with pytest.raises(UsageError, match=rf"config\.{key} is .* and 99 here"):
        recorded(path, resume=True)


def test_resume_refuses_a_damaged_shard(recorded: Callable[..., Path], tmp_path: Path) -> None:
    path = recorded(tmp_path / "t", stop=9)
    shard = path / fmt.SHARDS / fmt.shard_name(0)
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(TraceError, match=r"000000\.safetensors"):
        recorded(path, resume=True)


def test_one_writer_at_a_time(manifest: dict, records: list[PromptRecord], tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t", manifest, shard_prompts=1) as writer:
        writer.add(records[0])
        with pytest.raises(UsageError, match="being recorded by another process"):
            TraceWriter(tmp_path / "t", manifest, resume=True)
        writer.add(records[1])
    assert len(open_trace(tmp_path / "t")) == 2


def test_records_that_do_not_fit_are_refused(manifest: dict, records: list[PromptRecord], tmp_path: Path) -> None:
    first, second, *_ = records
    writer = TraceWriter(tmp_path / "t", manifest)
    writer.add(first)
    bad = {
        "comes twice": replace(second, id=first.id),
        "has shape": replace(second, proposed=second.proposed[:-1]),
        "empty text": replace(second, tokens=[]),
        "accepted <= proposed": replace(second, accepted=np.full_like(second.accepted, 9)),
        "has fields": replace(second, margin=None),
        "another text": replace(second, column_text=np.zeros(3, np.int64)),
    }
    for message, record in bad.items():
        with pytest.raises(UsageError, match=message):
            writer.add(record)
    writer.close()
    assert list(open_trace(tmp_path / "t").ids) == [first.id]


def test_small_tokens_and_their_limit(source: Trace, manifest: dict, records: list[PromptRecord], tmp_path) -> None:
    large = replace(records[1], draft_tokens=np.full_like(records[1].draft_tokens, 70000), id="large")
    with TraceWriter(tmp_path / "t", manifest | {"token_dtype": "uint16"}) as writer:
        for record in records:
            writer.add(record)
        with pytest.raises(UsageError, match=r"'large': draft_tokens holds 70000\.\.70000"):
            writer.add(large)
    trace = open_trace(tmp_path / "t")
    assert trace.tokens.dtype == trace.draft_tokens.dtype == np.uint16
    np.testing.assert_array_equal(trace.tokens, source.tokens)
    validate(tmp_path / "t")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": None}, "no config"),
        ({"draft_lengths": [4, 4]}, "2 draft_lengths for 3"),
        ({"draft_lengths": [4, 4, 300]}, r"outside 1\.\.255"),
        ({"token_dtype": "int8"}, "token_dtype 'int8'"),
    ],
)
def test_manifest_that_does_not_fit(manifest: dict, tmp_path: Path, change: dict, message: str) -> None:
    manifest = {k: v for k, v in (manifest | change).items() if v is not None}
    with pytest.raises(UsageError, match=message):
        TraceWriter(tmp_path / "t", manifest)
