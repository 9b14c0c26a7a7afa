"""What ``metasd reproduce`` found as one page of Markdown, and its heat maps as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rich.console import Console
from rich.table import Table

from metasd.core import shown
from metasd.report.cells import words
from metasd.report.heatmap import heatmap

_STYLE = {"reproduced": "green", "not reproduced": "red"}
_INTRODUCTION = """# The paper, put to the test

`{command}` wrote this page: {prompts} prompts of the trace `{trace}` ({drafters}), {seeds} seeds{quick}.
metasd {version}; all of it is replay, which is the same on every machine.

The paper is MetaSD (Kim, Jung, Yun, arXiv 2604.05417). Only its abstract and introduction could be read here; what
it says of a number comes from reviews and summaries of it. Certainty: H, two or more sources agree; M, one source
that had the full text; L, one vague source.

A number has its 95 % interval over prompts (docs/theory.md, 7); of a policy that keeps what it learned, over the
prompts of these runs. *Reproduced*: the whole interval lies where the paper claims. *Not reproduced*: the whole
interval lies outside. Otherwise it *cannot be told*, and the reason stands beside it."""


def show_findings(documents: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print one line a finding."""
    for document in documents:
        table = Table(title=words(document["title"], "bold", None), title_justify="left", box=None, pad_edge=False)
        for heading in ("what", "value", "interval", "verdict"):
            table.add_column(heading, justify="right" if heading in ("value", "interval") else "left", overflow="fold")
        for f in document["findings"]:
            verdict = f["verdict"] + (f": {f['reason']}" if f["reason"] else "")
            cells = words(f["what"]), words(_number(f["value"])), words(_interval(f["interval"]))
            table.add_row(*cells, words(verdict, _STYLE.get(f["verdict"], "dim"), None))
        console.print(table)


def page(
    documents: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], command: str, images: str, stem: str
) -> tuple[str, dict[str, str]]:
    """The page, and its figures by file name (``stem`` in front), which it looks for in the folder ``images``."""
    figures: dict[str, str] = {}
    parts = [_INTRODUCTION.format(**facts, command=command)]
    for document in documents:
        parts.append(f"## {document['title']}")
        heads = ("what", "value", "95 % interval", "the paper", "certainty", "verdict")
        rows = [_line(f) for f in document["findings"]]
        parts.append(_table(heads, rows) if rows else f"Nothing: {document['lacks']}.")
        for title, table in document["tables"].items():
            keys = list(table[0])
            parts.append(f"**{title}**")
            parts.append(_table(keys, [[_cell(row[k]) for k in keys] for row in table]))
        for n, (title, drawn) in enumerate(document["maps"].items()):
            name = f"{stem}-{document['experiment']}{n or ''}.svg"
            figures[name] = heatmap(title, drawn["rows"], drawn["columns"], drawn["values"])
            parts.append(f"![{title}]({PurePath(images, name).as_posix()})")
    return "\n\n".join(parts) + "\n", figures


def _line(f: Mapping[str, Any]) -> list[str]:
    verdict = f"**{f['verdict']}**" + (f": {f['reason']}" if f["reason"] else "")
    unit = "" if f["unit"] == "times" else f" {f['unit']}"
    return [f["what"], _number(f["value"]) + unit, _interval(f["interval"]), f["paper"], f["certainty"], verdict]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(shown.line(c, None).replace("|", "\\|") for c in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return _interval(value)
    return _number(value) if isinstance(value, float) or value is None else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{_number(ends[0])} to {_number(ends[1])}"
