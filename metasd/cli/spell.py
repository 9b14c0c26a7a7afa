"""``metasd trace text``: the tokens of a trace as text, by the tokenizer of its target."""

from __future__ import annotations

from metasd.core.errors import UsageError
from metasd.traces import Trace, open_trace, texts


def spell(source: str, tokenizer: str | None) -> str:
    """Write ``texts.jsonl`` into the trace's folder; returns what was done.

    Raises UsageError for a tokenizer that is not named, cannot be loaded, or is not that of the trace.
    """
    trace = open_trace(source, include_unaligned=True)
    if trace.path is None:
        raise UsageError(
            f"{source!r} is no folder, so there is no place for texts; make it with metasd trace synth --out"
        )
    name = tokenizer or _named(trace)
    if name is None:
        raise UsageError(f"trace {trace.name} names no tokenizer; give the target's with --tokenizer")
    from metasd.runtime.load import load_tokenizer
    from metasd.runtime.tokenizers import hashes

    words, called = load_tokenizer(name)
    known = _recorded(trace).get("tokenizer")
    found = hashes(words)
    if known is not None and known not in found:
        raise UsageError(f"tokenizer {name!r} is not that of the trace's target; give {_recorded(trace).get('name')}'s")
    most = int(trace.tokens.max())
    if most >= len(words):
        raise UsageError(f"tokenizer {name!r} has {len(words)} tokens, the trace has token {most}; give the target's")
    texts.write(trace, lambda ids: str(words.decode(list(ids))), {"name": called, "hash": found[0]})
    return f"{trace.path / texts.TEXTS}: the text of {len(trace)} answers, {len(trace.tokens)} tokens"


def _recorded(trace: Trace) -> dict[str, str]:
    """What the manifest says of the target; an import may know its name alone."""
    told = trace.manifest.get("config", {}).get("target")
    return told if isinstance(told, dict) else {}


def _named(trace: Trace) -> str | None:
    return trace.manifest.get("config", {}).get("tokenizer") or _recorded(trace).get("name")
