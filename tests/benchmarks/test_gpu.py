"""``benchmarks/gpu.py``: its parts on a tiny model, its table and JSON, and that a part that breaks stops no other."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"

FAKES = """
import os, time

def fine(setting, report):
    report.found["seen"] = report.time_left()
    report.say("half-way")

def broken(setting, report):
    report.found["rows"] = [1]
    raise ValueError("the device is on fire\\nsecond line")

def dies(setting, report):
    report.found["rows"] = [1, 2]
    report.say("about to die")
    os._exit(3)

def hangs(setting, report):
    report.say("asleep")
    time.sleep(60)
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))  # it adds its own folder
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fake(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes parts of the functions of ``FAKES``."""
    (tmp_path / "fake_parts.py").write_text(FAKES)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda *names, seconds=30.0: [gpu.Part(n, f"fake_parts:{n.rstrip('2')}", seconds) for n in names]


class Pipe:
    """Takes what a worker sends, in this process."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []

    def recv(self) -> float:
        return 1000.0

    def send(self, message: Any) -> None:
        self.sent.append(json.loads(json.dumps(message)))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every part on the tiny model, run here: a process of its own would spend its time on importing torch."""
    sys.path.insert(0, str(SCRIPT.parent))
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    try:
        from gpu_parts.plan import PARTS, Setting
        from gpu_parts.worker import work

        pipe = Pipe()
        work(pipe, Setting("random", "cpu", "bfloat16", quick=True, draft_length=4), PARTS)
    finally:
        sys.path.remove(str(SCRIPT.parent))
        patch.undo()
    ended = [message for message in pipe.sent if message[0] != "step"]
    assert [kind for kind, *_ in ended] == ["done"] * len(PARTS), ended[-1]
    return {
        part.name: {"ok": True, "error": None, "seconds": 1.0, "limit": part.seconds, "found": found}
        for part, (_, _, found) in zip(PARTS, ended, strict=True)
    }


def test_every_part_measures_what_it_says(records: dict[str, Any]) -> None:
    parity, replay = records["parity"]["found"], records["replay"]["found"]
    exact = [row for row in parity["rows"] if row["dtype"] == "float32"]
    assert [row["contender"] for row in exact] == [
        "fixed:arm=lookup@4",
        "fixed:arm=table@4",
        "fixed:arm=skip@4",
        "default",
        "planner",
        "transformers generate",
    ]
    assert {(row["same_text"], row["texts"], row["tokens"]) for row in exact} == {(2, 2, 16)}
    assert {row["dtype"] for row in parity["rows"]} == {"float32", "bfloat16", "float16"}
    assert {row["dtype"] for row in replay["rows"]} == {"float32", "bfloat16"}
    assert {row["draft_length"] for row in replay["rows"]} == {4, 3}
    assert [row["differing"] for row in replay["rows"] if row["dtype"] == "float32"] == [0] * 6
    assert all(1 < row["reading_ratio"] < row["ratio"] for row in replay["recordings"])
    speed = {row["contender"]: row for row in records["live"]["found"]["rows"]}
    assert [*speed][:6] == ["generate", "prompt-lookup@3", "prompt-lookup@10", "plain", "plain again", "lookup@4"]
    assert [*speed][-3:] == ["lookup-first", "default", "planner"]
    assert speed["plain"]["times_plain"] == speed["plain"]["tokens_per_round"] == 1
    assert {row["repeats"] for row in speed.values()} == {2}
    assert records["live"]["found"]["noise"]["repeats"] == 2
    assert "failed" not in records["live"]["found"]
    passes = records["passes"]["found"]["rows"]
    widths = (1, 2, 4, 8, 9, 16, 17, 33, 65)
    for path in ("eager", "graphs, called"):
        mine = [r for r in passes if r["path"] == path]
        assert [(r["context"], r["width"]) for r in mine if (r["role"], r["shape"]) == ("large", "chain")] == [
            (context, width) for context in (32, 128) for width in widths
        ]
        assert [r["width"] for r in mine if (r["role"], r["shape"], r["context"]) == ("target", "tree", 32)] == [
            *widths[2:]
        ]
    assert {r["path"] for r in passes} == {"eager", "graphs, called"}
    made = {c["role"]: c["passes"] for c in records["passes"]["found"]["captured"]}
    assert made == {"target": 18, "large": 18}
    (left,) = records["passes"]["found"]["left_out"]
    assert (left["role"], left["path"]) == ("target", "packed")
    assert "in float32, and the model is in bfloat16" in left["why"]
    assert all(0 < row["wall_least"] <= row["wall_seconds"] for row in passes)
    held = [size for record in records.values() for size in record["found"].get("memory", {}).values()]
    assert held
    assert all(size["process_bytes"] > 1e6 for size in held)


def test_the_table_has_every_part_and_a_hundred_columns(
    gpu: ModuleType, records: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"ok": False, "error": "ValueError: no", "seconds": 2.0, "limit": 5.0, "found": {"cut_short": True}}
    setting = gpu.Setting("random", "cpu", "bfloat16", quick=True)
    made = gpu.document(setting, records | {"extra": failed}, 12.0)
    assert set(made) == {"schema", "command", "settings", "machine", "seconds", "ok", "parts"}
    assert not made["ok"]
    assert made["machine"]["versions"]["torch"]
    gpu.show(json.loads(json.dumps(made, allow_nan=False)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert {line.split()[0] for line in lines if line[:1] != " "} >= {"parity", "replay", "live", "passes", "extra"}
    assert any("FAILED" in line and "ValueError: no" in line for line in lines)
    assert any("2 of 2 texts the same" in line for line in lines)


def test_a_cuda_device_is_timed_and_weighed_by_its_own_counters(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from far import FAR, FarDevice, far
    from gpu_parts import passes, setting
    from gpu_parts.worker import Report

    from metasd.runtime.engine import capture

    said: list[str] = []
    for name, result in {
        "init": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 3_000_000,
        "max_memory_reserved": 4_000_000,
    }.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda *a, name=name, result=result: said.append(name) or result)

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            said.append("record")

        def synchronize(self) -> None:
            said.append("synchronize")

        def elapsed_time(self, last: Any) -> float:
            assert said[-1] == "synchronize"  # the last event must have happened
            return 7.0

    monkeypatch.setattr("torch.cuda.Event", Event)
    monkeypatch.setattr("torch.cuda.device", lambda device: contextlib.nullcontext(device == FAR))

    def there(kind: Any, device: str, dtype: str) -> Any:
        target = setting.random_target(setting.TINY, "cpu", dtype)
        far(target.model)
        return target

    monkeypatch.setattr(capture, "CudaGraphs", lambda device: capture.Called())
    monkeypatch.setattr(passes, "random_target", there)
    monkeypatch.setattr(passes, "open_target", lambda s, dtype: there(None, s.device, dtype))
    report = Report(Pipe(), 1000.0)
    with FarDevice() as device:
        passes.measure(gpu.Setting("random", "cuda", "float32", quick=True), report)
    assert {row["device_seconds"] for row in report.found["rows"]} == {0.007}
    assert {(row["role"], row["path"]) for row in report.found["rows"]} == {
        (role, path) for role in ("target", "large") for path in ("eager", "graphs")
    }
    assert device.waits >= said.count("synchronize") == 3 * len(report.found["rows"])  # three passes a row
    assert report.found["memory"]["large"] == {"allocated_bytes": 3_000_000, "reserved_bytes": 4_000_000}
    assert said[:3] == ["init", "empty_cache", "reset_peak_memory_stats"]


def test_a_part_that_breaks_dies_or_hangs_is_reported_and_the_others_go_on(
    gpu: ModuleType, fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.plan, "GRACE_SECONDS", 0.5)
    parts = fake("fine", "broken", "dies") + fake("hangs", seconds=1.0) + fake("fine2")
    said: list[str] = []
    found = gpu.measure(gpu.Setting("random", "cpu", "float32", quick=True), parts, said.append)
    assert [(name, record["ok"]) for name, record in found.items()] == [
        ("fine", True),
        ("broken", False),
        ("dies", False),
        ("hangs", False),
        ("fine2", True),
    ]
    assert found["fine2"]["found"] == {"seen": True}
    assert found["broken"]["error"] == "ValueError: the device is on fire"
    assert found["broken"]["found"]["rows"] == [1]
    assert any("fake_parts" in line for line in found["broken"]["found"]["traceback"])
    assert found["dies"]["error"] == "its process died with exit code 3"
    assert found["dies"]["found"] == {"rows": [1, 2]}
    assert found["hangs"]["error"] == "not done after 2 s, ended"
    assert "hangs: asleep" in said


def test_the_command_exits_with_1_after_a_failed_part_and_writes_the_json(
    gpu: ModuleType, fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (machine, *others) = fake("fine", "broken", "fine2")
    monkeypatch.setattr(gpu, "PARTS", (gpu.Part("machine", machine.where, 30.0), *others))
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--out", str(tmp_path / "new" / "out"), "--device", "cpu", "--quick"])
    assert ended.value.code == 1
    made = json.loads((tmp_path / "new" / "out" / "gpu.json").read_text())
    assert {name: part["ok"] for name, part in made["parts"].items()} == {
        "machine": True,
        "broken": False,
        "fine2": True,
    }
    assert made["settings"]["target"] == "random"


def test_without_the_device_nothing_is_measured(
    gpu: ModuleType,
    fake: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (machine, other) = fake("broken", "fine")
    monkeypatch.setattr(gpu, "PARTS", (gpu.Part("machine", machine.where, 30.0), other))
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--out", str(tmp_path), "--device", "cuda"])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == "Error: ValueError: the device is on fire"
    assert not (tmp_path / "gpu.json").exists()
