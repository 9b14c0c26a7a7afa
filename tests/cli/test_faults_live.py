"""Faults that need a model: prompts, ids, dates and numbers at their edges, for record, run and distill alike."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch

from metasd.cli import main
from metasd.runtime import moment
from metasd.traces import open_trace

TEMPLATE = "{{ 'w9 ' + strftime_now('w%-d') + ' ' }}{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
ROWS = [{"id": "a", "prompt": "w2 w3 w2"}, {"id": "b", "prompt": "w4 w5"}]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = tiny.tokenizer()
    words.chat_template = TEMPLATE
    model = tiny.llama(7, 1, torch.float32, eos_token_id=12)
    return tiny.save(model, words, tmp_path_factory.mktemp("live") / "target")


@pytest.fixture
def prompts(tmp_path: Path) -> Callable[..., str]:
    def write(*rows: dict[str, Any]) -> str:
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / "prompts.jsonl")

    return write


def command(name: str, target: Path, prompts: str, out: Path) -> list[str]:
    given = ["--target", str(target), "--prompts", prompts, "--max-new-tokens", "6"]
    more = {"record": ["--drafter", "lookup", "--out", str(out)], "run": ["--drafter", "lookup"]}
    return [name, *given, *more.get(name, ["--out", str(out)])]


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *said: str) -> None:
    """One line that says so, exit 2, nothing on stdout."""
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if line.startswith("metasd: ")] == err.splitlines()[-1:]
    for text in said:
        assert text in err.splitlines()[-1]


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is known before a model is loaded."""
    monkeypatch.setattr("metasd.runtime.load.load_target", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("name", ["record", "run", "distill"])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "w2 \ud83d w3"}, r"prompts.jsonl line 3: holds \ud83d"),
        ({"prompt": "w2", "domain": "d\udc00"}, r"prompts.jsonl line 3: holds \udc00"),
        ({"prompt": "w2", "id": "a"}, "id 'a' was used before"),
    ],
)
def test_prompts_that_are_no_text(
    name: str, row: dict[str, Any], said: str, prompts: Callable[..., str], tmp_path: Path, capsys: Any
) -> None:
    refused(capsys, command(name, tmp_path / "none", prompts(*ROWS, row), tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("unloaded")
def test_a_prompt_option_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["run", "--prompt", "caf\udce9"], r"--prompt: holds \udce9")


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("name", ["record", "run"])
def test_ids_that_clash_after_splitting_turns(
    name: str, prompts: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question_id": "q", "category": "c", "turns": ["w2", "w3"]}, {"id": "q#2", "prompt": "w4"}]
    arguments = [*command(name, tmp_path / "none", prompts(*rows), tmp_path / "out"), "--turns", "all"]
    refused(capsys, arguments, "id 'q#2'", "later turn of 'q'")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("name", ["record", "run"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--temperature", "1e-300"),
        ("--temperature", "nan"),
        ("--temperature", "inf"),
        ("--temperature", "-1"),
        ("--top-p", "1e-300"),
        ("--top-p", "nan"),
        ("--top-k", "0"),
        ("--draft-length", "256"),
        ("--draft-length", "-1"),
        ("--max-new-tokens", "1" + "0" * 30),
        ("--max-new-tokens", "0"),
    ],
)
def test_numbers_at_their_edges_name_the_option(
    name: str, option: str, value: str, prompts: Callable[..., str], tmp_path: Path, capsys: Any
) -> None:
    arguments = command(name, tmp_path / "none", prompts(*ROWS), tmp_path / "out")
    refused(capsys, [*arguments, option, value], option, "out of range; use ")


@pytest.mark.usefixtures("unloaded")
def test_a_recording_that_is_there_is_told_before_any_work(
    prompts: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    refused(capsys, command("record", tmp_path, prompts(*ROWS), tmp_path / "out"), "no recording; give another --out")


def test_a_template_that_prints_the_date(
    target: Path, prompts: Callable[..., str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = command("record", target, prompts(*ROWS), tmp_path / "out")
    it_is(monkeypatch, 3)
    assert main(arguments) == 0
    refused(capsys, arguments, "holds a recording, 2 prompts of it done; --resume goes on")
    asked = open_trace(tmp_path / "out").prompt_tokens
    assert asked is not None
    assert 3 in asked
    it_is(monkeypatch, 4)
    assert main([*arguments, "--resume"]) == 0
    assert open_trace(tmp_path / "out").prompt_tokens.tolist() == asked.tolist()  # type: ignore[union-attr]
    run = [*command("run", target, prompts(*ROWS), tmp_path), "--trace", str(tmp_path / "out")]
    refused(capsys, run, "prints the date")
    other = command("record", target, prompts(*ROWS[::-1]), tmp_path / "out")
    refused(capsys, [*other, "--resume"], "its prompts are not these", "a date perhaps")


def it_is(monkeypatch: pytest.MonkeyPatch, day: int) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2026, 1, day, 12)

    monkeypatch.setattr(moment, "datetime", Clock)
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_answer_on_a_terminal_of_any_encoding(
    encoding: str, target: Path, monkeypatch: pytest.MonkeyPatch, prompts: Callable[..., str], tmp_path: Path
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr("metasd.runtime.load.Target.decode", lambda self, tokens: "字\x1b[2J " * len(tokens))
    assert main(["run", "--target", str(target), "--prompt", "w2", "--drafter", "lookup", "--max-new-tokens", "4"]) == 0
    said = out.buffer.getvalue()  # type: ignore[attr-defined]
    assert rb"?\x1b[2J" in said
    assert main(command("distill", target, prompts({"prompt": "w2", "domain": "字"}), tmp_path / "pool")) == 0
