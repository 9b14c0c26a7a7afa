"""Which deprecation warnings are ours: those that one of our own calls caused, however deep they were given."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
OURS = (str(ROOT / "metasd"), str(ROOT / "tests"))
BETWEEN = ("torch.nn.modules.module", "contextlib", "functools", "torch.utils._contextlib")
"""Modules that only pass a call on: a model is called through torch's ``Module``, which is not who called it."""

_warn = warnings.warn


def caller(frame: FrameType | None) -> FrameType | None:
    """``frame`` or, where that only passes a call on, whoever made the call."""
    while frame is not None and frame.f_globals.get("__name__") in BETWEEN:
        frame = frame.f_back
    return frame


def caused_by_us(frame: FrameType | None) -> bool:
    """Whether the call that a warning is about stands in this package, installed or not, or in its tests."""
    frame = caller(frame)
    if frame is None:
        return False
    room = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return room in ("metasd", "tests") or frame.f_code.co_filename.startswith(OURS)


def warn(
    message: Any, category: type[Warning] | None = None, stacklevel: int = 1, source: Any = None, **more: Any
) -> None:
    """``warnings.warn``, but a deprecation that one of our calls caused is raised; other people's stay warnings."""
    kind = type(message) if isinstance(message, Warning) else category or UserWarning
    if issubclass(kind, DeprecationWarning | FutureWarning | PendingDeprecationWarning):
        frame: FrameType | None = sys._getframe()
        for _ in range(stacklevel):
            frame = None if frame is None else frame.f_back
        if caused_by_us(frame):
            raise message if isinstance(message, Warning) else kind(message)
    _warn(message, category, stacklevel + 1, source, **more)


def install() -> None:
    """Watch every warning given in this process from here on."""
    warnings.warn = warn
