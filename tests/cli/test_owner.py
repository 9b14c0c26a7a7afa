"""The owner's first hour: what commands print, record and refuse, on a tiny model that speaks letters."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch

from metasd.cli import main
from metasd.core import progress
from metasd.drafters.ngrams import NgramTable
from metasd.runtime import load, tokenizers

TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[>]"
LIMIT = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target, a larger model, a pool of tables and two prompts."""
    folder = tmp_path_factory.mktemp("home")
    sizes = {"vocab_size": tiny.LETTERS, "max_position_embeddings": 400}
    tiny.save(tiny.llama(3, 2, torch.float32, **sizes), tiny.letters(TEMPLATE), folder / "target")
    tiny.save(tiny.llama(4, 4, torch.float32, **sizes), tiny.letters(TEMPLATE), folder / "larger")
    lines = [{"id": f"p{i}", "domain": "ab"[i % 2], "prompt": f"hello {i} {i}"} for i in range(2)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pool = folder / "pool, of=mine"
    pool.mkdir()
    words = tiny.letters()
    about = {"tokenizer": tokenizers.hashes(words)[0], "vocabulary": tiny.LETTERS}
    rows = []
    for domain in ("left", "right", "all"):
        NgramTable.build([words(domain).input_ids], domain=domain, **about).save(pool / f"{domain}.safetensors")
        rows.append({"domain": domain, "file": f"{domain}.safetensors"})
    (pool / "manifest.json").write_text(json.dumps({"tables": rows}))
    return folder


@pytest.fixture(scope="module")
def trace(home: Path) -> Path:
    given = ["--prompts", str(home / "prompts.jsonl"), "--out", str(home / "trace"), "--draft-length", "4"]
    assert main(["record", *target(home), *given, "--max-new-tokens", str(LIMIT)]) == 0
    return home / "trace"


def target(home: Path) -> list[str]:
    return ["--target", str(home / "target")]


def run(home: Path, *more: str) -> list[str]:
    return ["run", *target(home), "--prompts", str(home / "prompts.jsonl"), *more]


Said = pytest.CaptureFixture[str]


def printed(capsys: Said, arguments: list[str]) -> tuple[str, str]:
    capsys.readouterr()
    assert main(arguments) == 0
    got = capsys.readouterr()
    assert max(map(len, got.out.splitlines())) <= 100
    return got.out, got.err


def document(capsys: Said, arguments: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_answers_are_shown_unless_quiet_and_kept_in_the_json(home: Path, capsys: Said) -> None:
    short = ["--max-new-tokens", str(LIMIT), "--policy", "random"]
    texts = document(capsys, run(home, *short))["texts"]
    out, _ = printed(capsys, run(home, *short))
    for said in (*(t["text"] for t in texts), "p1 (b)", "the target itself", "prefill", "token, s"):
        assert said in out
    quiet, _ = printed(capsys, run(home, *short, "--quiet"))
    assert not any(t["text"] in quiet for t in texts)
    for t in texts:
        assert sum(r["emitted"] for r in t["rounds"]) == len(t["token_ids"]) == LIMIT
        assert all(r["arm"] and r["seconds"] > 0 and r["accepted"] <= r["drafted"] for r in t["rounds"])
        assert t["seconds"] == pytest.approx(sum(r["seconds"] for r in t["rounds"]))
        assert t["first_token_seconds"] > t["prefill_seconds"] + t["begin_seconds"] > t["begin_seconds"] > 0
        assert t["prompt_tokens"] == len(f"[user]hello {t['id'][1]} {t['id'][1]}[>]")


def test_a_baseline_is_repeated_and_ends_in_one_sentence(
    home: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["run", *target(home), "--prompt", "abab abab", "--max-new-tokens", "4", "--baseline", "--repeats", "2"]
    monkeypatch.setattr(progress, "EVERY", 0.0)
    out, err = printed(capsys, given)
    assert "decoding (texts): 8/8, 0 s left" in err, "what is not painted is counted"
    assert out.splitlines()[-1].startswith("default: ")
    assert "in 2 repetitions" in out.splitlines()[-1]
    got = document(capsys, given)
    assert got["verdict"].startswith("default: ")
    row = next(r for r in got["results"] if r["policy"] == "default")
    assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
    assert row["repeats"] == got["config"]["repeats"] == 2
    assert row["first_token_seconds"] > row["begin_seconds"] > 0 < row["prefill_tokens_per_second"]


def test_standard_input_is_a_prompt_or_a_prompt_file(home: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    short = ["--max-new-tokens", "4", "--policy", "random"]
    asked = document(capsys, ["run", *target(home), "--prompt", "hello", *short])["texts"][0]["token_ids"]
    for option, text in (("--prompt", "hello\n"), ("--prompts", '{"prompt": "hello"}\n')):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        got = document(capsys, ["run", *target(home), option, "-", *short])
        assert got["texts"][0]["token_ids"] == asked


@pytest.mark.parametrize("command", [["run", "--prompt", "-"], ["run", "--prompts", "-"], ["chat", "--costs", "none"]])
def test_standard_input_that_is_no_text_is_one_line(
    command: list[str], home: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\nab\xff\nhello\n")))
    assert main([command[0], *target(home), *command[1:], "--max-new-tokens", "2"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "standard input line 2: not UTF-8 text (byte 0xff)" in said.err


def test_a_trace_says_length_and_budget(home: Path, trace: Path, capsys: Said) -> None:
    got = document(capsys, run(home, "--trace", str(trace), "--policy", "metasd-ucb"))
    assert got["fidelity"]["identical"] is True
    assert got["config"]["max_new_tokens"] == LIMIT
    assert {r["arm"] for t in got["texts"] for r in t["rounds"]} <= {"lookup@4", "table@4", "plain"}


def wrong_costs(home: Path) -> str:
    from metasd.core.costs import CostModel

    costs = json.loads((home / "trace" / "costs.json").read_text()) | {"drafters": ["other", "pool"]}
    path = home / "costs.json"
    path.write_text(json.dumps(costs))
    assert CostModel.load(path).drafters == ("other", "pool")
    return str(path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--costs", "WRONG"], "--costs is of another pool"),
        (["--trace", "TRACE", "--max-new-tokens", "40"], "a budget of 40"),
        (["--trace", "TRACE", "--draft-length", "9"], "9"),
        (["--trace", "TRACE", "--drafter", "lookup"], "are not the trace's"),
        (["--trace", "TRACE", "--prompt", "hi"], "'prompt' is not in trace"),
        (["--policy", "fixed:arm=lookup@7"], "lookup@7"),
        (["--drafter", "LARGER"], "no folder of tables"),
        (["--drafter", "lookup", "--drafter", "lookup"], "share a name"),
        (["--drafter", ""], "'' has no name"),
        (["--drafter", "lookup:name="], "has an empty name"),
        (["--trace", ""], "the trace has no name"),
        (["--drafter", "table:path=nowhere"], "'nowhere'"),
        (["--drafter", "table:name=x,path=POOL"], "name="),
        (["--svg", "x.svg"], "--svg"),
    ],
)
def test_everything_is_checked_before_a_model_is_loaded(
    more: list[str], said: str, home: Path, trace: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(load, "load_target", loaded)
    if any("POOL" in m for m in more):
        (home / "pool").mkdir(exist_ok=True)
        for file in (home / "pool, of=mine").iterdir():
            (home / "pool" / file.name).write_bytes(file.read_bytes())
    places = {
        "WRONG": wrong_costs(home),
        "TRACE": str(trace),
        "LARGER": str(home / "larger"),
        "POOL": str(home / "pool"),
    }
    for name, place in places.items():
        more = [m.replace(name, place) for m in more]
    arguments = ["run", *target(home), *more]
    if "--prompt" not in more:
        arguments += ["--prompts", str(home / "prompts.jsonl")]
    capsys.readouterr()
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_a_folder_of_tables_is_a_pool(home: Path, capsys: Said) -> None:
    got = document(capsys, run(home, "--drafter", str(home / "pool, of=mine"), "--max-new-tokens", "4"))
    assert list(got["results"][-1]["arms"]) == ["table-left@3", "table-right@3", "plain"]


def test_what_would_be_ignored_is_said(home: Path, capsys: Said) -> None:
    given = ["--prompt", "hi", "--max-new-tokens", "2", "--top-p", "0.5"]
    larger = ["--drafter", f"model:path={home / 'larger'}"]
    _, err = printed(capsys, ["run", *target(home), *given, *larger])
    assert "--top-p 0.5 does nothing" in err
    assert "drafter larger has" in err


def test_recording_and_trace_are_tables_with_units(home: Path, trace: Path, capsys: Said) -> None:
    out, _ = printed(capsys, ["trace", "show", str(trace)])
    assert "lookup@4, table@4" in out
    (pair,) = document(capsys, ["trace", "show", str(trace)])["trace"]["alike"]
    assert (pair["drafter"], pair["other"]) == ("lookup", "table")
    assert 0.5 < pair["same"] <= 1
    assert f"{pair['same']:.1%}" in out
    given = ["--prompts", str(home / "prompts.jsonl"), "--out", str(trace), "--resume", "--draft-length", "4"]
    done, _ = printed(capsys, ["record", *target(home), *given, "--max-new-tokens", str(LIMIT)])
    assert "2 (2 were there already)" in done
    for text in (out, done):
        assert "{" not in text.replace(str(trace), "")
        assert "MB" in text


def test_the_drafters_listed_are_those_that_run_uses(home: Path, capsys: Said) -> None:
    out, _ = printed(capsys, ["drafters"])
    assert "draft_length=3" in out
    assert "draft_length=8" not in out
    assert "without --drafter, any other target: lookup, table" in out
    pools = document(capsys, ["drafters"])["default_pools"]
    arms = document(capsys, ["run", *target(home), "--prompt", "hi", "--max-new-tokens", "2"])["results"][-1]["arms"]
    lengths = (1, 2, 3, 4, 6, 8)
    assert list(arms) == [*(f"{spec}@{n}" for spec in pools["any other target"] for n in lengths), "plain"]
    assert f"without --drafter and --draft-length, each at {', '.join(map(str, lengths))} tokens" in out


def test_specialists_are_made_without_the_chat_template(home: Path, tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "w3 w4", "domain": "a"}\n{"prompt": "w5", "domain": "b"}\n')
    given = ["distill", *target(home), "--prompts", str(tmp_path / "prompts.jsonl"), "--max-new-tokens", "4"]
    read = {}
    for name, more in (("raw", ["--raw"]), ("chat", [])):
        assert document(capsys, [*given, "--out", str(tmp_path / name), *more])["config"]["raw"] is (name == "raw")
        [answer] = json.loads((tmp_path / name / "answers" / "b.json").read_text())["answers"]
        read[name] = answer["prompt"]
    assert read["raw"] == tiny.letters()("w5").input_ids
    assert len(read["chat"]) > len(read["raw"])


@pytest.mark.parametrize("more", [["--raw"], ["--turns", "all"], ["--skip-too-long"]])
def test_what_a_conversation_has_no_use_for_is_refused(more: list[str], home: Path, capsys: Said) -> None:
    assert main(["chat", *target(home), *more]) == 2
    assert more[0] in capsys.readouterr().err


def test_a_prior_says_whom_it_knows(home: Path, trace: Path, tmp_path: Path, capsys: Said) -> None:
    file = str(tmp_path / "prior.json")
    assert main(["fit", "--trace", str(trace), "--policy", "default", "--out", file]) == 0
    pool = ["--drafter", "lookup", "--drafter", "table", "--drafter", str(home / "pool, of=mine")]
    _, err = printed(capsys, run(home, *pool, "--prior", file, "--max-new-tokens", "2", "--costs", "none"))
    assert "prior: of lookup+table (cold: table-left, table-right)\n" in err


def test_a_conversation_through_a_pipe(home: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    import metasd

    lines = "hello\n\n/system be kind\n/nonsense\nand?\n/clear\nhello\n/quit\nnever asked\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    out, err = printed(capsys, ["chat", *target(home), "--max-new-tokens", "8"])
    chat = metasd.Chat(str(home / "target"), max_new_tokens=8)
    wanted = [chat.say("hello").text]
    chat.system = "be kind"
    wanted.append(chat.say("and?").text)
    chat.clear()
    wanted.append(chat.say("hello").text)
    assert out == "".join(text + "\n" for text in wanted)
    assert "unknown command /nonsense" in err


def test_an_interrupt_stops_the_answer_not_the_conversation(
    home: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metasd.runtime.session import LiveSession

    play, asked = LiveSession.play, []

    def interrupted(self: LiveSession, arms: Any) -> Any:
        asked.append(self.prompts[0][0])
        if self.prompts[0][0] == "turn-1":
            raise KeyboardInterrupt
        return play(self, arms)

    monkeypatch.setattr(LiveSession, "play", interrupted)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello\nand?\n")))
    _, err = printed(capsys, ["chat", *target(home), "--max-new-tokens", "4"])
    assert "that question is forgotten" in err
    assert asked[-1] == "turn-2"
