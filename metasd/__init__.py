"""MetaSD: several drafters, one bandit, the target's exact output.

Importing it registers the Gymnasium environment ``MetaSD-v0``, by name only: neither torch nor the environment's own
code is loaded before it is made.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

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
