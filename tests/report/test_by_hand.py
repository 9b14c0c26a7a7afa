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
    title, above, heads, cells, played = printed(rows(replay(hand_trace(), POLICY))[-1:], with_=terminal.show)[:5]
    assert title == ["all domains, 3 prompts"]
    assert above == ["tokens", "speed-up", "tokens", "drafts", "regret,", "of", "re-read"]
    twice = heads.index("rounds", heads.index("rounds") + 1)
    heads[twice] = "rounds of regret"
    assert dict(zip(heads, cells, strict=True)) == {
        "policy": POLICY,
        "per s": "0.9",  # tokens: 14 / 16.1875
        "(times)": "0.86",
        "/round": "1.40",  # tokens: 14 / 10
        "kept": "25%",  # of drafts: 4 / 16
        "rounds": "10",
        "rounds of regret": "+2.0",
        "optimum": "70.0%",  # of it: 7 / 10
        "switches": "7",
        "tokens": "11",  # re-read
    }
    assert played == [f"{POLICY} played copy@2 50% small@2 30% plain 20%"]


def test_the_table_of_a_comparison(made: dict[str, Any]) -> None:
    lines = printed(made, with_=leaderboard.show)
    assert lines[0] == ["in memory: 3 prompts, 1 seeds, no intervals (5 more prompts needed)"]
    cells = dict(zip(lines[1], [re.sub(r" \[.*\]", "", c) for c in lines[2]], strict=True))
    assert cells == {
        "policy": POLICY,
        "tokens/s": "0.9",
        "x plain": "0.86",  # 14 / 16.1875
        "of optimum": "68.3%",  # 11.0625 / 16.1875
        "vs best fixed arm": "-0.1",  # 14 / 16.1875 - 1
        "tokens/round": "1.40",
        "regret s": "+2.2",  # 16.1875 - 14
    }
    below = {line[0]: [re.sub(r" \[.*\]", "", c) for c in line[1:]] for line in lines[3:-3]}
    assert below == {
        "fixed arm: plain": ["1.0", "1.00", "79.0%", "1.00"],
        "best fixed arm: plain": ["1.0", "1.00", "79.0%", "1.00"],
        "best fixed arm of each domain": ["1.0", "1.00", "79.0%", "1.27"],
        "best fixed arm of each prompt": ["1.1", "1.12", "88.5%", "1.27"],
        "clairvoyant optimum": ["1.3", "1.27", "100.0%", "2.00"],
    }
    assert [" ".join(line) for line in lines[-2:]] == made["traces"][0]["notes"]
    assert lines[-3] == ["Regret is to the best fixed arm of all prompts."]


def test_the_spreadsheet(made: dict[str, Any], tmp_path: Path) -> None:
    write_csv(made["results"], tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = next(r for r in csv.DictReader(file) if r["domain"] == "all")
    row = next(r for r in made["results"] if r["domain"] == "all")
    for key in ("rounds", "tokens_per_round", "regret_seconds", "tokens_per_second"):
        assert float(found[key]) == row[key]
    assert float(found["paired_tokens_per_round"]) == pytest.approx(14 / 10 - 14 / 14)


def test_the_ends_of_intervals_in_the_spreadsheet(tmp_path: Path) -> None:
    given = {
        "intervals": {"rounds": [1.0, 2.0], "seconds": None},
        "paired": {"rounds": 0.5, "rounds_interval": [-1.0, 3.0]},
    }
    write_csv([given], tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {
                "rounds_low": "1.0",
                "rounds_high": "2.0",
                "seconds_low": "",
                "seconds_high": "",
                "paired_rounds": "0.5",
                "paired_rounds_low": "-1.0",
                "paired_rounds_high": "3.0",
            }
        ]


def test_the_table_of_the_page(made: dict[str, Any]) -> None:
    row = [r for r in made["results"] if r["domain"] == "all"]
    page = tables.leaderboard(row, made["comparators"], "best fixed arm")
    heads = re.findall(r'<button type="button">([^<]*)</button>', page)
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    values = re.findall(r'<span class="n">([^<]*)</span>', body)
    assert dict(zip(heads[1:], values, strict=True)) == {
        "tokens per second": "0.9",
        "times plain": "0.86",
        "tokens per round": "1.40",
        "of the optimum": "68.3%",
        "against best fixed arm": "\u22120.14",
        "regret, rounds": "+0.0",
        "time regret, s": "+2.19",
        "s draft": "1.50",
        "s verify": "14.00",
        "s catch-up": "0.69",
        "switches": "7",
    }


def test_the_pages_heat_map(made: dict[str, Any]) -> None:
    """The optimum over the rounds played: on code 5 / 6, on chat 2 / 4."""
    page = tables.heat_map([r for r in made["results"] if r["domain"] != "all"], [POLICY])
    domains = re.findall(r'<button type="button">([^<]*)</button>', page)[1:]
    assert dict(zip(domains, re.findall(r"([\d.]+%)", page), strict=True)) == {"code": "83.3%", "chat": "50.0%"}
