"""Prompts taken and committed as shards, some at a time: what every process that records shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metasd.core.errors import UsageError
from metasd.traces import format as fmt
from metasd.traces import shard
from metasd.traces.journal import Journal
from metasd.traces.rows import PromptRecord, check, pack


class ShardWriter:
    """Writes shards into the trace folder ``path``, each named in ``_journal``, which a subclass opens.

    Args:
        manifest: complete; its draft lengths and token dtype bind every prompt.
        order: ids of all prompts of the trace, in its order. A shard then holds neighbours, and its journal line says
            at which place they begin. None: prompts come in the trace's order.
        shard_prompts: prompts a shard.

    Raises UsageError for a prompt given twice, or outside ``order``, and for shapes that do not fit.
    """

    _journal: Journal

    def __init__(
        self, path: Path, manifest: Mapping[str, Any], *, order: Sequence[str] | None = None, shard_prompts: int = 8
    ) -> None:
        if shard_prompts < 1:
            raise UsageError(f"shard_prompts {shard_prompts} is below 1; a shard holds at least one prompt")
        self.path, self.manifest = path, manifest
        self._places = None if order is None else {name: at for at, name in enumerate(order)}
        self._shard_prompts = shard_prompts
        self._pending: list[PromptRecord] = []
        self._entries: list[dict[str, Any]] = []
        self._present: tuple[str, ...] | None = None
        self._known: set[str] = set()

    @property
    def done(self) -> list[str]:
        """Ids of the prompts committed so far, in order."""
        return [name for entry in fmt.in_order(self._entries) for name in entry["prompts"]]

    def add(self, record: PromptRecord) -> None:
        """Take one prompt; every ``shard_prompts`` of them are committed together."""
        check(record, self.manifest["draft_lengths"], self.manifest["token_dtype"])
        if record.id in self._known:
            raise UsageError(f"prompt {record.id!r} comes twice; give every prompt its own id")
        if self._places is not None and record.id not in self._places:
            raise UsageError(f"prompt {record.id!r} is none of the {len(self._places)} that are recorded here")
        if self._present is None:
            self._present = record.present
        if record.present != self._present:
            raise UsageError(f"prompt {record.id!r} has fields {record.present}, the ones before {self._present}")
        if self._pending and not self._neighbours(self._pending[-1].id, record.id):
            self.flush()
        self._known.add(record.id)
        self._pending.append(record)
        if len(self._pending) >= self._shard_prompts:
            self.flush()

    def _neighbours(self, one: str, other: str) -> bool:
        return self._places is None or self._places[one] + 1 == self._places[other]

    def flush(self) -> None:
        """Commit the prompts added since the last shard."""
        if not self._pending:
            return
        name = self._next_name()
        tensors, metadata = pack(self._pending, self.manifest["token_dtype"])
        sha256, size = shard.write(self.path / fmt.SHARDS / name, tensors, metadata)
        entry = {
            "shard": name,
            "rows": int(tensors["lengths"].sum()),
            "prompts": [r.id for r in self._pending],
            "unaligned": [r.id for r in self._pending if r.unaligned],
            "fields": list(self._pending[0].present),
            "bytes": size,
            "sha256": sha256,
        }
        if self._places is not None:
            entry["first"] = self._places[self._pending[0].id]
        self._journal.append(entry)
        self._entries.append(entry)
        self._pending = []

    def stop(self) -> None:
        """Commit what is pending and leave the recording incomplete, to be resumed."""
        try:
            self.flush()
        finally:
            self._journal.close()

    def close(self) -> None:
        """Commit what is pending: this writer has done its work."""
        self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.stop()

    def _next_name(self) -> str:
        """A shard's file name that none has yet."""
        return fmt.shard_name(len(self._entries))
