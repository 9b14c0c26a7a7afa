"""The pages: every local link leads somewhere, and the README's first example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    named = re.findall(r"`(docs/[\w.-]+\.md)`", page.read_text())
    named += re.findall(r"`((?:metasd|tests|tools|benchmarks)/[\w./-]+\.(?:py|md|json))`", page.read_text())
    local = [page.parent / link for link in links if "://" not in link] + [ROOT / name for name in named]
    assert [str(p) for p in local if not p.exists()] == []


def test_the_readmes_first_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    source = (ROOT / "README.md").read_text().split("```python")[1].split("```")[0]
    exec(compile(source, "README.md", "exec"), {})  # the page's own code
    rounds, best, optimum = map(int, capsys.readouterr().out.split())
    assert optimum <= best
    assert optimum <= rounds
