"""Which trace a name means: the one resolver for environments, commands and Python."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from metasd.core import specs
from metasd.core.errors import TraceError, UsageError
from metasd.traces.format import MANIFEST
from metasd.traces.reader import read_trace
from metasd.traces.select import take_prompts
from metasd.traces.synth import synthetic
from metasd.traces.trace import Trace

REFERENCE, LARGER = "reference", "reference-2"
SHIPPED = (REFERENCE, LARGER)
"""Traces that ship with the package; the larger one is newer, with longer texts."""
PARTS = ("train", "test")
"""Halves of ``LARGER``: prompts numbered up to ``TRAIN`` in their domain, on which settings were chosen; the others."""
TRAIN = 8
SYNTHETIC = "synthetic"
_registered: dict[str, Trace] = {}


def register_trace(name: str, trace: Trace) -> str:
    """Let ``name`` mean a trace that is in memory, in this process. Returns the name."""
    _registered[name] = trace
    return name


def open_trace(source: str | Path, verify: bool = False, include_unaligned: bool = False) -> Trace:
    """The trace that ``source`` means.

    Args:
        source: a name of ``register_trace``; ``reference`` or ``reference-2``, which ship with the package, or half
            of the latter's prompts, ``reference-2:part=train`` and ``reference-2:part=test``;
            ``synthetic:kind=iid,...`` with the arguments of ``metasd.traces.synthetic``; or a folder.
        include_unaligned: also prompts whose columns were recorded on another text than the trace's.
        verify: check the sha256 of shards of any size; small ones are always checked.

    Raises UsageError for a name that means nothing, TraceError for a folder that is no trace or a damaged one.
    """
    name = str(source)
    if name in _registered:
        return _registered[name]
    if isinstance(source, str) and _made(source):
        return _synthetic(source) if source.partition(":")[0] == SYNTHETIC else _part(source)
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


def shipped(name: str = REFERENCE) -> Path:
    """The folder of a trace of ``SHIPPED``. Raises TraceError where the installation has none."""
    folder = Path(str(files("metasd") / "data" / name))
    if not folder.is_dir():
        raise TraceError(f"this installation ships no {name} trace; give a folder or synthetic:kind=iid")
    return folder


def _made(source: str) -> bool:
    """Whether the name stands for a trace that is made when it is opened."""
    name, colon, _ = source.partition(":")
    return name == SYNTHETIC or (bool(colon) and name in SHIPPED)


def _part(source: str) -> Trace:
    """A half of the larger reference, as a trace in memory."""
    name, settings = specs.parse(source)
    part = settings.pop("part", None)
    if name != LARGER or part not in PARTS or settings:
        raise UsageError(f"trace {source!r} is unknown; there is {LARGER}:part={f' and {LARGER}:part='.join(PARTS)}")
    whole = open_trace(shipped(LARGER))
    numbers = np.array([int(prompt.rpartition("-")[2]) for prompt in whole.ids])
    half = take_prompts(whole, (numbers > TRAIN) == (part == "test"))
    return replace(half, path=None, manifest={**half.manifest, "part": f"{LARGER}, {part}"})


def _synthetic(source: str) -> Trace:
    _, settings = specs.parse(source)
    if "kind" not in settings:
        raise UsageError("synthetic needs kind=..., e.g. synthetic:kind=iid")
    made: Trace = specs.build(synthetic, SYNTHETIC, settings, "trace")
    return made


@lru_cache(maxsize=8)
def _kept(source: str, changed: int) -> Trace:
    return open_trace(source)
