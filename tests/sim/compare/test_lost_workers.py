"""Comparisons in other processes: on a Dask cluster, with workers that are killed, interrupted, or out of reach."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from metasd.cli import main
from metasd.core.errors import UsageError
from metasd.policies import Policy
from metasd.sim.compare import clusters
from metasd.sim.compare.job import play
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.outcome import Comparison
from metasd.sim.compare.run import compare
from metasd.traces import Trace, synth, synthetic


class Deadly(Policy):
    """Plays arm 0, and ends the process it is in, unless that is ``safe``; once only, if ``mark`` is a file's name."""

    def __init__(self, safe: int = 0, mark: str = "") -> None:
        super().__init__()
        self.safe, self.mark = safe, mark

    def choose(self, context: Any, allowed: Any) -> Any:
        if os.getpid() != self.safe and not (self.mark and Path(self.mark).exists()):
            if self.mark:
                Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return allowed.argmax(axis=1)


@pytest.fixture(autouse=True)
def by_value() -> Iterator[None]:
    """Workers get the policies of this file as they are: only pytest knows how to import it."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    yield
    cloudpickle.unregister_pickle_by_value(here)


def small() -> Trace:
    return synthetic("iid", prompts=4, length=30, arms=3, seed=1)


def told(outcome: Comparison) -> list[Any]:
    rows = document(outcome)["results"]
    return [{k: v for k, v in row.items() if k != "settings"} for row in rows]


@pytest.fixture
def once(tmp_path: Path) -> list[Any]:
    return [Deadly(os.getpid(), str(tmp_path / "killed")), "random", "metasd-ucb"]


def test_a_worker_that_is_killed_costs_its_cell_a_second_run(once: list[Any], tmp_path: Path) -> None:
    alone = compare([small()], once, 3, workers=1)
    assert not (tmp_path / "killed").exists()
    spread = compare([small()], once, 3, workers=2)
    assert (tmp_path / "killed").exists()
    assert told(spread) == told(alone)
    assert spread.skipped == []


def test_a_cell_that_kills_every_worker_is_reported_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = [Deadly(os.getpid()), "random"]
    found = compare([small()], policies, 2, workers=2, resume_dir=tmp_path / "kept")
    (skipped,) = found.skipped
    assert skipped["policy"].startswith("Deadly")
    assert "worker was lost" in skipped["reason"]
    assert told(found) == told(compare([small()], ["random"], 2, workers=1))
    anew: list[str] = []
    monkeypatch.setattr("metasd.sim.compare.workers.play", lambda job: anew.append(job.spec) or play(job))
    compare([small()], policies, 2, workers=1, resume_dir=tmp_path / "kept")
    assert [spec.partition(":")[0] for spec in anew] == ["Deadly"]


def test_a_dask_cluster_one_of_whose_two_workers_is_killed(once: list[Any], tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    synth("two-language", tmp_path / "folder", prompts=4, length=30, arms=3)
    traces = [small(), tmp_path / "folder"]  # one is sent to the workers, one opened by them
    alone = compare(traces, once, 3, workers=1)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as cluster:
        before = set(cluster.scheduler.workers)
        spread = compare(traces, once, 3, backend="dask", address=cluster.scheduler_address)
        assert len(before) == 2
        assert set(cluster.scheduler.workers) != before  # one was killed, and another started in its place
    assert (tmp_path / "killed").exists()
    assert told(spread) == told(alone)
    assert spread.skipped == []


SCRIPT = """
import signal, sys
from metasd.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests in the background
trace = "synthetic:kind=iid,prompts=200,length=400"
sys.exit(main(["compare", "--trace", trace, "--seeds", "40", "--workers", "2", *sys.argv[1:]]))
"""


def children(of: int) -> set[int]:
    """Processes of the session ``of``, itself not counted."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == of and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found - {of}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are read from /proc")
@pytest.mark.parametrize(("backend", "after"), [("loky", 0.0), ("loky", 1.0), ("dask", 1.0)])
def test_an_interrupt_leaves_no_process(tmp_path: Path, backend: str, after: float) -> None:
    if backend == "dask":
        pytest.importorskip("distributed", reason="distributed is not installed")
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(clusters.__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    run = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), "--backend", backend],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while len(children(run.pid)) < 3 and time.monotonic() < deadline:  # two workers and a tracker of theirs
        time.sleep(0.1)
    time.sleep(after)
    os.killpg(run.pid, signal.SIGINT)
    try:
        _, said = run.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    assert run.returncode == 130, said
    assert "metasd: interrupted" in said
    assert backend == "dask" or "Traceback" not in said  # Dask's nannies tell of processes they were about to start
    while children(run.pid) and time.monotonic() < deadline + 30:
        time.sleep(0.1)
    assert children(run.pid) == set()


def test_what_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with pytest.raises(UsageError, match="backend 'slurm' is unknown; use loky, dask, ray"):
        compare([small()], ["random"], backend="slurm")
    asked = ["compare", "--trace", "synthetic:kind=iid,prompts=2,length=20", "--policy", "random", "--seeds", "1"]
    assert main([*asked, "--address", "tcp://127.0.0.1:1"]) == 2
    assert "needs a cluster" in capsys.readouterr().err
    for backend, package in (("dask", "distributed"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        assert main([*asked, "--backend", backend]) == 2
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1
        assert f"pip install 'metasd[{backend}]'" in said


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="distributed is not installed")
    monkeypatch.setattr(clusters, "PATIENCE", 1)
    with pytest.raises(UsageError, match="no Dask scheduler answers at tcp:"):
        compare([small()], ["random"], backend="dask", address="tcp://127.0.0.1:1")
