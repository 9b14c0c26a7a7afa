"""The recorder's side of a trace on disk: shards committed one after another, so that a kill loses at most one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import metasd
from metasd.core import files
from metasd.core.errors import TraceError, UsageError
from metasd.core.limits import LONGEST_DRAFT
from metasd.core.signals import SIGNALS
from metasd.traces import format as fmt
from metasd.traces.commits import ShardWriter
from metasd.traces.journal import Journal
from metasd.traces.parts import PartWriter, gather

_FIXED = ("config", "pool", "draft_lengths", "signals", "token_dtype", "exact")
"""Manifest keys that a resumed recording must share with what is there."""


class TraceWriter(ShardWriter):
    """Writes a trace prompt by prompt.

    Args:
        path: the trace's folder. Without ``resume`` it must not exist or be empty.
        manifest: what was recorded and how. Needed: ``config`` (everything that decides the arrays; a resumed
            recording must have the same), ``pool`` (Pool.to_json) and ``draft_lengths`` ([D]). Optional:
            ``token_dtype`` (int32, or uint16 for small vocabularies), ``exact``, ``versions`` and whatever else
            the reader may want to know.
        resume: go on beside the prompts already committed (``done``); starts anew where nothing is.
        order: ids of all prompts, where they may come in another order, or from several processes (``parts``).
        shard_prompts: prompts a shard.

    Each shard is written under a temporary name, synced, renamed, and then named in the journal, which is synced
    too: at any moment the journalled shards are whole. ``close`` writes the final manifest. Used as a context
    manager an exception still commits the prompts added so far, and leaves the recording to be resumed.

    Raises UsageError for a folder that holds something else or another configuration, for a prompt given twice and
    for shapes that do not fit; TraceError for a journalled shard that is damaged; FileError for a disk that refuses.
    """

    def __init__(
        self,
        path: str | Path,
        manifest: Mapping[str, Any],
        *,
        resume: bool = False,
        order: Sequence[str] | None = None,
        shard_prompts: int = 8,
    ) -> None:
        super().__init__(Path(path), fmt.signed(completed(manifest)), order=order, shard_prompts=shard_prompts)
        self._prepare(resume)

    def gather(self) -> None:
        """Take in what other processes have committed (``parts``)."""
        self._entries += gather(self.path, self._journal, self._entries)

    def close(self) -> None:
        """Commit what is pending and write the final manifest: the recording is complete.

        Raises TraceError, and leaves it to be resumed, where a prompt of ``order`` was recorded by nobody.
        """
        try:
            self.flush()
            self._check_whole()
            fmt.write_json(self.path / fmt.MANIFEST, final_manifest(self.manifest, fmt.in_order(self._entries)))
        finally:
            self._journal.close()

    def _check_whole(self) -> None:
        done = set(self.done)
        lost = [name for name in self._places or () if name not in done]
        if lost:
            said = f"{self.path}: {len(lost)} prompts were recorded by nobody, {lost[0]!r} first"
            raise TraceError(f"{said}; --resume records them")

    def _prepare(self, resume: bool) -> None:
        """Set up a new folder, or take over what an earlier run has committed."""
        if resume and (self.path / fmt.MANIFEST).exists():
            self._take_over()
        else:
            self._start(resume)
        self._known = set(self.done)

    def _start(self, resume: bool) -> None:
        check_free(self.path, resume)
        files.make_folder(self.path / fmt.SHARDS)
        self._journal = Journal(self.path)
        try:
            check_free(self.path, resume=False)  # another recorder may have come and gone before the journal was ours
            self._journal.cut(0)
            self._tidy()
            fmt.write_json(self.path / fmt.MANIFEST, {**self.manifest, "complete": False})
        except BaseException:
            self._journal.close()
            raise

    def _take_over(self) -> None:
        check_same(self.path, self.manifest)
        self._journal = Journal(self.path)
        try:
            self._check_committed()
        except BaseException:
            self._journal.close()
            raise

    def _check_committed(self) -> None:
        """What is journalled must be whole; what is not goes."""
        self._entries, size = fmt.read_journal(self.path)
        self._journal.cut(size)
        self.gather()
        if self._entries:
            self._present = tuple(self._entries[0]["fields"])
        for entry in self._entries:
            file = self.path / fmt.SHARDS / entry["shard"]
            if fmt.file_hash(file) != entry["sha256"]:
                raise TraceError(f"{file}: damaged (its sha256 differs); restore it or record anew to another --out")
        self._tidy()

    def _tidy(self) -> None:
        """Remove what a killed run left behind: temporaries, a shard without a journal line."""
        files.make_folder(self.path / fmt.SHARDS)
        kept = {entry["shard"] for entry in self._entries}
        for file in (self.path / fmt.SHARDS).iterdir():
            if file.name not in kept:
                file.unlink()
        for file in filter(files.is_temporary, self.path.iterdir()):
            file.unlink()


def join(path: Path, manifest: Mapping[str, Any], part: int, *, order: Sequence[str]) -> PartWriter:
    """The writer of process ``part`` of a recording that the first one has prepared in ``path``.

    Raises UsageError where that is another recording, or the part is being written.
    """
    made = fmt.signed(completed(manifest))
    check_same(path, made)
    return PartWriter(path, made, part, order=order)


def check_same(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises UsageError unless the recording in ``path`` is the one that ``manifest``, complete, describes."""
    there = fmt.read_manifest(path)
    for key in _FIXED:
        difference = _difference(key, there.get(key), manifest.get(key))
        if difference and difference.startswith("config.prompts"):
            difference = "its prompts are not these, nor what the chat template prints around them, a date perhaps"
        if difference:
            raise UsageError(f"{path} holds another recording: {difference}; give another --out")


