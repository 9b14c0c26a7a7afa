"""Every file is written whole or not at all, whoever writes it, and a disk that refuses is one line that names it."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metasd.cli import main
from metasd.core import files
from metasd.core.costs import CostModel
from metasd.core.errors import FileError
from metasd.core.pool import Pool
from metasd.drafters.ngrams import NgramTable
from metasd.report.colours import Painter
from metasd.report.csv import write_csv
from metasd.report.html.page import write_report
from metasd.sim.compare import job as jobs
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.traces import Trace, save_trace, shard, synthetic
from metasd.traces import format as fmt


def trace() -> Trace:
    return synthetic("iid", prompts=2, length=6, arms=2, draft_length=2)


def costs(path: Path) -> None:
    pool = trace().pool()
    zeros = np.zeros(len(pool.drafters))
    CostModel(tuple(d.name for d in pool.drafters), np.ones(1), np.ones(1), zeros, zeros, zeros, zeros).save(path)


def report(path: Path) -> None:
    write_report(document(compare([trace()], ["random"], 1, workers=1)), path)


def picture(path: Path) -> None:
    with Painter(Pool([], [(-1, 0)]), lambda ids: "word " * len(ids), path) as painter:
        painter.tokens(0, [1, 2], 0, 0)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: files.write_bytes(path, b"new"),
    "text": lambda path: files.write_text(path, "new"),
    "costs": costs,
    "table": NgramTable.build([[1, 2, 3]], tokenizer="t", vocabulary=9).save,
    "csv": lambda path: write_csv([{"policy": "random"}], path),
    "html": report,
    "svg": picture,
    "outcome": lambda path: jobs.play(jobs.Job(trace(), "x", "random", 0, 1)).save(path),
    "shard": lambda path: shard.write(path, {"tokens": np.zeros(3, np.int32)}, {}),
    "manifest": lambda path: fmt.write_json(path, {"schema": 1}),
    "trace": lambda path: save_trace(trace(), path),
}


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_what_was_there(writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"file.* cannot be written: No space left on device; free some space"):
        WRITERS[writer](path)
    assert not any(path.parent.iterdir())
    if writer != "trace":
        path.write_text("old")
        with pytest.raises(FileError):
            WRITERS[writer](path)
        assert [p.read_text() for p in path.parent.iterdir()] == ["old"]
    monkeypatch.undo()
    WRITERS[writer](path)
    assert path.is_dir() or path.stat().st_size


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.ENOTSUP, errno.EACCES])
def test_a_folder_that_cannot_be_synced_is_no_fault(
    writer: str, refusal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(refusal, os.strerror(refusal))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    WRITERS[writer](tmp_path / "file")
    assert (tmp_path / "file").exists()


def test_a_folder_that_cannot_be_opened_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *more: Any) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refuse)
    files.sync_folder(tmp_path)


def test_a_folder_that_breaks_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        files.sync_folder(tmp_path)


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        ("there/file", "a part of its path is a file"),
        ("folder", "name a file, not a folder"),
        ("x" * 300, "give it a shorter name"),
    ],
)
def test_a_place_that_is_none(where: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=cause):
        files.write_text(tmp_path / where, "new")
    assert {p.name for p in tmp_path.iterdir()} == {"there", "folder"}


def test_a_file_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # the super-user may write everything
    for attempt in (lambda: files.write_text(path, "new"), lambda: files.check_place(path)):
        with pytest.raises(FileError, match="file cannot be written: Permission denied; give a place that you may"):
            attempt()
    assert path.read_text() == "old"


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def half_a_file() -> None:
        with files.replacing(tmp_path / "file") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    def half_a_folder() -> None:
        with files.new_folder(tmp_path / "folder") as made:
            (made / "file").write_text("half")
            raise KeyboardInterrupt

    for work in (half_a_file, half_a_folder):
        with pytest.raises(KeyboardInterrupt):
            work()
    assert not any(tmp_path.iterdir())


def test_links_permissions_and_pipes_stay(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    files.write_text(pipe, "through")
    reader.join(10)
    assert read == ["through"]
    assert pipe.is_fifo()


def test_names_of_any_length_and_script(tmp_path: Path) -> None:
    for name in ("a" * 255, "字" * 85, "with space\n", "-"):
        files.write_text(tmp_path / name, "new")
    assert len(list(tmp_path.iterdir())) == 4


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    with path.open("ab") as file:
        files.append(path, file.fileno(), b"one\n")
        real = os.write
        written = iter([lambda h, d: real(h, d[:2]), full])
        monkeypatch.setattr(os, "write", lambda handle, data: next(written)(handle, data))
        with pytest.raises(FileError, match="journal cannot be written: No space"):
            files.append(path, file.fileno(), b"two\n")
    assert path.read_bytes() == b"one\n"


def test_what_cannot_be_written_is_known_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = save_trace(trace(), tmp_path / "trace")
    monkeypatch.setattr("metasd.sim.compare.run.compare", lambda *_, **__: pytest.fail("it worked before"))
    monkeypatch.setattr("metasd.sim.fit.fit", lambda *_, **__: pytest.fail("it worked before"))
    for command in (["compare", "--csv"], ["compare", "--html"], ["fit", "--policy", "default", "--out"]):
        assert main([command[0], "--trace", str(made), *command[1:], str(tmp_path)]) == 2
        assert "name a file, not a folder" in capsys.readouterr().err


def test_a_comparison_is_shown_even_if_its_file_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = save_trace(trace(), tmp_path / "trace")
    monkeypatch.setattr(os, "fsync", full)
    assert (
        main(
            [
                "compare",
                "--trace",
                str(made),
                "--policy",
                "random",
                "--workers",
                "1",
                "--csv",
                str(tmp_path / "rows.csv"),
            ]
        )
        == 2
    )
    said = capsys.readouterr()
    assert "random" in said.out
    assert said.err.splitlines()[-1].endswith("rows.csv cannot be written: No space left on device; free some space")
    assert not (tmp_path / "rows.csv").exists()
