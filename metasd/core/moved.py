"""Old names of modules that moved, kept for one release: what is asked of them is looked up where it is now."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

UNTIL = "0.3"
"""Version without the old names."""


def moved(old: str, new: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of module ``old``, whose names are found in module ``new``, with a DeprecationWarning."""

    def look_up(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(new), name)
        warnings.warn(f"{old} is now {new}; the old name goes with {UNTIL}", DeprecationWarning, stacklevel=2)
        return found

    return look_up
