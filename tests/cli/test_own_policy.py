"""A policy of one's own on the command line: replayed, compared, decoded live, listed; one line for a wrong one."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from metasd.cli import main
from metasd.policies import plugins

SOURCE = """
from metasd.policies import Policy

class First(Policy):
    "Plays the first allowed arm after so many."
    def __init__(self, skip: int = 0):
        super().__init__()
        self.skip = skip
    def choose(self, context, allowed):
        return (allowed.cumsum(axis=1) > min(self.skip, 0)).argmax(axis=1)
    @classmethod
    def fit(cls, found):
        return {"drafters": [d.name for d in found.drafters]}
"""
TRACE = "synthetic:kind=iid,prompts=2,length=30,arms=3,seed=1"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my own.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return "my own.py:First"


def results(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_replay_and_compare_name_it_as_it_was_given(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    specs = [spec, f"{spec},skip=1"]
    given = ["--trace", TRACE, "--policy", specs[0], "--policy", specs[1]]
    played = results(capsys, "replay", *given)["results"]
    assert [r["policy"] for r in played if r["domain"] == "all"] == specs
    compared = results(capsys, "compare", *given, "--workers", "2")["results"]  # a relative file, read by workers too
    assert {r["policy"]: r["rounds"] for r in compared} == {r["policy"]: r["rounds"] for r in played}
    assert compared[1]["settings"]["skip"] == 1 or compared[0]["settings"]["skip"] == 1


def test_it_can_be_fitted(spec: str, tmp_path: Path) -> None:
    assert main(["fit", "--trace", TRACE, "--policy", spec, "--out", str(tmp_path / "prior.json")]) == 0
    assert len(json.loads((tmp_path / "prior.json").read_text())["drafters"]) == 3


@pytest.mark.parametrize("command", [["replay"], ["compare"], ["run", "--prompt", "x", "--drafter", "lookup"]])
@pytest.mark.parametrize(
    ("more", "said"),
    [(",skip=x", "'x' is not a int"), ("st", "its policies are First"), (",hop=1", "its keys are skip")],
)
def test_a_wrong_one_is_one_line(
    spec: str, command: list[str], more: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if command[0] == "run":
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
    trace = [] if command[0] == "run" else ["--trace", TRACE]
    assert main([*command, *trace, "--policy", spec + more]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_entry_points_are_listed_and_a_broken_one_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"offered": "metasd.policies.rules:Random", "broken": "nosuchthing:X"}
    offered = {n: EntryPoint(n, v, plugins.GROUP) for n, v in values.items()}
    monkeypatch.setattr(plugins, "entry_points", lambda: offered)
    listed = {row["name"]: row for row in results(capsys, "policies")["policies"]}
    assert listed["offered"]["settings"] == listed["random"]["settings"]
    assert "No module named 'nosuchthing'" in listed["broken"]["help"]


def test_it_decodes_live(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import tiny

    import metasd
    from metasd.policies import make
    from metasd.runtime.load import as_target

    made = tiny.llama(3, 2, torch.float32, vocab_size=tiny.LETTERS, max_position_embeddings=200)
    tiny.save(made, tiny.letters(), tmp_path / "target")
    given = ["--target", str(tmp_path / "target"), "--drafter", "lookup", "--max-new-tokens", "8", "--raw"]
    ran = results(capsys, "run", "--prompt", "hello hello", "--policy", spec, *given)
    assert {r["policy"] for r in ran["results"]} == {spec}
    own = make(spec)
    target = as_target(made, tiny.letters(), "tiny")
    out = metasd.generate(target, "hello hello", drafters=["lookup"], policy=own, max_new_tokens=8, raw=True)
    assert out.text == ran["texts"][0]["text"]
    assert not hasattr(own, "pool")  # a copy played
