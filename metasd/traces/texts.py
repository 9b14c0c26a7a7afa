"""The text of a trace's answers, token by token: ``texts.jsonl`` in its folder, so that a report can show words.

A function of the tokens and a tokenizer, kept because whoever reads the trace may have no tokenizer. No replay reads
it. A line a prompt (``id``, ``pieces``), then one with the tokenizer and the sha256 of the lines before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext
from metasd.core.errors import TraceError
from metasd.core.pieces import UNFINISHED
from metasd.traces.trace import Trace

TEXTS = "texts.jsonl"

Decode = Callable[[Sequence[int]], str]


def pieces(tokens: Sequence[int], decode: Decode) -> list[str]:
    """The text each token adds. A token may hold part of a character: its text then comes with the one that ends it."""
    found: list[str] = []
    start = read = 0  # tokens from ``read`` on have not been spelled yet; those from ``start`` on give them context
    for i in range(len(tokens)):
        now = decode(tokens[start : i + 1])
        if now.endswith(UNFINISHED) and i + 1 < len(tokens):
            found.append("")
            continue
        found.append(now[len(decode(tokens[start:read])) :])
        start, read = read, i + 1
    return found


def write(trace: Trace, decode: Decode, tokenizer: Mapping[str, Any]) -> None:
    """Write the texts of ``trace``, which must be on disk. ``tokenizer``: its name and hash. Raises FileError."""
    assert trace.path is not None
    ends = trace.offsets.tolist()
    answers = ((name, trace.tokens[a:b].tolist()) for name, a, b in zip(trace.ids, ends, ends[1:], strict=False))
    _save(trace.path, ((name, pieces(tokens, decode)) for name, tokens in answers), tokenizer)


def copy(trace: Trace, to: Path) -> None:
    """Write the texts of the prompts of ``trace`` that its folder holds, if any, into the folder ``to``."""
    spelled = read(trace)
    if spelled is not None:
        _save(to, spelled[1].items(), spelled[0])


def kept(trace: Trace) -> bool:
    """Whether the trace's folder holds texts."""
    return trace.path is not None and (trace.path / TEXTS).exists()


def read(trace: Trace, ids: Iterable[str] | None = None) -> tuple[dict[str, Any], dict[str, list[str]]] | None:
    """The tokenizer (``name``, ``hash``) and the text that each answer token of a prompt adds; None where not kept.

    ids: the prompts wanted, by default all of the trace. Nothing else of the file stays in memory.
    Raises TraceError for a file that is damaged, or that speaks of other answers.
    """
    if not kept(trace):
        return None
    assert trace.path is not None
    file = trace.path / TEXTS
    wanted = set(trace.ids if ids is None else ids)
    lengths = {name: n for name, n in zip(trace.ids, trace.lengths.tolist(), strict=True) if name in wanted}
    mend = "remove it; metasd trace text makes it anew"
    found: dict[str, list[str]] = {}
    try:
        foot = _last(file, lengths, found)
        tokenizer = dict(foot["tokenizer"])
        whole = foot["sha256"] == foot["found"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{file}: not the texts of a trace ({error}); {mend}") from error
    if not whole or any(len(found.get(name, ())) != n for name, n in lengths.items()):
        raise TraceError(f"{file}: damaged, or of other answers than the trace's; {mend}")
    return tokenizer, {name: found[name] for name in lengths}


def _last(file: Path, wanted: Mapping[str, int], found: dict[str, list[str]]) -> dict[str, Any]:
    """The last line, with the hash ``found``; puts the pieces of the prompts wanted into ``found``."""
    seen = hashlib.sha256()
    before = b""
    with file.open("rb") as lines:
        for line in lines:
            if before:
                seen.update(before)
                entry = jsontext.loads(before)
                if entry["id"] in wanted:
                    found[entry["id"]] = entry["pieces"]
            before = line
    last: dict[str, Any] = jsontext.loads(before)
    return last | {"found": seen.hexdigest()}


def _save(folder: Path, texts: Iterable[tuple[str, Sequence[str]]], tokenizer: Mapping[str, Any]) -> None:
    seen = hashlib.sha256()
    with files.replacing(folder / TEXTS) as file:
        for name, text in texts:
            line = jsontext.dumps({"id": name, "pieces": text}, compact=True).encode() + b"\n"
            seen.update(line)
            file.write(line)
        file.write(jsontext.dumps({"tokenizer": dict(tokenizer), "sha256": seen.hexdigest()}).encode() + b"\n")
