"""The table on the terminal: every part's figures in at most 100 columns, or why there are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 100
Line = tuple[str, str, str]
"""What was measured, the figure, and what must be known beside it."""


def show(made: dict[str, Any]) -> None:
    """Print the document of ``benchmarks/gpu.py``."""
    settings, machine = made["settings"], made["machine"]
    where = machine.get("gpu") or machine.get("cpu") or "unknown machine"
    versions = machine.get("versions", {})
    title = (
        f"{settings['target']} on {where}, torch {versions.get('torch')}, transformers {versions.get('transformers')}"
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("part", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("figure", overflow="fold")
    table.add_column("beside it", overflow="fold")
    for name, record in made["parts"].items():
        for what, figure, beside in lines_of(name, record):
            table.add_row(name, what, figure, beside)
    console = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
    console.print(table)
    console.print(f"{made['seconds']:.0f} s; ok: {made['ok']}")


def lines_of(name: str, record: dict[str, Any]) -> Iterator[Line]:
    """The lines of one part; the last says what went wrong, if anything did."""
    found = record["found"]
    if name in _LINES:
        yield from _LINES[name](found)
    for what, held in found.get("memory", {}).items():
        for kind, size in held.items():
            yield f"peak memory, {what}", f"{size / 1e9:.2f} GB", kind.removesuffix("_bytes")
    if found.get("cut_short"):
        yield "", "cut short", f"its {record['limit']:.0f} s were over"
    if record["error"]:
        yield "FAILED", record["error"], f"after {record['seconds']:.0f} s"


def _parity(found: dict[str, Any]) -> Iterator[Line]:
    for row in found.get("rows", ()):
        margins = [p["margin"] for p in row["parted"] if p["margin"] is not None]
        beside = f"margin {min(margins):.2g} to {max(margins):.2g}" if margins else ""
        yield f"{row['dtype']} {_arm(row['contender'])}", f"{row['same_text']} of {row['texts']} texts the same", beside


def _replay(found: dict[str, Any]) -> Iterator[Line]:
    for row in found.get("recordings", ()):
        ratio = f"{row['reading_ratio']:.2f} x plain, {row['ratio']:.2f} x with costs"
        yield f"{row['dtype']} recording", ratio, f"{row['seconds']:.1f} s, {row['tokens']} tokens"
        yield f"{row['dtype']} recorded text", f"{row['mismatches']} tokens differ from a wide pass", ""
    for row in found.get("rows", ()):
        what = f"{row['dtype']} {row['policy']}"
        yield what, f"{row['differing']} of {row['rounds']} rounds differ", f"drafts of {row['draft_length']}"


def _live(found: dict[str, Any]) -> Iterator[Line]:
    if "engine" in found:
        yield f"{found['dtype']}, engine {found['engine']}", "", found["engine_reason"]
    for row in found.get("rows", ()):
        low, high = row["tokens_per_second_low"], row["tokens_per_second_high"]
        figure = f"{row['tokens_per_second']:.1f} tokens/s ({low:.1f} to {high:.1f})"
        yield row["contender"], figure, ", ".join(_beside(row))
    for name, why in found.get("failed", {}).items():
        yield name, "failed", why
    if found.get("noise"):
        yield "plain decoding twice", f"{found['noise']['typical']:.1%} apart", f"at most {found['noise']['most']:.1%}"


def _beside(row: dict[str, Any]) -> Iterator[str]:
    if row["times_plain"] is not None:
        yield f"{row['times_plain']:.2f} x plain"
    if row["of_roofline"] is not None:
        yield f"{row['of_roofline']:.0%} of roofline"
    if row["checked_per_round"]:
        yield f"{row['checked_per_round']:.1f} nodes"
    if row["same_text"] is not None:
        yield f"text {row['same_text']} of {row['prompts']}"


def _passes(found: dict[str, Any]) -> Iterator[Line]:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in found.get("rows", ()):
        key = (row["role"], row["path"], row["shape"], str(row["context"]))
        groups.setdefault(key, []).append(row)
    for role, rows in {role: rows for (role, *_), rows in groups.items()}.items():
        yield f"{role} model", f"{rows[0]['model']}, {rows[0]['parameters'] / 1e6:.3g} M", rows[0]["dtype"]
    for (role, path, shape, context), rows in groups.items():
        widths = " ".join(str(row["width"]) for row in rows)
        yield f"{role}, {path}, {shape} behind {context}, ms", _milliseconds(rows, "wall_seconds"), f"widths {widths}"
        if rows[0]["device_seconds"] is not None:
            yield "", _milliseconds(rows, "device_seconds"), "between CUDA events"
    for made in found.get("captured", ()):
        yield f"{made['role']}, {made['path']}", f"{made['passes']} passes captured", f"{made['seconds']:.1f} s, once"
    for left in found.get("left_out", ()):
        yield f"{left['role']}, {left['path']}", "left out", left["why"]


def _milliseconds(rows: list[dict[str, Any]], clock: str) -> str:
    return " ".join(f"{1000 * row[clock]:.3g}" for row in rows)


def _arm(spec: str) -> str:
    return spec.removeprefix("fixed:arm=")


_LINES = {"parity": _parity, "replay": _replay, "live": _live, "passes": _passes}
