"""The life of a server: what it says of itself, and what a kill leaves behind."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from metasd.serve import metrics, state
from metasd.serve.adapter import Adapter
from metasd.serve.config import Config
from metasd.serve.vllm import MetaSDProposer

SERVE = """
import sys
import numpy as np
from metasd.serve.adapter import Adapter
from metasd.serve.config import Config
made = Adapter(Config(policy="ucb1", state=sys.argv[1], state_every=1e-9), most=4, max_length=100)
text = np.ones((1, 100), np.int32)
made.propose([[1]], np.array([5], np.int32), text)
made.save()
print("saved", flush=True)
for n in range(6, 10**9):
    made.propose([[1]], np.array([6 + n % 80], np.int32), text)
    made.save_if_due()
"""


def test_a_killed_server_leaves_a_state_that_can_be_read(tmp_path: Path) -> None:
    file, draw = tmp_path / "state", random.Random(3)
    config = Config(policy="ucb1", state=str(file))
    for _ in range(3):
        server = subprocess.Popen([sys.executable, "-c", SERVE, str(file)], stdout=subprocess.PIPE)
        assert server.stdout is not None
        with server.stdout:
            assert server.stdout.readline() == b"saved\n"
            time.sleep(draw.uniform(0.0, 0.1))
            server.kill()
        server.wait()
        made = Adapter(config, most=4, max_length=100)
        assert made.lanes.taught.all()
        state.read(file, made.policy, "ucb1", made.pool)


class Counter:
    """prometheus_client's, as far as it is used."""

    made: dict[str, Counter]

    def __init__(self, name: str, text: str, labels: list[str] | None = None) -> None:
        self.value, self.children, self.labelled = 0.0, dict[str, Counter](), bool(labels)
        Counter.made[name] = self

    def inc(self, by: float) -> None:
        assert by >= 0
        assert not self.labelled
        self.value += by

    def labels(self, label: str) -> Counter:
        if label not in self.children:
            child = object.__new__(Counter)
            child.value, child.children, child.labelled = 0.0, {}, False
            self.children[label] = child
        return self.children[label]


def proposer(**settings: object) -> MetaSDProposer:
    def some(**values: object) -> types.SimpleNamespace:
        return types.SimpleNamespace(**values)

    return MetaSDProposer(
        some(
            additional_config={"metasd": {"policy": "fixed:arm=lookup@4", "goodput": False, **settings}},
            speculative_config=some(num_speculative_tokens=4),
            model_config=some(max_model_len=100, model="tiny"),
        )
    )


def test_metrics_are_the_counters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Counter.made = {}
    monkeypatch.setitem(sys.modules, "prometheus_client", types.SimpleNamespace(Counter=Counter))
    metrics._made.cache_clear()
    try:
        made = proposer(log_every=1e-9, stats=str(tmp_path / "stats.json"))
        text = np.ones((1, 100), np.int32)
        for length in range(5, 60, 5):
            made.propose([[1] * 5 if length > 5 else [1]], np.array([length], np.int32), text)
        made.shutdown()
        made.shutdown()
        counted = made.adapter.counters.to_json()
    finally:
        metrics._made.cache_clear()
    assert counted["accepted"] > 0
    for name in ("requests", "rounds", "drafts", "drafted", "accepted", "emitted", "request_steps"):
        assert Counter.made[f"metasd_{name}"].value == counted[name]
    arms = {name: child.value for name, child in Counter.made["metasd_arm_rounds"].children.items()}
    assert arms == counted["arms"]
    assert [c.value for c in Counter.made["metasd_accepted_at"].children.values()] == counted["accepted_by_position"]


def test_without_the_client_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    metrics._made.cache_clear()
    try:
        assert not metrics.Metrics().active
        proposer().shutdown()
    finally:
        metrics._made.cache_clear()
