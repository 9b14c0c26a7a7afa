"""What a run says of its texts: equal to plain decoding's or not, of this trace or another, with which settings."""

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
from metasd.cli.lossless import warn
from metasd.runtime.load import as_target
from metasd.runtime.parting import Parting, first_difference, partings

LIMIT = 16
SHIPPED = {"repetition_penalty": 1.3, "suppress_tokens": [10]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    target = tiny.llama(7, 3, torch.float32)
    tiny.save(target, tiny.tokenizer(), folder / "plain")
    target.generation_config.update(**SHIPPED)
    tiny.save(target, tiny.tokenizer(), folder / "target")
    target.generation_config.num_beams = 4
    tiny.save(target, tiny.tokenizer(), folder / "beams")
    tiny.save(tiny.llama(9, 3, torch.float32), tiny.tokenizer(), folder / "other")
    write(folder / "prompts.jsonl", "w2 w3 w2 w3 w5", "w9 w4 w9 w4")
    write(folder / "changed.jsonl", "w2 w3 w2 w3 w5", "w9 w4 w9 w6")
    return folder


def write(path: Path, *prompts: str) -> None:
    path.write_text("".join(json.dumps({"id": f"p{i}", "prompt": text}) + "\n" for i, text in enumerate(prompts)))


def arguments(command: str, models: Path, *more: str, target: str = "target", prompts: str = "prompts") -> list[str]:
    given = ["--target", str(models / target), "--prompts", str(models / f"{prompts}.jsonl"), "--drafter", "lookup"]
    return [command, *given, "--max-new-tokens", str(LIMIT), *more]


@pytest.fixture(scope="module")
def trace(models: Path) -> Path:
    assert main(arguments("record", models, "--out", str(models / "trace"))) == 0
    return models / "trace"


def document(capsys: pytest.CaptureFixture[str], given: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*given, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], given: list[str], *said: str) -> None:
    capsys.readouterr()
    assert main(given) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("metasd: ")]
    assert len(lines) == 1
    for text in said:
        assert text in lines[0], lines[0]


