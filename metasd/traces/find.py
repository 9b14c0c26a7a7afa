"""Which trace a name means: the one resolver for environments, commands and Python."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from metasd.core import specs
from metasd.core.errors import UsageError
from metasd.traces.format import MANIFEST
from metasd.traces.reader import read_trace
from metasd.traces.shipped import REFERENCE, SHIPPED, is_part, part, shipped
from metasd.traces.synth import synthetic
from metasd.traces.trace import Trace

SYNTHETIC = "synthetic"
_registered: dict[str, Trace] = {}


def register_trace(name: str, trace: Trace) -> str:
    """Let ``name`` mean a trace that is in memory, in this process. Returns the name."""
    _registered[name] = trace
    return name


def open_trace(source: str | Path, verify: bool = False, include_unaligned: bool = False) -> Trace:
    """The trace that ``source`` means.

    Args:
        source: a name of ``register_trace``; one that ships (``SHIPPED``), or a part of it: half of the prompts,
            ``reference-2:part=train`` or ``part=test``, or some of the drafters, ``reference-trained:pool=white-box``,
            ``pool=black-box`` or ``pool=models`` (and of the two behind it);
            ``synthetic:kind=iid,...`` with the arguments of ``metasd.traces.synthetic``; or a folder.
        include_unaligned: also prompts whose columns were recorded on another text than the trace's.
        verify: check the sha256 of shards of any size; small ones are always checked.

    Raises UsageError for a name that means nothing, TraceError for a folder that is no trace or a damaged one.
    """
    name = str(source)
    if name in _registered:
        return _registered[name]
    if isinstance(source, str) and _made(source):
        return _synthetic(source) if source.partition(":")[0] == SYNTHETIC else part(source)
    return read_trace(folder_of(source), include_unaligned=include_unaligned, verify=verify)


def find_trace(source: str | None) -> Trace:
    """As ``open_trace``, kept while it does not change: for environments, made by the hundred. None: the reference."""
    if source is None:
        return _kept(str(shipped()), 0)
    if source in _registered:
        return _registered[source]
    if _made(source):
        return _kept(source, 0)
    folder = folder_of(source)
    manifest = folder / MANIFEST
    return _kept(str(folder), manifest.stat().st_mtime_ns if manifest.exists() else 0)


def folder_of(source: str | Path) -> Path:
    """The folder that ``source`` means. Raises UsageError where it is none, or a shipped name could mean two."""
    if str(source) in _registered or (isinstance(source, str) and _made(source)):
        raise UsageError(f"trace {source!r} is not a folder; give a recorded one or {REFERENCE}")
    if not str(source):
        raise UsageError(f"the trace has no name; give a folder, {REFERENCE} or {SYNTHETIC}:kind=iid")
    if source not in SHIPPED:
        return Path(source)
    if (Path(source) / MANIFEST).exists():
        raise UsageError(f"{str(source)!r} is the trace that ships with metasd and a folder here; write ./{source}")
    return shipped(str(source))


def _made(source: str) -> bool:
    """Whether the name stands for a trace that is made when it is opened."""
    return source.partition(":")[0] == SYNTHETIC or is_part(source)


def _synthetic(source: str) -> Trace:
    _, settings = specs.parse(source)
    if "kind" not in settings:
        raise UsageError("synthetic needs kind=..., e.g. synthetic:kind=iid")
    made: Trace = specs.build(synthetic, SYNTHETIC, settings, "trace")
    return made


@lru_cache(maxsize=8)
def _kept(source: str, changed: int) -> Trace:
    return open_trace(source)
