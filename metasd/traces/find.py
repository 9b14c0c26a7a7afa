"""How an environment's ``trace`` argument becomes a trace. Strings only: everyone can see an ``EnvSpec``."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from metasd.core import specs
from metasd.core.errors import TraceError, UsageError
from metasd.traces import open_trace, synthetic
from metasd.traces.trace import Trace

REFERENCE = "reference"
_registered: dict[str, Trace] = {}


def register_trace(name: str, trace: Trace) -> str:
    """Let ``gym.make("MetaSD-v0", trace=name)`` find a trace that is in memory. Returns the name."""
    _registered[name] = trace
    return name


def find_trace(source: str) -> Trace:
    """A registered name, ``reference`` (shipped with the package), ``synthetic:kind=iid,...`` or a trace folder.

    Raises UsageError or TraceError, as ``metasd.traces`` does, when there is no such trace.
    """
    if source in _registered:
        return _registered[source]
    name, settings = specs.parse(source) if source.startswith("synthetic:") else (source, {})
    if name == "synthetic":
        return _synthetic(tuple(sorted(settings.items())))
    if source == REFERENCE:
        folder = Path(str(files("metasd") / "data" / "reference"))
        if not folder.is_dir():
            raise TraceError("this installation ships no reference trace; give trace=DIR or trace=synthetic:kind=iid")
        return _open(str(folder), 0)
    manifest = Path(source) / "manifest.json"
    return _open(source, manifest.stat().st_mtime_ns if manifest.exists() else 0)


@lru_cache(maxsize=8)
def _open(path: str, changed: int) -> Trace:
    return open_trace(path)


@lru_cache(maxsize=8)
def _synthetic(settings: tuple[tuple[str, str], ...]) -> Trace:
    if "kind" not in dict(settings):
        raise UsageError("synthetic needs kind=..., e.g. synthetic:kind=iid")
    made: Trace = specs.build(synthetic, "synthetic", dict(settings), "trace")
    return made
