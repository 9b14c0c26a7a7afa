"""JSON in and out: whatever is wrong with a text is a ValueError, and what comes out is JSON for every reader."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def loads(text: str | bytes) -> Any:
    """The value of ``text``. Raises ValueError for anything else, nested beyond reason included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


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
