"""The text of a trace's answers, token by token: ``texts.json`` in its folder, so that a report can show words.

A function of the tokens and a tokenizer, kept because whoever reads the trace may have no tokenizer. No replay reads
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext
from metasd.core.errors import TraceError
from metasd.traces import format as fmt
from metasd.traces.trace import Trace

TEXTS = "texts.json"
_UNFINISHED = "\ufffd"  # what tokenizers decode the first bytes of a character to

Decode = Callable[[Sequence[int]], str]


def pieces(tokens: Sequence[int], decode: Decode) -> list[str]:
    """The text each token adds. A token may hold part of a character: its text then comes with the one that ends it."""
    found: list[str] = []
    start = read = 0  # tokens from ``read`` on have not been spelled yet; those from ``start`` on give them context
    for i in range(len(tokens)):
        now = decode(tokens[start : i + 1])
        if now.endswith(_UNFINISHED) and i + 1 < len(tokens):
            found.append("")
            continue
        found.append(now[len(decode(tokens[start:read])) :])
        start, read = read, i + 1
    return found


def write(trace: Trace, decode: Decode, tokenizer: Mapping[str, Any]) -> None:
    """Write the texts of ``trace``, which must be on disk. ``tokenizer``: its name and hash. Raises FileError."""
    ends = trace.offsets.tolist()
    answers = ((name, trace.tokens[a:b].tolist()) for name, a, b in zip(trace.ids, ends, ends[1:], strict=False))
    _save(trace, {name: pieces(tokens, decode) for name, tokens in answers}, tokenizer)


def copy(trace: Trace, to: Path) -> None:
    """Write the texts of the prompts of ``trace`` that its folder holds, if any, into the folder ``to``."""
    kept = read(trace)
    if kept is not None:
        tokenizer, texts = kept
        _save(trace, {name: texts[name] for name in trace.ids if name in texts}, tokenizer, to)


def read(trace: Trace) -> tuple[dict[str, Any], dict[str, list[str]]] | None:
    """The tokenizer (``name``, ``hash``) and the text that each answer token of each prompt adds; None where not kept.

    Raises TraceError for a file that is damaged, or that speaks of other answers.
    """
    file = None if trace.path is None else trace.path / TEXTS
    if file is None or not file.exists():
        return None
    mend = "remove it; metasd trace text makes it anew"
    try:
        data = jsontext.loads(file.read_bytes())
        whole = data["digest"] == fmt.digest(data)
        tokenizer, texts = dict(data["tokenizer"]), dict(data["texts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{file}: not the texts of a trace ({error}); {mend}") from error
    lengths = dict(zip(trace.ids, trace.lengths.tolist(), strict=True))
    if not whole or any(len(texts.get(name, ())) != n for name, n in lengths.items()):
        raise TraceError(f"{file}: damaged, or of other answers than the trace's; {mend}")
    return tokenizer, texts


def _save(
    trace: Trace, texts: Mapping[str, Sequence[str]], tokenizer: Mapping[str, Any], to: Path | None = None
) -> None:
    folder = to or trace.path
    assert folder is not None
    data = fmt.signed({"tokenizer": tokenizer, "texts": texts})
    files.write_text(folder / TEXTS, jsontext.dumps(data) + "\n")
