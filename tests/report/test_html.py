"""The page of a comparison: every number of its document, in one file that fetches nothing."""

import json
import re
from hashlib import sha256
from html import unescape
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from metasd.report.csv import write_csv
from metasd.report.html.markup import arm_colours
from metasd.report.html.pack import pack, unpack
from metasd.report.html.page import PLOTLY, _asset, write_report


@pytest.fixture(scope="module")
def page(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "sub" / "r.html"
    write_report(made, path)
    assert [p.name for p in path.parent.iterdir()] == ["r.html"]
    return path.read_text(encoding="utf-8")


def embedded(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    held = json.loads(found.group(1))
    for line in held["timelines"]:
        line["rounds"] = {policy: unpack(rounds) for policy, rounds in line["rounds"].items()}
    return held


def every_number(value: Any) -> set[float]:
    if isinstance(value, dict):
        return set().union(*map(every_number, value.values()), set())
    if isinstance(value, list):
        return set().union(*map(every_number, value), set())
    return {float(value)} if isinstance(value, int | float) else set()


def test_the_page_holds_the_document(page: str, made: dict[str, Any]) -> None:
    assert embedded(page) == json.loads(json.dumps(made))


def test_every_number_of_the_tables_is_in_the_json(page: str, made: dict[str, Any]) -> None:
    cells = re.findall(r'<td data-value="([^"]*)"[^>]*>(.*?)</td>', page)
    known = every_number(made)
    shown = re.compile(r"[+\u2212]?[\d,]+(?:\.\d+)?%?")
    assert len(cells) == 4 * 5 + 5 * 2 + 2 * 4 * 2  # leaderboard, comparators, two tables by domain
    for raw, inner in cells:
        values = shown.findall(unescape(re.sub(r"<[^>]+>", " ", inner)))
        assert (raw == "") == (not values)
        for word in values:
            digits = len(word.rstrip("%").partition(".")[2])
            value = float(word.rstrip("%").replace(",", "").replace("\u2212", "-"))
            scale = 100 if word.endswith("%") else 1
            assert any(round(k * scale, digits) == value for k in known), word
        if raw:
            assert float(raw) in known


def test_numbers_in_the_headline_are_the_best_rows(page: str, made: dict[str, Any]) -> None:
    words = re.search(r'<p class="headline">(.*?)</p>', page, re.DOTALL)
    best = max((r for r in made["results"] if r["domain"] == "all"), key=lambda r: r["tokens_per_round"])
    assert words
    assert f"<b>{best['policy']}</b>" in words.group(1)
    assert f"{best['tokens_per_round']:.2f} tokens per round" in words.group(1)
    assert f"{abs(best['paired']['tokens_per_round']):.2f} " in words.group(1)


def test_nothing_is_fetched_and_it_is_small(page: str) -> None:
    assert len(page.encode()) < 2_000_000
    own = page.replace(_asset(PLOTLY), "")
    assert len(page) - len(own) > 1_000_000
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", own)
    assert not re.search(r"""url\(|@import|fetch\(|XMLHttpRequest|innerHTML|eval\(""", own)
    addresses = set(re.findall(r"https?://[^\"' <]+", own))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a namespace, not a place


def test_the_plotting_library_is_the_one_that_was_vendored() -> None:
    """docs/decisions.md says which, and where from."""
    folder = resources.files("metasd") / "data" / "report"
    found = sha256((folder / PLOTLY).read_bytes()).hexdigest()
    told = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text(encoding="utf-8")
    assert found in told
    assert PLOTLY in told
    assert "MIT" in (folder / PLOTLY.replace(".min.js", ".LICENSE.txt")).read_text(encoding="utf-8")


@pytest.mark.parametrize("rounds", [[], [[0, 0, 0, 1]], [[0, 3, 12, 13], [13, 5, 0, 1], [14, 63, 255, 256]]])
def test_packed_rounds_come_back(rounds: list[list[int]]) -> None:
    assert unpack(json.loads(json.dumps(pack(rounds)))) == rounds


def test_names_cannot_break_out_of_the_page(made: dict[str, Any], tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>\"'&<b>"
    text = json.dumps(made).replace("arm0@4", json.dumps(evil)[1:-1]).replace("metasd-ucb:beta=0.5", "</script><i>")
    write_report(json.loads(text), tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<script") == 3
    assert "<i>" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert embedded(page) == json.loads(text)


def test_a_document_without_figures_still_makes_a_page(tmp_path: Path) -> None:
    row = {"policy": "default", "reset": "prompt", "domain": "all", "prompts": 3, "seconds": 2.0, "switches": 4}
    row |= {"tokens_per_round": 2.5, "tokens_per_second": 31.0, "regret_rounds": None, "oracle_rounds": None}
    run = {"schema": 1, "command": "run", "versions": {"python": "3"}, "config": {"target": "t"}, "results": [row]}
    full = write_report(run, tmp_path / "r.html")
    assert full["timelines"] == []
    assert "2.50 tokens per round" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_shorter_drafts_of_a_drafter_are_paler() -> None:
    tints = arm_colours({"arms": ["plain", "a@2", "a@8", "b@8"], "arm_drafters": [-1, 0, 0, 1]})
    assert tints["plain"][0] == "var(--plain)"
    assert tints["a@2"][0] == tints["a@8"][0] != tints["b@8"][0]
    assert tints["a@2"][1] < tints["a@8"][1] == tints["b@8"][1] == 1


def test_csv_has_one_flat_line_a_row(made: dict[str, Any], tmp_path: Path) -> None:
    import csv

    write_csv(made["results"], tmp_path / "new" / "r.csv")
    with (tmp_path / "new" / "r.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(made["results"])
    for line, row in zip(lines, made["results"], strict=True):
        assert float(line["rounds"]) == row["rounds"]
        assert json.loads(line["arms"]) == row["arms"]
        assert [float(line["rounds_low"] or "nan") if "rounds_low" in line else None] == [None]
        ends, gap = row["intervals"]["tokens_per_round"], row["paired"]["tokens_per_round_interval"]
        assert (ends is None) == (gap is None) == (row["prompts"] < 8)
        assert line["tokens_per_round_low"] == ("" if ends is None else str(ends[0]))
        assert line["paired_tokens_per_round_high"] == ("" if gap is None else str(gap[1]))
        assert line["regret_seconds"] == ""
