"""The trace format: names, columns, hashes, manifest and journal. Knows bytes, not what they mean.

A trace is a folder::

    manifest.json        what was recorded and how; rewritten once, when the recording is complete
    journal.jsonl        one line for each committed shard, appended and synced after the shard
    journal.N.jsonl      the same of process N, while several record; gone when the recording is complete
    shards/NNNNNN.safetensors, or .safetensors.xz where it was packed (metasd trace pack)
    costs.json           optional: seconds, apart from acceptance (metasd.core.costs)
    texts.jsonl          optional: the text of every answer token (metasd.traces.texts)

Every file is written whole or not at all (``metasd.core.files``). Manifest and journal lines carry a digest of
themselves; a shard's sha256 stands in journal and manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import files, jsontext
from metasd.core.errors import TraceError

SCHEMA = 1
MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
SHARDS = "shards"
COSTS = "costs.json"

# Columns of a shard: the dtypes allowed and the axes.
# N rows, D drafters, G longest draft, F signals, P prompts, T prompt tokens.
COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "tokens": (("int32", "uint16"), "N"),
    "proposed": (("uint8",), "ND"),
    "accepted": (("uint8",), "ND"),
    "accept": (("float16",), "NDG"),
    "overlap": (("float16",), "NDG"),
    "confidence": (("float16",), "NDG"),
    "draft_tokens": (("int32", "uint16"), "NDG"),
    "signals": (("float16",), "NDF"),
    "margin": (("float32",), "N"),
    "lengths": (("int64",), "P"),
    "ended": (("uint8",), "P"),
    "prompt_lengths": (("int64",), "P"),
    "prompt_tokens": (("int32", "uint16"), "T"),
    "text": (("int64",), "P"),  # hash of the text (text_hash)
    "column_text": (("int64",), "PD"),  # hash of the text each drafter's column was recorded on
}
OPTIONAL = ("accept", "overlap", "confidence", "draft_tokens", "signals", "margin", "prompt_tokens")
TOKEN_COLUMNS = ("tokens", "draft_tokens", "prompt_tokens")
DEFAULT_TOKEN_DTYPE = "int32"


def shard_name(number: int, part: int = 0) -> str:
    """File name of shard ``number`` inside ``shards/``; ``part``: the process that writes it, where several do."""
    return f"{number:06d}.{part}.safetensors" if part else f"{number:06d}.safetensors"


def part_journal(part: int) -> str:
    """File name of the journal of process ``part`` >= 1."""
    return f"journal.{part}.jsonl"


def part_journals(path: Path) -> list[Path]:
    """The journals of parts in folder ``path``."""
    return sorted(path.glob("journal.*.jsonl"))


def text_hash(tokens: Sequence[int] | NDArray[Any]) -> np.int64:
    """First 8 bytes of the sha256 of the tokens as little-endian 32-bit integers: which text a column speaks of."""
    data = np.ascontiguousarray(tokens, dtype="<i4").tobytes()
    return np.frombuffer(hashlib.sha256(data).digest()[:8], "<i8")[0]


def digest(data: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of ``data`` without its own ``digest``."""
    rest = {k: v for k, v in data.items() if k != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def signed(data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` as JSON would give it back, with its digest."""
    plain: dict[str, Any] = jsontext.loads(jsontext.dumps(data))
    return plain | {"digest": digest(plain)}


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes. Raises TraceError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); restore it or record again") from error


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``data`` with its digest, atomically. Raises FileError."""
    files.write_text(path, json.dumps(signed(data), indent=1) + "\n")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the trace in folder ``path``.

    Raises TraceError naming the file: not there, not JSON, of an unknown schema, or damaged.
    """
    file = path / MANIFEST
    try:
        data = jsontext.loads(file.read_bytes())
    except OSError as error:
        raise TraceError(f"{file}: no manifest; {path} is not a trace folder") from error
    except ValueError as error:
        raise TraceError(f"{file}: not JSON ({error}); restore it or record again") from error
    if not isinstance(data, dict) or "schema" not in data:
        raise TraceError(f"{file}: not a trace's manifest (it names no schema); give a folder that metasd wrote")
    if data["schema"] != SCHEMA:
        raise TraceError(f"{file}: schema {data['schema']!r}; this version reads {SCHEMA}")
    if data.get("digest") != digest(data):
        raise TraceError(f"{file}: damaged or edited (its digest differs); restore it or record again")
    return data


def journal_line(entry: Mapping[str, Any]) -> bytes:
    """One line of the journal."""
    return json.dumps(signed(entry), separators=(",", ":")).encode() + b"\n"


def committed(path: Path) -> list[dict[str, Any]]:
    """The entries of all journals in folder ``path``, each shard once, in the trace's order.

    Raises TraceError as ``read_journal``.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in (JOURNAL, *(file.name for file in part_journals(path))):
        for entry in read_journal(path, name)[0]:
            found.setdefault(entry["shard"], entry)
    return in_order(found.values())


def in_order(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the place of their first prompt; before these, those of a recording that kept none, as they were written."""
    return sorted(entries, key=lambda entry: int(entry.get("first", -1)))


def read_journal(path: Path, name: str = JOURNAL) -> tuple[list[dict[str, Any]], int]:
    """The journal's entries and the byte length of its whole lines; a torn last line (no newline) is left out.

    Raises TraceError naming the line that is whole but damaged.
    """
    file = path / name
    if not file.exists():
        return [], 0
    *lines, torn = (data := file.read_bytes()).split(b"\n")
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        if entry is None:
            raise TraceError(f"{file}: line {number} is damaged; restore the file or record again")
        entries.append(entry)
    return entries, len(data) - len(torn)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = jsontext.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and entry.get("digest") == digest(entry)
    return entry if whole else None
