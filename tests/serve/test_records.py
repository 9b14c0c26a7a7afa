"""What a server records replays to the rounds that it served."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from engine import Engine, Served
from served import near_end, replays, watch

from metasd.core.errors import FileError, UsageError
from metasd.serve.adapter import Adapter
from metasd.serve.config import Config
from metasd.sim.replay.run import replay
from metasd.traces import open_trace
from metasd.traces.validate import validate
from metasd.traces.writer import TraceWriter

POOL = ("lookup", "suffix", "table")


def served(folder, policy="ucb1", rows=4, preempt=True, **settings):
    """A server's trace, and by request its rounds (position, arm, drafted, accepted, emitted)."""
    made = Adapter(
        Config(pool=POOL, policy=policy, records=str(folder), goodput=False, **settings), most=4, max_length=200
    )
    rounds, order = watch(made)
    engine = Engine(made.propose, rows=rows, seed=4)
    engine.waiting += [Served([a, b, a + b], 30) for a in range(3) for b in range(3)]
    while engine.running or engine.waiting:
        engine.step()
        if preempt and engine.random.random() < 0.05:
            engine.preempt()
    made.close()
    return made, open_trace(folder), [rounds[number] for number in order]


def test_the_trace_replays_to_the_rounds_that_were_served(tmp_path):
    made, trace, rounds = served(tmp_path / "t")
    assert len(trace) == made.counters.requests == 9
    assert validate(tmp_path / "t")[0] == "schema 1, complete"
    assert replays(trace, made.pool, rounds) > 50


@pytest.mark.parametrize("policy", ["default", "ucb1"])
def test_the_policy_itself_replays_to_its_own_rounds(tmp_path, policy):
    _, trace, rounds = served(tmp_path / "t", policy, rows=1, preempt=False, reset="prompt")
    again = replay(trace, policy, reset="prompt", keep_rounds=True, lanes=1)
    got: dict[int, list[tuple[int, int, int]]] = {}
    for played in again.rounds:
        for row in np.stack((played.prompt, played.position, played.arm, played.emitted), 1).tolist():
            got.setdefault(row[0], []).append(tuple(row[1:]))
    for prompt, wanted in enumerate(rounds):
        told = [(r[0], r[1], r[4]) for r in wanted if not near_end(trace, prompt, r[0] + 1)]
        assert got[prompt][: len(told)] == told
        assert len(told) > 5


def test_what_is_kept_of_prompts(tmp_path):
    ids = {}
    for how in ("none", "hash", "keep"):
        _, trace, _ = served(tmp_path / how, record_prompts=how)
        ids[how] = trace.ids
        first = [[a, b, a + b] for a in range(3) for b in range(3)]
        assert trace.prompt_lengths.tolist() == [4] * 9
        if how == "keep":
            kept = trace.prompt_tokens.reshape(9, 4)[:, :3].tolist()
            assert sorted(kept) == sorted(first)
            full = trace.prompt_tokens.reshape(9, 4).tolist()
        else:
            assert trace.prompt_tokens is None
    digest = hashlib.sha256(np.array(full[0], "<i4").tobytes()).hexdigest()[:16]
    assert ids["hash"][0] == f"00000000-{digest}"
    assert ids["none"][0] == "00000000"


def test_a_server_goes_on_with_its_records_and_leaves_others_alone(tmp_path):
    served(tmp_path / "t")
    _, trace, _ = served(tmp_path / "t")
    assert len(trace) == 18
    with pytest.raises(UsageError, match="another recording"):
        served(tmp_path / "t", record_prompts="keep")
    with pytest.raises(UsageError, match="record_prompts is 'all'"):
        Config.read({"record_prompts": "all"})


def test_a_disk_that_refuses_stops_recording_and_not_the_server(tmp_path, monkeypatch):
    def full(self):
        raise FileError("no space left")

    monkeypatch.setattr(TraceWriter, "flush", full)
    made = Adapter(Config(pool=POOL, records=str(tmp_path / "t"), goodput=False), most=4, max_length=200)
    engine = Engine(made.propose, rows=2, seed=4)
    engine.waiting += [Served([a, b, a + b], 20) for a in range(5) for b in range(5)]
    while engine.running or engine.waiting:
        engine.step()
    assert len(engine.done) == 25
    assert "no space" in str(made.failed)
    made.close()
