"""Other people's acceptance logs as traces. One module a format; nothing is written before all lines are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from metasd.core.errors import UsageError
from metasd.core.results import ALL
from metasd.traces.importers import specbench, specdecode, vllm
from metasd.traces.importers.lines import Imported
from metasd.traces.save import refuse_used, save_trace
from metasd.traces.trace import Trace

_DOMAIN = f"{ALL} (domain)"

FORMATS: dict[str, Callable[..., tuple[Trace, list[str]]]] = {
    "specdecode-bench": specdecode.read,
    "spec-bench": specbench.read,
    "vllm": vllm.read,
}


def import_trace(
    format: str, path: str | Path, out: str | Path, *, tokenizer: str | None = None, **settings: Any
) -> Imported:
    """Read the log at ``path`` (a file, or a folder of .jsonl and .json files) and write the trace ``out``.

    ``tokenizer``, the name of the target's, is kept in the manifest. ``settings`` go to the format's ``read``.
    Raises UsageError for an unknown format, an ``out`` that holds files, and a broken line, named by file and number;
    nothing is written then.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    refuse_used(Path(out))
    trace, warnings = FORMATS[format](Path(path), **settings)
    if ALL in trace.domains:
        warnings = [*warnings, f"domain {ALL!r}, the name of the total, is called {_DOMAIN!r} here"]
        trace.domains = [_DOMAIN if domain == ALL else domain for domain in trace.domains]
    if tokenizer is not None:
        config = {**trace.manifest.get("config", {}), "tokenizer": tokenizer}
        trace.manifest = {**trace.manifest, "config": config}
    save_trace(trace, out)
    unaligned = len(trace.manifest.get("unaligned", ()))
    return Imported(Path(out), len(trace), len(trace.tokens), unaligned, warnings)
