"""The house: files and functions that can be read at a sitting, and a first sentence for every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("metasd", "tests", "tools", "benchmarks", "examples")
FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
LINES, FUNCTION = 300, 60


def faults(file: Path) -> Iterator[str]:
    """What is too long in a file, or not said."""
    text = file.read_text()
    tree = ast.parse(text)
    if text.count("\n") > LINES:
        yield f"{text.count(chr(10))} lines"
    if tree.body and not ast.get_docstring(tree):
        yield "no first sentence says what it holds"
    for found in ast.walk(tree):
        if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (found.end_lineno or 0) - found.lineno + 1
            if size > FUNCTION:
                yield f"{found.name} has {size} lines"


def test_files_and_functions_can_be_read_at_a_sitting() -> None:
    assert len(FILES) > 400
    assert {f.relative_to(ROOT).as_posix(): found for f in FILES if (found := [*faults(f)])} == {}
