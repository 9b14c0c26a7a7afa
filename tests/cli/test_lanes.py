"""``metasd run --lanes``: the same answers, told in order and beside their replay; what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch

from metasd.cli import main

PROMPTS = ("w2 w3 w2 w3 w5", "w9 w4", "w7 w7 w8 w7 w7", "w5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lanes")
    tiny.save(tiny.llama(7, 3, torch.float32, eos_token_id=12), tiny.tokenizer(), made / "target")
    lines = [json.dumps({"id": f"p{i}", "prompt": text}) for i, text in enumerate(PROMPTS)]
    (made / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    return made


def arguments(command: str, folder: Path, *more: str, drafter: str = "lookup") -> list[str]:
    given = ["--target", str(folder / "target"), "--prompts", str(folder / "prompts.jsonl"), "--drafter", drafter]
    return [command, *given, "--max-new-tokens", "10", *more]


def document(capsys: pytest.CaptureFixture[str], given: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*given, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_lanes_change_no_answer_and_are_recorded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = folder / "trace"
    assert main(arguments("record", folder, "--out", str(trace))) == 0
    one = document(capsys, arguments("run", folder, "--policy", "metasd-ucb", "--reset", "never"))
    more = ["--policy", "metasd-ucb", "--reset", "never", "--trace", str(trace), "--baseline", "--repeats", "1"]
    three = document(capsys, arguments("run", folder, "--lanes", "3", *more))
    assert (one["config"]["lanes"], three["config"]["lanes"]) == (1, 3)
    for told in (one, three):
        assert [t["id"] for t in told["texts"]] == [f"p{i}" for i in range(len(PROMPTS))]
    assert [t["token_ids"] for t in three["texts"]] == [t["token_ids"] for t in one["texts"]]
    assert three["fidelity"]["identical"]
    assert three["fidelity"]["rounds"] > 0
    assert three["partings"] == []
    by_policy = {row["policy"]: row for row in three["results"]}
    assert {name[:16] for name in by_policy} == {"fixed:arm=plain", "fixed:arm=lookup", "metasd-ucb"}
    assert all(row["tokens_per_second"] > 0 for row in by_policy.values())
    assert main(arguments("run", folder, "--lanes", "3")) == 0
    said = capsys.readouterr().out
    assert [said.index(f"p{i} ") for i in range(4)] == sorted(said.index(f"p{i} ") for i in range(4))
    few, many = (document(capsys, arguments("run", folder, "--lanes", n, "--dry-run"))["memory"] for n in "14")
    caches = [sum(p["bytes"] for p in told["parts"] if p["what"] == "cache") for told in (few, many)]
    assert caches[1] == 4 * caches[0] > 0


@pytest.mark.parametrize(
    ("more", "drafter", "said"),
    [
        (["--policy", "planner"], "lookup", "--policy planner plans for one text at a time, not for --lanes 2"),
        (["--trace", "trace"], "table", "drafter table remembers the texts before, which were recorded one after"),
    ],
)
def test_what_does_not_go_with_lanes_is_named(
    more: list[str], drafter: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if more[0] == "--trace":
        more = ["--trace", str(folder / "growing")]
        assert main(arguments("record", folder, "--out", more[1], drafter=drafter)) == 0
    capsys.readouterr()
    assert main(arguments("run", folder, "--lanes", "2", *more, drafter=drafter)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("metasd: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "--lanes 1" in lines[0]