def test_settings_are_applied_recorded_and_ignored_on_request(
    models: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    got = document(capsys, arguments("run", models, "--policy", "random", "--trace", str(trace)))
    assert got["config"]["generation"] == SHIPPED
    assert got["config"]["ignore_generation_config"] is False
    assert got["fidelity"]["identical"] is True
    assert got["fidelity"]["texts_differing"] == 0
    ignored = document(capsys, arguments("run", models, "--policy", "random", "--ignore-generation-config"))
    plain = document(capsys, arguments("run", models, "--policy", "random", target="plain"))
    assert (ignored["config"]["generation"], ignored["config"]["ignore_generation_config"]) == ({}, True)
    said = [[text["token_ids"] for text in one["texts"]] for one in (ignored, plain, got)]
    assert said[0] == said[1] != said[2]
    config = json.loads((trace / "manifest.json").read_text())["config"]
    assert (config["generation"], config["ignore_generation_config"]) == (SHIPPED, False)


def test_a_trace_of_something_else_is_refused(models: Path, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--policy", "random", "--trace", str(trace)]
    refused(capsys, arguments("run", models, *given, prompts="changed"), "'p1'", "another text")
    refused(capsys, arguments("run", models, *given, target="other"), "target", "revision")
    refused(capsys, arguments("run", models, *given, "--dtype", "bfloat16"), "dtype float32", "dtype bfloat16")
    refused(capsys, arguments("run", models, *given, "--ignore-generation-config"), "repetition_penalty", "record anew")


@pytest.mark.parametrize("command", ["run", "record", "distill"])
def test_what_cannot_be_honoured_is_refused(
    command: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"run": [], "record": ["--out", str(tmp_path / "t")], "distill": ["--out", str(tmp_path / "d")]}[command]
    if command == "distill":
        line = ["distill", "--target", str(models / "beams"), "--prompts", str(models / "prompts.jsonl"), *given]
        line += ["--max-new-tokens", "8"]
    else:
        line = arguments(command, models, *given, target="beams")
    refused(capsys, line, "num_beams=4", "--ignore-generation-config")
    assert main([*line, "--ignore-generation-config"]) == 0


def test_equal_texts_are_counted(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = document(capsys, arguments("run", models, "--policy", "random", "--baseline"))
    assert {(r["same_text"], r["prompts"]) for r in got["results"] if r["domain"] == "all"} == {(2, 2)}
    assert got["partings"] == []
    assert main(arguments("run", models, "--policy", "random", "--baseline")) == 0
    shown = capsys.readouterr()
    same, text = (line for line in shown.out.splitlines() if re.search(r"\bsame\b|\btext\b", line))
    assert same.index("same") == text.index("text")
    assert "2 of 2" in shown.out
    assert "differ" not in shown.err
    alone = document(capsys, arguments("run", models, "--policy", "random"))
    assert (alone["partings"], alone["results"][-1]["same_text"]) == (None, None)
    sampled = document(capsys, arguments("run", models, "--policy", "random", "--baseline", "--temperature", "1"))
    assert (sampled["partings"], sampled["results"][-1]["same_text"]) == (None, None)


def test_texts_that_differ_are_named(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that answers otherwise when it reads several tokens at once, as rounding may make it."""
    from metasd.runtime.engine.cache import CachedModel

    feed = CachedModel.feed
    monkeypatch.setattr(CachedModel, "feed", lambda self, ids, rows: feed(self, ids, rows) * (1 if rows == 1 else -1))
    given = arguments("run", models, "--policy", "fixed:arm=lookup@3", "--baseline")
    got = document(capsys, given)
    rows = {r["policy"]: r["same_text"] for r in got["results"] if r["domain"] == "all"}
    assert rows["fixed:arm=plain"] == 2
    assert rows["fixed:arm=lookup@3"] < 2
    found = [p for p in got["partings"] if p["policy"] == "fixed:arm=lookup@3"]
    texts = {t["id"]: t["token_ids"] for t in got["texts"]}
    assert found
    for p in found:
        assert texts[p["id"]][p["position"]] == p["own"] != p["plain"]
        assert p["margin"] > 0
    assert main(given) == 0
    line = next(x for x in capsys.readouterr().err.splitlines() if "differ" in x)
    assert "float32" in line
    assert f"{2 - rows['fixed:arm=lookup@3']} of 2" in line


def test_the_margin_is_that_of_plain_decoding() -> None:
    target = as_target(tiny.llama(7, 3), tiny.tokenizer(), "tiny")
    prompt, plain = [5, 9, 7], []
    for _ in range(6):
        plain.append(int(target.model(input_ids=torch.tensor([prompt + plain])).logits[0, -1].argmax()))
    other = [*plain[:4], (plain[4] + 1) % 24, plain[5]]
    found = partings(target, [("p", "d", prompt)], [plain], {"same": [plain], "apart": [other]}, 6)
    best = target.model(input_ids=torch.tensor([prompt + plain[:4]])).logits[0, -1].topk(2).values
    assert found == [Parting("apart", "p", 4, plain[4], other[4], pytest.approx(float(best[0] - best[1]), rel=1e-5))]


def test_differences_are_found_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert first_difference([1, 2], [1, 2]) is None
    assert first_difference([1, 2, 3], [1, 2]) == 2
    assert first_difference([1, 2, 3], [4, 2, 3]) == 0
    warn([Parting("a", "p", 3, 1, 2, 0.25), Parting("b", "q", 5, 1, 2, 0.5)], 6, "bfloat16")
    assert "a 1 of 6, b 1 of 6; the clearest at token 5 of 'q'" in capsys.readouterr().err
    warn([], 6, "bfloat16")
    assert capsys.readouterr().err == ""
