"""Every column of every table, on the trace whose numbers are worked out by hand (``hand_trace``)."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hand_trace import POLICY, hand_trace
from rich.console import Console

from metasd.report import leaderboard, terminal
from metasd.report.csv import write_csv
from metasd.report.html import tables
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.sim.oracle.regret import rows
from metasd.sim.replay.run import replay


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document(compare([hand_trace()], [POLICY], 1, workers=1))


def printed(*shown: Any, with_: Any, **settings: Any) -> list[list[str]]:
    """The lines that a table prints, cells split where two blanks or more are."""
    console = Console(file=io.StringIO(), width=400, no_color=True)
    with_(*shown, console, **settings)
    return [re.split(r"\s{2,}", line.strip()) for line in console.file.getvalue().splitlines()]


def test_the_table_of_run_and_replay() -> None:
    """A speed-up is known live only, so this one is made up."""
    row = rows(replay(hand_trace(), POLICY))[-1] | {"speedup": 1.234}
    title, heads, cells = printed([row], with_=terminal.show)
    assert title == ["all domains, 3 prompts"]
    assert dict(zip(heads, cells, strict=True)) == {
        "policy": POLICY,
        "tokens/s": "0.9",  # 14 / 15.6875
        "speed-up": "1.23",
        "tokens/round": "1.56",  # 14 / 9
        "acceptance": "28%",  # 5 / 18
        "rounds": "9",
        "regret": "+1.0",
        "of optimum": "77.8%",  # 7 / 9
        "switches": "5",
        "catch-up": "11",
        "arms": "copy@2 67% small@2 33%",
    }


def test_the_table_of_a_comparison(made: dict[str, Any]) -> None:
    lines = printed(made, with_=leaderboard.show)
    assert lines[0] == ["in memory: 3 prompts, 1 seeds, 95 % intervals by prompt"]
    cells = dict(zip(lines[1], [re.sub(r" \[.*\]", "", c) for c in lines[2]], strict=True))
    assert cells == {
        "policy": POLICY,
        "tokens/round": "1.56",
        "of optimum": "77.8%",
        "vs best fixed arm": "+0.16",  # 14 / 9 - 14 / 10
        "regret": "+1.0",
        "regret s": "+1.94",
        "switches": "5",
    }
    below = {line[0]: [re.sub(r" \[.*\]", "", c) for c in line[1:]] for line in lines[3:]}
    assert below == {
        "best fixed arm: small@2": ["1.40", "70.0%"],
        "best fixed arm of each domain": ["1.56", "77.8%"],
        "best fixed arm of each prompt": ["1.75", "87.5%"],
        "clairvoyant optimum": ["2.00", "100.0%"],
    }


def test_the_spreadsheet(made: dict[str, Any], tmp_path: Path) -> None:
    write_csv(made["results"], tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = next(r for r in csv.DictReader(file) if r["domain"] == "all")
    row = next(r for r in made["results"] if r["domain"] == "all")
    for key in ("rounds", "tokens_per_round", "regret_seconds", "tokens_per_second"):
        assert float(found[key]) == row[key]
        ends = row["intervals"].get(key)
        if ends is not None:
            assert [float(found[f"{key}_low"]), float(found[f"{key}_high"])] == ends
    assert float(found["paired_tokens_per_round"]) == pytest.approx(14 / 9 - 14 / 10)


def test_the_table_of_the_page(made: dict[str, Any]) -> None:
    row = [r for r in made["results"] if r["domain"] == "all"]
    page = tables.leaderboard(row, made["comparators"], "best fixed arm")
    heads = re.findall(r'<button type="button">([^<]*)</button>', page)
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    values = re.findall(r'<span class="n">([^<]*)</span>', body)
    assert dict(zip(heads[1:], values, strict=True)) == {
        "tokens per round": "1.56",
        "of the optimum": "77.8%",
        "against best fixed arm": "+0.16",
        "regret, rounds": "+1.0",
        "tokens per second": "0.9",
        "time regret, s": "+1.94",
        "switches": "5",
    }


def test_the_pages_heat_map(made: dict[str, Any]) -> None:
    """The optimum over the rounds played: on code 5 / 5, on chat 2 / 4."""
    page = tables.heat_map([r for r in made["results"] if r["domain"] != "all"], [POLICY])
    domains = re.findall(r'<th scope="col">([^<]*)</th>', page)[1:]
    assert dict(zip(domains, re.findall(r"([\d.]+%)", page), strict=True)) == {"code": "100.0%", "chat": "50.0%"}
