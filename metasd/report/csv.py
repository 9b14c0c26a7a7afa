"""Results as CSV: one line a row, intervals as two columns, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext, shown


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write ``rows`` (see ``metasd.sim.compare.leaderboard``) to ``path``; unknown values are empty.

    Raises FileError.
    """
    flat = [flatten(r) for r in rows]
    header = list(dict.fromkeys(key for r in flat for key in r))
    made = io.StringIO(newline="")
    writer = csv.DictWriter(made, header, restval="")
    writer.writeheader()
    writer.writerows(flat)
    files.write_text(path, made.getvalue())


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """One level: ``intervals.x`` becomes x_low and x_high, ``paired.x`` paired_x, other mappings JSON text."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "intervals":
            for name, interval in value.items():
                flat |= _ends(name, interval)
        elif key == "paired":
            for name, item in value.items():
                stem = f"paired_{name.removesuffix('_interval')}"
                flat |= _ends(stem, item) if name.endswith("_interval") else {stem: item}
        else:
            flat[key] = jsontext.dumps(value) if isinstance(value, Mapping) else _printed(value)
    return flat


def _printed(value: Any) -> Any:
    return shown.line(value) if isinstance(value, str) else value


def _ends(name: str, interval: Sequence[float] | None) -> dict[str, float | None]:
    low, high = interval if interval is not None else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