def check_free(path: Path, resume: bool) -> None:
    """Raises UsageError unless a recording can be written to ``path``, or with ``resume`` be gone on with there."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; give a folder with --out")
    if not path.exists() or all(map(_leftover, path.iterdir())):
        return
    if not (path / fmt.MANIFEST).exists():
        raise UsageError(f"{path} holds files that are no recording; give another --out")
    if not resume:
        done = sum(len(entry["prompts"]) for entry in fmt.committed(path))
        said = f"{path} holds a recording, {done} prompt{'' if done == 1 else 's'} of it done"
        raise UsageError(f"{said}; --resume goes on, or give another --out")


def begun(path: Path) -> str | None:
    """When the recording in ``path`` was begun, as its manifest has it; None where nothing is, or it does not say."""
    moment = fmt.read_manifest(path).get("moment") if (path / fmt.MANIFEST).exists() else None
    return None if moment is None else str(moment)


def final_manifest(manifest: Mapping[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of a complete recording: shards, totals, unaligned prompts."""
    shards = [{k: e[k] for k in ("shard", "rows", "bytes", "sha256")} | {"prompts": len(e["prompts"])} for e in entries]
    unaligned = [name for e in entries for name in e["unaligned"]]
    totals = {"prompts": sum(len(e["prompts"]) for e in entries), "rows": sum(e["rows"] for e in entries)}
    return {**manifest, "complete": True, "totals": totals, "unaligned": unaligned, "shards": shards}


def completed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """``manifest`` with the keys the format itself adds. Raises UsageError for one that misses or does not fit."""
    for key in ("config", "pool", "draft_lengths"):
        if key not in manifest:
            raise UsageError(f"the manifest names no {key}; a trace needs config, pool and draft_lengths")
    lengths = [int(n) for n in np.asarray(manifest["draft_lengths"])]
    if len(lengths) != len(manifest["pool"]["drafters"]):
        raise UsageError(
            f"{len(lengths)} draft_lengths for {len(manifest['pool']['drafters'])} drafters; give one each"
        )
    if any(not 1 <= n <= LONGEST_DRAFT for n in lengths):
        raise UsageError(f"draft_lengths {lengths} are outside 1..{LONGEST_DRAFT}; a trace stores lengths in one byte")
    token_dtype = manifest.get("token_dtype", fmt.DEFAULT_TOKEN_DTYPE)
    if token_dtype not in fmt.COLUMNS["tokens"][0]:
        raise UsageError(f"token_dtype {token_dtype!r} is unknown; choose one of {', '.join(fmt.COLUMNS['tokens'][0])}")
    return {
        **manifest,
        "schema": fmt.SCHEMA,
        "writer": {"metasd": metasd.__version__},
        "draft_lengths": lengths,
        "signals": list(SIGNALS),
        "token_dtype": token_dtype,
        "exact": bool(manifest.get("exact", True)),
        "config_hash": fmt.digest(manifest["config"]),
    }


def _leftover(path: Path) -> bool:
    """Whether ``path`` is what a run killed before its first manifest leaves."""
    if path.name == fmt.SHARDS and path.is_dir():
        return not any(path.iterdir())
    return files.is_temporary(path) or (path.name == fmt.JOURNAL and not path.stat().st_size)


def _difference(where: str, there: Any, asked: Any) -> str | None:
    """The first place where two configurations differ, in words; None when they are equal."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in sorted(there.keys() | asked.keys()):
            found = _difference(f"{where}.{key}", there.get(key), asked.get(key))
            if found:
                return found
        return None
    return None if there == asked else f"{where} is {there!r} there and {asked!r} here"
