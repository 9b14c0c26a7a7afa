"""Domains and names of any content in every table, file and report: nothing breaks, nothing is swallowed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from metasd.cli import main
from metasd.core.pool import DrafterInfo, Pool
from metasd.report import facts, terminal
from metasd.report.colours import Painter, Voice
from metasd.sim.oracle.regret import rows as replay_rows
from metasd.sim.replay.run import replay
from metasd.traces import describe, open_trace, save_trace, synthetic

CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
PAIRS = {
    "markup that closes nothing": ("math [/hard]", "code"),
    "markup alone differs": ("qa[easy]", "qa[hard]"),
    "escape sequences": ("\x1b[31mred", "\x1b[32mred"),
    "direction": ("a\u202eb", "a\u202db"),
    "lines": ("one\ntwo", "one\rtwo"),
    "halves of characters": ("d\ud83d", "d\udc00"),
    "html": ("<script>alert(1)</script>", "</script>&amp;"),
    "a NUL at the end": ("a\0", "a"),
    "emoji codes and backslashes": (":smile:", "\\[bold]"),
    "long": ("d" * 5000 + "1", "d" * 5000 + "2"),
}
SEEN = {
    "escape sequences": (r"\x1b[31mred", r"\x1b[32mred"),
    "direction": (r"a\u202eb", r"a\u202db"),
    "lines": (r"one\ntwo", r"one\rtwo"),
    "halves of characters": (r"d\ud83d", r"d\udc00"),
    "a NUL at the end": (r"a\x00", "a"),
    "long": ("d" * 79 + "…" + "d" * 39 + "1", "d" * 79 + "…" + "d" * 39 + "2"),
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("text")

    def made(which: str) -> str:
        path = folder / which.replace(" ", "-")
        if not path.exists():
            trace = synthetic("iid", prompts=4, length=40, arms=2, draft_length=2)
            trace.domains = [*PAIRS[which], *PAIRS[which]]
            save_trace(trace, path)
        return str(path)

    return made


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    out = capsys.readouterr().out
    assert not CONTROLS.search(out)
    return out


@pytest.mark.parametrize("which", PAIRS)
def test_every_table_shows_both_as_they_are(
    which: str, traces: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "replay", "--trace", traces(which), "--policy", "random", "--policy", "fixed:arm=arm0@2")
    for seen in SEEN.get(which, PAIRS[which]):
        assert re.sub(r"\s", "", f"{seen}, 2 prompts") in re.sub(r"\s", "", out)  # a long title is wrapped
    printed(capsys, "trace", "show", traces(which))
    printed(capsys, "trace", "validate", traces(which))
    compared = ["compare", "--trace", traces(which), "--policy", "random", "--workers", "1", "--seeds", "1"]
    printed(capsys, *compared)


@pytest.mark.parametrize("which", PAIRS)
def test_every_file_holds_both(
    which: str, traces: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, page = tmp_path / "rows.csv", tmp_path / "page.html"
    arguments = ["compare", "--trace", traces(which), "--policy", "random", "--workers", "1", "--seeds", "1", "--json"]
    assert main([*arguments, "--csv", str(rows), "--html", str(page)]) == 0
    told = {row["domain"]: row["prompts"] for row in json.loads(capsys.readouterr().out)["results"]}
    assert {d: n for d, n in told.items() if d != "all"} == dict.fromkeys(PAIRS[which], 2)
    seen = SEEN.get(which, PAIRS[which]) if which != "long" else PAIRS[which]
    with rows.open(newline="") as file:
        assert {row["domain"] for row in csv.DictReader(file)} == {*seen, "all"}
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 3
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data
    assert {row["domain"] for row in json.loads(data[1])["results"]} == {*PAIRS[which], "all"}
    assert not re.search(r"[\x00-\x08\x1b\u202e]", text)


def test_names_of_traces_and_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_trace(synthetic("iid", prompts=4, length=40, arms=2, draft_length=2), tmp_path / "t[bold]\x1b[2J")
    compared = ["compare", "--trace", str(path), "--workers", "1", "--seeds", "1"]
    out = printed(capsys, *compared, "--policy", "random", "--reference", "random")
    assert r"t[bold]\x1b[2J: 4 prompts" in out
    assert r"t[bold]\x1b[2J: 4 prompts" in printed(capsys, "growth", "--trace", str(path), "--policy", "random")
    assert main(["replay", "--trace", str(path), "--policy", "nobody[/x]\x1b[2J"]) == 2
    assert "nobody[/x]\\x1b[2J" in capsys.readouterr().err


def test_a_picture_of_any_answer_is_xml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["a [bold] ", "\x1b[2J", "<b>&", "\ud83d", "\u202e", "\n\x00", "end"]
    pool = Pool([DrafterInfo("d[/]\x1b", "lookup", True, True)], [(0, 1)])
    with Painter(pool, lambda ids: "".join(texts[i] for i in ids), tmp_path / "answer.svg") as painter:
        painter.console = Console(file=io.StringIO(), width=200)
        painter.tokens(0, list(range(len(texts))), 0, len(texts))
        painter.prompt = painter.remark = "p\x1b[2J"
    drawn = "".join(ElementTree.parse(tmp_path / "answer.svg").getroot().itertext()).replace("\xa0", " ")
    for seen in ("a [bold]", r"\x1b[2J", "<b>&", r"\ud83d", r"\u202e", r"\x00", r"d[/]\x1b", r"p\x1b[2J"):
        assert seen in drawn
    shown = painter.console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[2J" not in shown
    assert r"a [bold] \x1b[2J<b>&\ud83d\u202e" in shown


def test_names_of_drafters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "d[/]\x1b[2J\u202e"
    path = save_trace(synthetic("iid", prompts=4, length=40, arms=2, draft_length=2), tmp_path / "t")
    rows = [{**row, "arms": {name: 3, "b": 1}} for row in replay_rows(replay(open_trace(path), "random"))]
    terminal.show(rows, Console(width=200))
    told = describe(path)
    told["drafters"][0]["name"], told["arms"] = name, [name]
    facts.show_trace(told, Console(width=200))
    voice = Voice(Pool([DrafterInfo(name, "lookup", True, True)], [(0, 1)]))
    voice.say("a \x1b[2J\n", name)
    voice.end("b\x1b[2J")
    out, err = capsys.readouterr()
    assert not CONTROLS.search(out + err)
    assert r"random played d[/]\x1b[2J\u202e 75%" in out
    assert out.count(r"d[/]\x1b[2J\u202e") >= 3
    assert r"a \x1b[2J" in out
    assert r"b\x1b[2J" in err


def test_a_trace_keeps_what_it_was_given(tmp_path: Path) -> None:
    for which, pair in PAIRS.items():
        trace = synthetic("iid", prompts=2, length=5, arms=2, draft_length=2)
        trace.domains = list(pair)
        assert list(open_trace(save_trace(trace, tmp_path / which)).domains) == list(pair)
