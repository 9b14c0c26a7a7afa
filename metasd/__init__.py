"""MetaSD: several drafters, one bandit, the target's exact output.

Importing it registers the Gymnasium environment ``MetaSD-v0``, by name only: neither torch nor the environment's own
code is loaded before it is made. ``open_trace``, ``replay`` and ``compare`` play policies on recordings; ``load``,
``generate`` and ``Chat`` decode live. Their code, and torch for the latter, is loaded when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register, registry

try:
    __version__ = version("metasd")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

if "MetaSD-v0" not in registry:  # importing twice (importlib.reload) must not warn
    register(
        id="MetaSD-v0",
        entry_point="metasd.sim.env.scalar:MetaSDEnv",
        vector_entry_point="metasd.sim.env.vector:MetaSDVectorEnv",
    )

if TYPE_CHECKING:
    from metasd.runtime.chat import Chat
    from metasd.runtime.generate import generate
    from metasd.runtime.load import load_target as load
    from metasd.sim.compare.run import compare
    from metasd.sim.replay.run import replay
    from metasd.traces.find import open_trace

__all__ = ["Chat", "__version__", "compare", "generate", "load", "open_trace", "replay"]

_LATER = {
    "load": ("metasd.runtime.load", "load_target"),
    "generate": ("metasd.runtime.generate", "generate"),
    "Chat": ("metasd.runtime.chat", "Chat"),
    "open_trace": ("metasd.traces.find", "open_trace"),
    "replay": ("metasd.sim.replay.run", "replay"),
    "compare": ("metasd.sim.compare.run", "compare"),
}


def __getattr__(name: str) -> Any:
    """What is loaded when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LATER[name]
    found = globals()[name] = getattr(import_module(module), attribute)
    return found
