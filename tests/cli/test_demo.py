"""What the demo decides before it decodes live: the draft length at which drafters are held against the policy."""

from __future__ import annotations

import pytest

from metasd.cli import demo
from metasd.sim.replay.run import replay
from metasd.traces import Trace
from metasd.traces.find import find_trace
from metasd.traces.shipped import REFERENCE, shipped


def fastest(trace: Trace, spec: str, length: int) -> float:
    return 1 / float(replay(trace, spec, draft_length=length).ledger.seconds_of().sum())


@pytest.mark.parametrize("spec", ["planner", "metasd-ucb"])
def test_plans_are_held_against_drafters_at_their_best_length(
    spec: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "RECORDED_LENGTH", 4)
    trace = find_trace(REFERENCE)
    chosen = demo._draft_length(shipped(REFERENCE), spec)
    names = [d.name for d in trace.drafters]
    if spec == "planner":
        speeds = [max(fastest(trace, f"fixed:arm={name}@{n}", n) for name in names) for n in range(1, 5)]
    else:
        speeds = [fastest(trace, spec, n) for n in range(1, 5)]
    assert speeds[chosen - 1] == max(speeds)
    assert len(set(speeds)) == 4
    told = "the best single drafter" if spec == "planner" else spec
    assert f"replay promises to {told}, by draft length: 1: " in capsys.readouterr().out
