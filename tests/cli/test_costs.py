"""``--costs``: measured at the first run, read at the second, and what a checked run says of a replay's clock."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch

from metasd.cli import main

Said = pytest.CaptureFixture[str]
LIMIT = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target, two prompts and a trace of them."""
    folder = tmp_path_factory.mktemp("costs")
    tiny.save(tiny.llama(7, 2, torch.float32, eos_token_id=None), tiny.tokenizer(), folder / "target")
    lines = [{"id": f"p{i}", "prompt": f"w{3 + i} w5 w3 w5 w3"} for i in range(2)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["record", *given(folder), "--draft-length", "4", "--out", str(folder / "trace")]) == 0
    return folder


def given(home: Path) -> list[str]:
    of = ["--target", str(home / "target"), "--prompts", str(home / "prompts.jsonl"), "--drafter", "lookup"]
    return [*of, "--max-new-tokens", str(LIMIT)]


def document(capsys: Said, home: Path, *more: str) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main(["run", *given(home), *more, "--json"]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_measured_once_then_read(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, err = document(capsys, home)
    assert "costs: measured now and kept (target-" in err
    assert first["config"]["policy"]["pursues"] == "time"
    assert first["costs"]["corrected"]["verify"] > 0
    again, err = document(capsys, home)
    assert f"costs: measured {again['costs']['date']} on this machine" in err
    assert again["costs"]["date"] == first["costs"]["date"]
    assert again["costs"]["machine"]["threads"] == torch.get_num_threads()
    assert main(["cache", "list", "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["costs"]
    kept = str(tmp_path / "metasd" / "costs" / file["name"])
    given_, err = document(capsys, home, "--costs", kept)
    assert (given_["costs"]["date"], "costs:" in err) == (first["costs"]["date"], False)
    none, err = document(capsys, home, "--costs", "none")
    assert (none["costs"], none["config"]["policy"]["pursues"], "costs:" in err) == (None, "rounds", False)
    fixed, err = document(capsys, home, "--policy", "fixed:arm=lookup")
    assert (fixed["costs"], "costs:" in err) == (None, False)
    assert main(["cache", "clear", file["name"]]) == 0
    assert not Path(kept).exists()


@pytest.mark.parametrize("content", [None, "not json", "{}", '{"schema": 1, "drafters": ["lookup"], "widths": [1]}'])
def test_a_file_that_holds_no_costs_is_one_line(home: Path, tmp_path: Path, capsys: Said, content: str | None) -> None:
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_text(content)
    capsys.readouterr()
    assert main(["run", *given(home), "--costs", str(path)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert f"--costs {path}" in said.err


def test_a_checked_run_goes_by_the_traces_costs_and_shows_how_far_off_they_are(home: Path, capsys: Said) -> None:
    trace = ["--trace", str(home / "trace"), "--baseline", "--repeats", "1"]
    got, err = document(capsys, home, *trace)
    assert "costs: those of trace trace, measured on " in err
    assert got["fidelity"]["identical"] is True
    assert got["config"]["policy"]["pursues"] == "time"
    assert got["costs"]["corrected"] is None
    by_policy = {f["policy"]: f for f in got["forecasts"]}
    assert list(by_policy) == ["fixed:arm=plain", "fixed:arm=lookup@4", "default"]
    for row in got["results"]:
        found = by_policy[row["policy"]]
        assert found["live"] == row["tokens_per_second"]
        assert found["error"] == found["predicted"] / found["live"] - 1
    page = home / "run.html"
    assert main(["run", *given(home), *trace, "--quiet", "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "rounds run, 0 of them differ from the replay; 0 texts differ" in page.read_text(encoding="utf-8")
    assert re.search(
        r"policy +predicted, tokens/s +live, tokens/s +error\nfixed:arm=plain +[\d,.]+ +[\d,.]+ +[+-]", out
    )
    none, _ = document(capsys, home, *trace, "--costs", "none")
    assert none["fidelity"]["identical"] is True
    assert none["config"]["policy"]["pursues"] == "rounds"
    assert [f["predicted"] for f in none["forecasts"]] == [None] * 3
