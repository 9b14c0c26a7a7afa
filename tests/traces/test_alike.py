"""Drafters that are nearly one, by hand, and what trace show, replay and compare say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_trace import hand_trace

from metasd.cli import main
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.traces import Trace, save_trace, synthetic
from metasd.traces.alike import alike, nearly_one


def thousand(differing: int, silent: int) -> Trace:
    """1,000 positions, three drafters; the second says what the first says, but at ``differing`` positions, and is
    silent at ``silent`` others; the third says something else."""
    trace = synthetic("iid", prompts=10, length=100, arms=3, draft_length=2, seed=1)
    trace.draft_tokens = np.tile(np.array([[5, 0], [5, 0], [9, 0]], np.int32), (1000, 1, 1))
    trace.draft_tokens[:differing, 1, 0] = 6
    trace.proposed[:] = 1
    trace.accepted[:] = 0
    trace.proposed[1000 - silent :, 1] = 0
    return trace


@pytest.mark.parametrize(
    ("differing", "silent", "said"), [(50, 0, True), (51, 0, False), (20, 30, True), (0, 51, False)]
)
def test_nearly_one_is_the_same_token_at_95_of_100_positions_where_either_proposes(
    differing: int, silent: int, said: bool
) -> None:
    first, *others = alike(thousand(differing, silent))
    both = 1000 - silent
    assert (first["drafter"], first["other"], first["positions"]) == ("arm0", "arm1", both)
    assert first["same"] == (both - differing) / both
    assert first["shared"] == (both - differing) / 1000
    assert [pair["shared"] for pair in others] == [0.0, 0.0]
    assert nearly_one(thousand(differing, silent)) == ([first] if said else [])


def test_what_is_not_recorded_or_never_proposed_is_unknown() -> None:
    trace = thousand(0, 0)
    trace.proposed[:] = 0
    assert [(p["same"], p["shared"]) for p in alike(trace)] == [(None, None)] * 3
    assert nearly_one(trace) == []
    trace.draft_tokens = None
    assert alike(trace) == []


def test_commands_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(save_trace(thousand(12, 0), tmp_path / "trace"))
    line = "arm0 and arm1 are nearly one drafter: the same first token at 98.8% of the positions where either proposes"

    def documented(*command: str) -> dict[str, Any]:
        assert main([*command, "--json"]) == 0
        made: dict[str, Any] = json.loads(capsys.readouterr().out)
        return made

    assert documented("trace", "show", folder)["trace"]["alike"][0]["shared"] == 0.988
    played = ["--policy", "fixed:arm=arm0@2", "--trace", folder]
    assert documented("replay", *played)["notes"] == [line]
    (facts,) = documented("compare", *played)["traces"]
    assert facts["notes"] == [line]
    assert facts["nearly_one"][0]["shared"] == 0.988
    for command, whole in (("replay", line), ("compare", line)):
        assert main([command, *played]) == 0
        assert whole in " ".join(capsys.readouterr().out.split())


def test_drafters_that_cost_more_than_they_save_are_noted() -> None:
    """By hand: 14 tokens, plain 14 s, copy throughout 16 s, small 20.4375 s."""
    (facts,) = document(compare([hand_trace()], ["random"], 1, workers=1))["traces"]
    assert facts["notes"] == [
        "copy cost more than it saved: alone it makes 0.9 tokens/s at best, plain decoding 1.0",
        "small cost more than it saved: alone it makes 0.7 tokens/s at best, plain decoding 1.0",
    ]
