"""MetaSD: several drafters, one bandit, the target's exact output."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("metasd")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
