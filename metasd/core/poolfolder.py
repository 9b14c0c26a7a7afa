"""A pool of specialists in a folder: its manifest, the one place that knows how it is written and read.

``manifest.json``: ``config`` (target, revision, tokenizer, prompts and how they were answered), ``answers`` (a row a
domain: file, sha256, answers, tokens), ``tables``, ``heads`` and ``models`` (a row a specialist: domain, file, bytes,
answers, tokens and what is of its kind), ``training`` (of heads and models), ``complete``. Manifests of 0.1 hold
``config`` and ``tables`` alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext
from metasd.core.errors import UsageError
from metasd.core.prompts import TOTAL

MANIFEST = "manifest.json"
KINDS = {"tables": "table", "heads": "head", "models": "model"}
"""Lists of the manifest, and the kind of drafter their rows are."""
_NAME = 40  # characters of a domain in a file's name: 255 bytes are the limit
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # Windows

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """One specialist of a pool."""

    kind: str
    domain: str
    path: str


def read(folder: Path | str) -> dict[str, Any] | None:
    """The manifest of a pool; None where the folder is none."""
    try:
        found = jsontext.loads((Path(folder) / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not isinstance(found.setdefault("config", {}), dict):
        return None
    return found if all(isinstance(found.get(key, []), list) for key in KINDS) else None


def save(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest. Raises FileError."""
    files.write_text(folder / MANIFEST, jsontext.dumps(dict(manifest), indent=1) + "\n")


def members(folder: Path | str) -> list[Member]:
    """The specialists of a pool, kind by kind; one over all domains only where its kind has no other."""
    found = list[Member]()
    for rows in _by_kind(folder):
        found += [m for m in rows if m.domain != TOTAL] or rows
    return found


def made_for(path: Path | str) -> dict[str, str]:
    """``{"domain": ...}`` of the trained specialist in a folder of a pool; empty where it is of no pool."""
    own = Path(path).expanduser().resolve()
    every = [m for rows in _by_kind(own.parent.parent) for m in rows if m.kind != "table"]
    return next(({"domain": m.domain} for m in every if Path(m.path) == own), {})


def _by_kind(folder: Path | str) -> Iterator[list[Member]]:
    """All specialists of a pool, a list a kind; an empty one where its rows are not as they were written."""
    manifest = read(folder) or {}
    for key, kind in KINDS.items():
        try:
            yield [Member(kind, str(r["domain"]), str(Path(folder) / r["file"])) for r in manifest.get(key, [])]
        except (KeyError, TypeError):
            yield []


def check_target(folder: str, name: str, revision: str, tokenizers: Collection[str]) -> None:
    """Raises UsageError for a pool that holds more than tables and was made for another target.

    Tables go by tokens alone, and say themselves which tokenizer they need. Targets are told apart by revision, which
    is a hash of the files where there are some; by name where either is unknown.
    """
    manifest = read(folder) or {}
    config = manifest.get("config", {})
    if not (manifest.get("heads") or manifest.get("models")):
        return
    mine, its = revision, config.get("revision")
    same = mine == its if "unknown" not in (mine, its) else config.get("target") == name
    if not same or config.get("tokenizer") not in tokenizers:
        raise UsageError(
            f"pool {folder} was made for target {config.get('target')} ({its}), not for {name} ({mine}); "
            "make one for it with metasd distill"
        )


def file_name(domain: str) -> str:
    """A file name that every system takes, case folded; a domain that gives none, or a long one, goes by its hash."""
    name = re.sub(r"[^\w.-]+", "-", domain).strip(".-").lower()
    if not name or len(name) > _NAME or name.partition(".")[0] in _RESERVED:
        digest = hashlib.sha256(domain.encode("utf-8", "backslashreplace")).hexdigest()[:12]
        name = f"{name[:_NAME]}-{digest}".strip("-")
    return name


def check_names(domains: Iterable[str]) -> None:
    """Raises UsageError when two domains, or one and the whole, would share a file name."""
    named = list(domains)
    names = [file_name(d) for d in [*named, TOTAL]]
    if len(set(names)) < len(names):
        raise UsageError(f"domains {named} do not give different file names; rename one")


def put(manifest: dict[str, Any], key: str, row: Row) -> None:
    """Add ``row`` to a list of the manifest, in place of that of the same domain."""
    rows: list[Row] = manifest.setdefault(key, [])
    manifest[key] = [r for r in rows if r.get("domain") != row["domain"]] + [row]
