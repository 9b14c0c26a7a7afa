"""How models are loaded and what cannot be read, the same for run, record and distill."""

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

LONG = " ".join(f"w{2 + i % 20}" for i in range(150))  # 160 tokens is all that the target reads


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    target = tiny.llama(7, eos_token_id=None, dtype=torch.float32)
    tiny.save(target, tiny.tokenizer(), folder / "target")
    wide = tiny.llama(7, eos_token_id=None, dtype=torch.float32, vocab_size=tiny.VOCABULARY + 12)
    tiny.save(wide, tiny.tokenizer(), folder / "wide")
    short = tiny.llama(3, 1, torch.float32, max_position_embeddings=24)
    tiny.save(short, tiny.tokenizer(), folder / "short")
    lines = [{"id": "long", "prompt": LONG}, {"id": "short", "prompt": "w2 w3 w2 w3"}, {"prompt": "w5 w2 " * 8}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def arguments(models: Path, command: str, out: Path, *more: str, target: str = "target") -> list[str]:
    given = ["--target", str(models / target), "--prompts", str(models / "prompts.jsonl"), "--max-new-tokens", "12"]
    if command != "distill":
        given += ["--draft-length", "3", "--drafter", "lookup"]
    if command != "run":
        given += ["--out", str(out / command)]
    return [command, *given, *more, "--json"]


def document(capsys: pytest.CaptureFixture[str], given: list[str]) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main(given) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


@pytest.mark.parametrize("command", ["run", "record", "distill"])
def test_prompts_that_do_not_fit(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(arguments(models, command, tmp_path)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    for word in ("prompts.jsonl line 1", "'long'", "150 tokens", "160", "--skip-too-long"):
        assert word in error
    got, err = document(capsys, arguments(models, command, tmp_path, "--skip-too-long"))
    assert "left out 1 of 3 prompts" in err
    assert got["config"]["left_out"] == ["long"]
    if command == "run":
        assert [t["id"] for t in got["texts"]] == ["short", "line-3"]


def test_what_a_drafter_cannot_read_does_not_fit_either(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--drafter", f"model:path={models / 'short'}", "--skip-too-long"]
    got, _ = document(capsys, arguments(models, "run", tmp_path, *more))
    assert got["config"]["left_out"] == ["long", "line-3"]
    assert main([*arguments(models, "run", tmp_path, *more), "--max-new-tokens", "40"]) == 2
    assert "none of 3 prompts fits" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "record", "distill"])
def test_how_it_was_loaded_stands_in_the_result(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    more = ["--skip-too-long", "--attn", "eager", "--device-map", "cpu", "--dtype", "float64"]
    got, _ = document(capsys, arguments(models, command, tmp_path, *more))
    loaded = {k: got["config"][k] for k in ("dtype", "attention", "linear", "device_map", "revision")}
    assert loaded == {
        "dtype": "float64", "attention": "eager", "linear": "torch", "device_map": "cpu", "revision": None
    }  # fmt: skip
    if command == "record":
        target = json.loads((tmp_path / "record" / "manifest.json").read_text())["config"]["target"]
        assert (target["attention"], target["linear"], target["dtype"]) == ("eager", "torch", "float64")
    assert main(arguments(models, command, tmp_path / "other", "--skip-too-long", "--revision", "main")) == 2
    assert "'main'" in capsys.readouterr().err


@pytest.mark.parametrize("temperature", ["0", "1"])
def test_a_drafter_with_fewer_columns_drafts_on(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], temperature: str
) -> None:
    """The target emits tokens that the drafter has no row for; its drafts get worse, nothing else happens."""
    more = ["--skip-too-long", "--temperature", temperature, "--drafter", f"model:path={models / 'target'},name=small"]
    got, _ = document(
        capsys, [*arguments(models, "run", tmp_path, *more, target="wide"), "--policy", "fixed:arm=small"]
    )
    emitted = [token for text in got["texts"] for token in text["token_ids"]]
    assert max(emitted) >= tiny.VOCABULARY
    assert len(emitted) == 24
    if temperature == "0":
        plain = [*arguments(models, "run", tmp_path, target="wide"), "--skip-too-long", "--drafter", "plain"]
        told = document(capsys, [*plain, "--policy", "fixed:arm=plain"])[0]["texts"]
        assert [text["token_ids"] for text in told] == [text["token_ids"] for text in got["texts"]]
        recorded, _ = document(capsys, arguments(models, "record", tmp_path, *more, target="wide"))
        assert recorded["record"]["mismatches"] == 0
        checked = [*arguments(models, "run", tmp_path, *more, target="wide"), "--policy", "random"]
        checked = document(capsys, [*checked, "--trace", str(tmp_path / "record")])[0]["fidelity"]
        assert checked["identical"]


def test_what_is_kept_can_be_listed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert document(capsys, ["cache", "list", "--json"])[0]["models"] == []
    for name, size in (("a", 3_000_000), (".converting-\x1b[2J", 1000)):
        (tmp_path / "metasd" / "models" / name).mkdir(parents=True)
        (tmp_path / "metasd" / "models" / name / "model.safetensors").write_bytes(bytes(size))
    got, _ = document(capsys, ["cache", "list", "--json"])
    assert got["models"] == [{"name": ".converting-\x1b[2J", "bytes": 1000}, {"name": "a", "bytes": 3_000_000}]
    assert got["folder"] == str(tmp_path / "metasd" / "models")
    assert main(["cache", "list"]) == 0
    out = capsys.readouterr().out
    assert "3 MB  a" in out
    assert r"converting-\x1b[2J" in out
    (tmp_path / "metasd" / "costs").mkdir()
    (tmp_path / "metasd" / "costs" / "b.json").write_bytes(bytes(2000))
    assert document(capsys, ["cache", "list", "--json"])[0]["costs"] == [{"name": "b.json", "bytes": 2000}]
    assert main(["cache", "list"]) == 0
    assert "2 kB  b.json" in capsys.readouterr().out
    assert document(capsys, ["cache", "clear", "b.json", "--json"])[0]["bytes"] == 2000
    assert main(["cache", "clear", "c"]) == 2
    assert "'c'" in capsys.readouterr().err
    assert document(capsys, ["cache", "clear", "a", "--json"])[0]["bytes"] == 3_000_000
    assert main(["cache", "clear"]) == 0
    assert document(capsys, ["cache", "list", "--json"])[0]["bytes"] == 0
