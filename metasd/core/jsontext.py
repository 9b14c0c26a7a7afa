"""JSON in and out: whatever is wrong with a text is a ValueError, and what comes out is JSON for every reader."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class TwiceError(ValueError):
    """An object gives one key two values, of which a reader would keep the last without a word."""


def loads(text: str | bytes, *, once: bool = False) -> Any:
    """The value of ``text``. Raises ValueError for anything else, nested beyond reason included.

    once: raise TwiceError for a key that stands twice in an object.
    """
    try:
        return json.loads(text, object_pairs_hook=keys_once if once else None)
    except RecursionError:
        raise ValueError("nested too deep") from None


def keys_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its members, for the parsers of ``json``. Raises TwiceError."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [key for key, _ in pairs]
        raise TwiceError(f"key {next(key for key in names if names.count(key) > 1)!r} stands twice")
    return made


def dumps(value: Any, indent: int | None = None, *, compact: bool = False) -> str:
    """``value`` as ASCII JSON, ``compact``: without blanks; what JSON has no word for (NaN, the infinities) is null."""
    return json.dumps(_plain(value), allow_nan=False, indent=indent, separators=(",", ":") if compact else None)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
