"""One trace written by several processes: each has shards and a journal of its own, the first one gathers them.

The first opens the folder (``TraceWriter``), the others come when it is prepared (``PartWriter``). Until their
journals are gathered, at the end or by the next recording that goes on, a reader reads them beside the first's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metasd.traces import format as fmt
from metasd.traces.commits import ShardWriter
from metasd.traces.journal import Journal


class PartWriter(ShardWriter):
    """Writes into a folder that another process has prepared; the arguments as ``TraceWriter``'s.

    Args:
        part: number of this process, 1 or more; its journal and its shards are named by it.

    Raises UsageError where another process writes this part.
    """

    def __init__(
        self,
        path: str | Path,
        manifest: Mapping[str, Any],
        part: int,
        *,
        order: Sequence[str],
        shard_prompts: int = 8,
    ) -> None:
        super().__init__(Path(path), manifest, order=order, shard_prompts=shard_prompts)
        self.part = part
        self._entries = fmt.committed(self.path)
        if self._entries:
            self._present = tuple(self._entries[0]["fields"])
        self._known = set(self.done)
        self._journal = Journal(self.path, fmt.part_journal(part))

    def _next_name(self) -> str:
        return fmt.shard_name(len(self._entries), self.part)


def gather(path: Path, journal: Journal, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Take the lines of all parts into ``journal``, which holds ``entries``, and remove theirs; the lines taken.

    A kill in between leaves a line in both, which counts once. Raises UsageError where a part is still written.
    """
    known, taken = {entry["shard"] for entry in entries}, list[dict[str, Any]]()
    for file in fmt.part_journals(path):
        held = Journal(path, file.name)
        try:
            for entry in fmt.read_journal(path, file.name)[0]:
                if entry["shard"] not in known:
                    journal.append({key: value for key, value in entry.items() if key != "digest"})
                    known.add(entry["shard"])
                    taken.append(entry)
            file.unlink()
        finally:
            held.close()
    return taken
