"""The pages: local links lead somewhere, the README's first example runs, the API page names what exists."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

import metasd
import metasd.policies
import metasd.traces

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    named = re.findall(r"`(docs/[\w.-]+\.md)`", page.read_text())
    named += re.findall(r"`((?:metasd|tests|tools|benchmarks|examples)/[\w./-]+\.(?:py|md|json))`", page.read_text())
    local = [page.parent / link for link in links if "://" not in link] + [ROOT / name for name in named]
    assert [str(p) for p in local if not p.exists()] == []


def test_the_readmes_first_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    source = (ROOT / "README.md").read_text().split("```python")[1].split("```")[0]
    exec(compile(source, "README.md", "exec"), {})  # the page's own code
    rounds, best, optimum = map(int, capsys.readouterr().out.split())
    assert optimum <= best
    assert optimum <= rounds


def test_the_api_page_names_what_exists_and_all_that_the_package_exports() -> None:
    pytest.importorskip("transformers")
    named = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE)
    found = [pkgutil.resolve_name(name) for name in named]
    exported = [getattr(metasd, name) for name in metasd.__all__ if name != "__version__"]
    exported += [metasd.policies.make, metasd.policies.register_policy, metasd.policies.Policy, metasd.traces.Trace]
    assert [thing for thing in exported if thing not in found] == []
