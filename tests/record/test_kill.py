"""A recording killed with SIGKILL, at five different moments, and resumed is the recording that was never killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from metasd.traces import format as fmt
from metasd.traces import open_trace

PROGRAM = Path(__file__).with_name("conftest.py")
FIELDS = (
    *("offsets", "ended", "tokens", "proposed", "accepted", "overlap", "confidence", "draft_tokens"),
    *("signals", "margin", "prompt_tokens", "prompt_lengths"),
)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


class Children:
    """Recordings in processes of their own."""

    def __init__(self):
        pipe = subprocess.PIPE
        self.program = subprocess.Popen([sys.executable, PROGRAM], env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True)

    def start(self, out, delay):
        self.program.stdin.write(json.dumps({"out": str(out), "delay": delay}) + "\n")
        self.program.stdin.flush()
        return int(self.program.stdout.readline())

    def ended(self):
        return int(self.program.stdout.readline())

    def close(self):
        self.program.stdin.close()
        assert self.program.wait(60) == 0
        self.program.stdout.close()


@pytest.fixture
def children():
    made = Children()
    yield made
    made.close()


def names(out, pattern):
    return {f.name for f in out.rglob(pattern)} if out.exists() else set()


# What is on disk at the moment of the kill. Commits are slowed down, so each moment can be met.
MOMENTS = {
    "nothing yet": lambda out: out.exists(),
    "first manifest": lambda out: (out / fmt.MANIFEST).exists(),
    "a shard in flight": lambda out: bool(names(out, ".*safetensors*")) and bool(names(out, "0*.safetensors")),
    "a shard without its line": lambda out: len(names(out, "0*.safetensors")) > len(fmt.read_journal(out)[0]) > 1,
    "between two prompts": lambda out: len(fmt.read_journal(out)[0]) == 5,
}


def test_killed_at_five_moments_and_resumed(world, children, tmp_path):
    world().record(tmp_path / "whole")
    out = tmp_path / "killed"
    for name, reached in MOMENTS.items():
        child, deadline = children.start(out, 0.03), time.monotonic() + 60
        while not reached(out):
            assert time.monotonic() < deadline, name
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        assert children.ended() == -signal.SIGKILL, f"finished before it could be killed at {name!r}"
    committed = len(fmt.read_journal(out)[0])
    assert 5 <= committed < 9
    assert len(open_trace(out)) == committed  # a killed recording opens with what was committed
    children.start(out, 0.0)
    assert children.ended() == 0
    whole, killed = open_trace(tmp_path / "whole"), open_trace(out)
    assert list(whole.ids) == list(killed.ids)
    assert whole.accept is killed.accept is None
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(whole, field), getattr(killed, field), err_msg=field)
