"""What the page and the terminal claim, and what they do not."""

from __future__ import annotations

import copy
import io
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from metasd.report import leaderboard
from metasd.report.html.page import page
from metasd.sim.compare.comparators import arms_differ
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.traces import synthetic


def headline(made: dict[str, Any]) -> str:
    found = re.search(r'<p class="headline">(.*?)</p>', page(made), re.DOTALL)
    assert found
    return found.group(1)


def told(made: dict[str, Any], *, differ: bool, **paired: Any) -> str:
    """The headline if the best policy's difference were ``paired``."""
    changed = copy.deepcopy(made)
    best = max((r for r in changed["results"] if r["domain"] == "all"), key=lambda r: r["tokens_per_round"])
    best["paired"] |= paired
    changed["traces"][0]["arms_differ"] = differ
    return headline(changed)


def test_the_best_of_many_is_called_that(made: dict[str, Any]) -> None:
    assert "the best of 4 policies on these prompts is <b>" in headline(made)
    alone = made | {"results": [r for r in made["results"] if r["policy"] == "random"]}
    assert "best of" not in headline(alone)


@pytest.mark.parametrize(
    ("p", "differ", "words"),
    [
        (0.05, True, r"0\.31 more \(\+0\.20 to \+0\.42\) than the best fixed arm \(p 0\.050 among all policies\)\.$"),
        (0.051, True, r"than the best fixed arm, which these prompts do not tell from nothing\.$"),
        (0.9, False, r"not tell from nothing: the arms of this pool are interchangeable here\.$"),
    ],
)
def test_a_win_is_claimed_where_it_is_shown(made: dict[str, Any], p: float, differ: bool, words: str) -> None:
    gap = {"tokens_per_round": 0.31, "tokens_per_round_interval": [0.2, 0.42], "p_holm": p}
    assert re.search(words, told(made, differ=differ, **gap))


def test_with_too_few_prompts_nothing_is_claimed(tmp_path: Any) -> None:
    few = document(compare([synthetic("iid", prompts=5, length=40, arms=2, seed=1)], ["random", "ucb1"], 1, workers=1))
    assert headline(few).endswith("than the best fixed arm (no interval: 3 more prompts needed).")
    assert "There are no intervals: 3 more prompts needed." in page(few)
    assert all(c["low"] is None for c in few["curves"])


def test_arms_that_are_one_do_not_differ() -> None:
    trace = synthetic("iid", prompts=10, length=60, arms=3, draft_length=4, seed=2)
    assert arms_differ(compare([trace], ["random"], 1, workers=1).traces[0]) is True

    trace.accepted = np.repeat(trace.accepted[:, :1], 3, axis=1)
    assert arms_differ(compare([trace], ["random"], 1, workers=1).traces[0]) is False


def test_the_terminal_says_which_are_not_told_apart_and_which_never_vary(made: dict[str, Any]) -> None:
    console = Console(file=io.StringIO(), width=100, no_color=True)
    leaderboard.show(made, console)
    printed = " ".join(console.file.getvalue().split())
    assert max(map(len, console.file.getvalue().splitlines())) <= 100
    rows = [r for r in made["results"] if r["domain"] == "all"]
    unclear = [r["policy"] for r in rows if r["paired"]["p_holm"] > 0.05]
    assert unclear
    assert "Not told from best fixed arm (5 %, Holm): " in printed
    assert all(u in printed for u in unclear)
    alike = {r["policy"] for r in rows if r["runs"]["alike"]}
    assert {"fixed:arm=arm1", "metasd-ucb"} <= alike
    assert "random" not in alike
    assert "Seeds change nothing for" in printed
