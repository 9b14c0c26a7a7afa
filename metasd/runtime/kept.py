"""What is kept in the user's cache folder: converted models, and what rounds cost on this machine.

It lies under ``$XDG_CACHE_HOME/metasd`` (``~/.cache/metasd`` by default), a folder a kind. ``metasd cache`` lists and
removes it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from metasd.core.errors import UsageError

KINDS = ("models", "costs")


def folder(kind: str) -> Path:
    """Where things of ``kind`` are kept; it need not be there."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "metasd" / kind


def kept(kind: str) -> list[tuple[str, int]]:
    """(name, bytes) of what is kept of ``kind``, by name: folders of models, files of costs.

    What killed conversions left is among them.
    """
    place = folder(kind)
    if not place.is_dir():
        return []
    wanted = Path.is_dir if kind == "models" else Path.is_file
    found = sorted(p for p in place.iterdir() if wanted(p))
    return [(p.name, sum(f.stat().st_size for f in [p, *p.rglob("*")] if f.is_file())) for p in found]


def remove(names: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """Remove those of ``names``, all when it is empty; returns what was removed, by kind.

    Raises UsageError for an unknown name.
    """
    there = {kind: kept(kind) for kind in KINDS}
    known = [name for entries in there.values() for name, _ in entries]
    for name in names:
        if name not in known:
            raise UsageError(f"nothing called {name!r} in {folder('')}, which holds {', '.join(known) or 'nothing'}")
    gone = {kind: [entry for entry in entries if not names or entry[0] in names] for kind, entries in there.items()}
    for kind, entries in gone.items():
        for name, _ in entries:
            path = folder(kind) / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return gone
