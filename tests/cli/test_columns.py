"""Every table fits the 100 columns that it is made for, with every policy in it, and names its units."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.cli import main
from metasd.core.costs import CostModel
from metasd.traces import open_trace, register_trace, synthetic


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Two traces of two domains: the first with a clock, the second without."""
    found = []
    for seed in (1, 2):
        trace = synthetic("two-language", prompts=4, length=30, arms=5, draft_length=8, seed=seed)
        flat = np.full(5, 0.01)
        if seed == 1:
            drafters = tuple(d.name for d in trace.drafters)
            trace.costs = CostModel(drafters, np.array([1.0, 9.0]), np.array([0.1, 0.12]), flat, flat, flat, flat)
        found.append(register_trace(f"columns-{seed}", trace))
    return found


@pytest.mark.parametrize("which", [0, 1])
def test_every_line_of_compare_fits(names: list[str], which: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--trace", names[which], "--seeds", "2", "--workers", "1", "--by-domain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    heads = [line for line in lines if line.startswith("policy ")]
    assert len(heads) == 3  # all, and two domains
    unit = "tokens/round" if which else "tokens/s"
    assert all(unit in head for head in heads)
    domains = dict.fromkeys(open_trace(names[which]).domains)
    titles = [line for line in lines if " prompts, 2 seeds" in line]
    assert [title.partition(":")[0].partition(", ")[2] for title in titles] == ["", *domains]


def test_domains_are_left_out_unless_asked_for(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--trace", names[1], "--policy", "random", "--seeds", "1", "--workers", "1"]) == 0
    assert capsys.readouterr().out.count("policy ") == 1


def test_every_line_of_replay_and_of_the_lists_fits(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    policies = ["--policy", "default:objective=rounds,watch=all", "--policy", "metasd-ucb", "--policy", "random"]
    for command in (
        ["replay", "--trace", names[0], *policies],
        ["replay", "--trace", names[1], *policies],
        ["trace", "show", "reference"],
        ["policies"],
        ["drafters"],
    ):
        assert main(command) == 0
        for line in capsys.readouterr().out.splitlines():
            assert len(line) <= 100, (command, line)
