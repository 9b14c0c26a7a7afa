"""docs/add-a-policy.md and docs/python-research.md: their code runs as it stands, and the example does what it says."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from metasd.core.errors import UsageError
from metasd.policies import make
from metasd.sim.replay.run import replay
from metasd.traces import synthetic

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


def test_the_page_for_researchers_runs(capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, object] = {"__name__": "page"}
    for block in blocks("python-research.md"):
        exec(compile(block, "python-research.md", "exec"), space)  # the page's own code
    out = capsys.readouterr().out
    assert re.search(r"^\d+ prompts in \[", out)
    named = {line.split()[0] for line in out.splitlines() if line.endswith("]")}
    assert {"Optimist", "Optimist:bonus=1.0", "metasd-ucb", "random"} <= named


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "softmax.py").write_text(blocks("add-a-policy.md")[0])
    return tmp_path / "softmax.py"


@pytest.mark.parametrize("temperature", [1e-9, 0.001, 0.1, 100])
def test_the_example_policy_does_not_overflow(file: Path, temperature: float) -> None:
    trace = synthetic("iid", prompts=3, length=60, arms=3, seed=2)
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        played = replay(trace, f"{file}:Softmax,temperature={temperature}")
    assert played.ledger.totals().emitted == 180


def test_the_example_policy_is_greedy_when_cold_and_even_when_hot(file: Path) -> None:
    trace = synthetic("iid", prompts=3, length=200, arms=3, seed=2)
    most = {}
    for temperature in (0.001, 100):
        played = replay(trace, f"{file}:Softmax,temperature={temperature}", seeds=2)
        arms = played.ledger.totals().arms
        most[temperature] = max(arms.values()) / sum(arms.values())
    assert most[0.001] > 0.5 > most[100]


def test_the_example_policy_refuses_no_temperature(file: Path) -> None:
    with pytest.raises(UsageError, match="temperature 0 is out of range"):
        make(f"{file}:Softmax,temperature=0")
