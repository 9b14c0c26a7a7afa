"""docs/report.md: its command runs as it stands, and its table names the panels of the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from metasd.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "report.md"


def test_the_command_makes_the_panels_that_the_page_explains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = PAGE.read_text(encoding="utf-8")
    command = shlex.split(told.split("```")[1].strip())
    assert command[0] == "metasd"
    monkeypatch.chdir(tmp_path)
    assert main([*command[1:], "--workers", "1"]) == 0
    made = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(made.encode()) < 3_000_000
    body = re.sub(r"<script.*?</script>", "", made, flags=re.DOTALL)
    named = re.findall(r"^\| (.*?) \|", told, flags=re.MULTILINE)[2:]
    titles = re.findall(r"<h3>(.*?)</h3>", body)
    assert titles
    for title in titles:
        assert any(title.startswith(n) or title.endswith(n) for n in named), title
    assert '"texts":["```","python"' in made  # words, not numbers
