"""The journal of a recording: one recorder a folder, whole lines on a disk that fills, file systems without locks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metasd.core.errors import FileError, UsageError
from metasd.traces import PromptRecord, TraceWriter, open_trace, validate
from metasd.traces import format as fmt
from metasd.traces import journal as module
from metasd.traces.journal import Journal


def test_the_second_of_two_recorders_changes_nothing(manifest: dict[str, Any], tmp_path: Path) -> None:
    first = Journal(tmp_path)  # a recorder that has the folder, its manifest not written yet
    with pytest.raises(UsageError, match="being recorded by another process"):
        TraceWriter(tmp_path, manifest)
    assert not (tmp_path / fmt.MANIFEST).exists()
    first.close()
    TraceWriter(tmp_path, manifest).close()


def test_a_recording_that_ended_meanwhile_is_not_begun_again(
    manifest: dict[str, Any], records: list[PromptRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(folder: Path) -> Journal:
        monkeypatch.undo()
        with TraceWriter(folder, manifest) as other:
            other.add(records[0])
        return Journal(folder)

    monkeypatch.setattr("metasd.traces.writer.Journal", later)
    with pytest.raises(UsageError, match="holds a recording, 1 prompt of it done"):
        TraceWriter(tmp_path / "t", manifest)
    assert list(open_trace(tmp_path / "t").ids) == [records[0].id]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks(
    code: int, recorded: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    path = recorded(tmp_path / "t", stop=5)
    recorded(path, resume=True)
    assert "complete" in validate(path)[0]
    assert "no locks here" in caplog.text


def test_a_disk_that_fills_loses_and_repeats_nothing(
    manifest: dict[str, Any], records: list[PromptRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def half(handle: int, data: memoryview) -> int:
        monkeypatch.setattr(os, "write", full)
        return real(handle, data[:9])

    def full(handle: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = TraceWriter(tmp_path, manifest, shard_prompts=2)
    for record in records[:3]:
        writer.add(record)
    monkeypatch.setattr(os, "write", half)
    with pytest.raises(FileError, match=r"journal\.jsonl cannot be written: No space left"):
        writer.add(records[3])
    with pytest.raises(FileError):
        writer.stop()
    monkeypatch.undo()
    assert list(open_trace(tmp_path).ids) == [r.id for r in records[:2]]
    with TraceWriter(tmp_path, manifest, resume=True) as writer:
        for record in records[len(writer.done) :]:
            writer.add(record)
    assert list(open_trace(tmp_path).ids) == [r.id for r in records]
    validate(tmp_path)
