"""Prompt files as editors, spreadsheets and other programs write them: read where clear, else named with the line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from metasd.core.errors import UsageError
from metasd.core.ids import check_ids
from metasd.core.lines import decode, rows
from metasd.core.prompts import Prompt, load_prompts

ITEMS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "grüße 字 \U0001f600"},
    {"id": "b", "prompt": "two\nlines", "domain": "d [/x]"},
]
LINES = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in ITEMS)
PLAIN = '{"id": "a", "prompt": "plain"}\n'


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(LINES.encode(), id="plain"),
        pytest.param(LINES.encode("utf-8-sig"), id="mark"),
        pytest.param(LINES.encode("utf-16"), id="utf-16"),
        pytest.param(b"\xfe\xff" + LINES.encode("utf-16-be"), id="utf-16-be"),
        pytest.param(LINES.encode("utf-32"), id="utf-32"),
        pytest.param(LINES.replace("\n", "\r\n").encode(), id="crlf"),
        pytest.param(LINES.replace("\n", "\r").encode(), id="cr"),
        pytest.param(b"\n \n" + LINES.encode() + b"\n\r\n  \n", id="blank lines"),
        pytest.param(LINES.encode() + b"\x1a", id="dos end"),
        pytest.param(LINES.strip().encode(), id="no last line end"),
        pytest.param(json.dumps(ITEMS).encode(), id="array"),
        pytest.param(json.dumps(ITEMS, indent=2).encode("utf-8-sig"), id="indented array"),
        pytest.param("\n".join(json.dumps(i, indent=2) for i in ITEMS).encode(), id="indented objects"),
        pytest.param(",\r\n".join(json.dumps(i, indent=4) for i in ITEMS).encode(), id="with commas between"),
    ],
)
def test_what_is_clear_is_read(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(data)
    assert [(p.id, p.text) for p in load_prompts(file)] == [(i["id"], i["prompt"]) for i in ITEMS]


SHEET = 'id,domain,prompt\n7,"a, b","say ""hi"",\nthen stop"\n\n8,,two\n'


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(SHEET.encode(), id="plain"),
        pytest.param(SHEET.replace("\n", "\r\n").encode("utf-8-sig"), id="as spreadsheets save it"),
        pytest.param(SHEET.replace("id,domain,prompt", "id;domain;prompt").replace('7,"a, b",', '7;"a, b";')
                     .replace("8,,two", "8;;two").encode(), id="semicolons"),
        pytest.param(SHEET.encode("utf-16"), id="utf-16"),
        pytest.param(SHEET.replace("prompt\n", "prompt,\n").replace("two", "two, ").encode(), id="an empty column"),
    ],
)  # fmt: skip
def test_a_spreadsheets_table_is_read(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "p.CSV"
    file.write_bytes(data)
    found = [(p.id, p.domain, p.text, p.where) for p in load_prompts(file)]
    assert found == [
        ("7", "a, b", 'say "hi",\nthen stop', f"{file} line 2"),
        ("8", "default", "two", f"{file} line 5"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,prompt\n1,a,b\n", "p.csv line 2: a cell has no key above it; name every column"),
        ("prompt,prompt\na,b\n", "p.csv line 1: key 'prompt' stands twice"),
        ('prompt\na\n"b\nc\n', "p.csv line 3: not CSV (unexpected end of data)"),
        ("promt\na\n", "p.csv line 2: unknown key 'promt'; did you mean prompt?"),
        ("id,prompt\n1,\n", "p.csv line 2: needs a key prompt"),
        ("id,prompt\n", "p.csv holds no prompts"),
        ("id,prompt\nx,a\nx,b\n", "p.csv line 3: id 'x' was used before"),
    ],
)
def test_what_is_no_table_of_prompts_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UsageError) as refused:
        load_prompts(tmp_path / "p.csv")
    assert said in str(refused.value)


def test_utf_16_without_a_mark() -> None:
    for order in ("le", "be"):
        assert decode(PLAIN.encode(f"utf-16-{order}"), "p") == PLAIN


def test_an_array_on_one_line_gives_ids_by_place(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('[{"prompt": "a"}, {"prompt": "b"}]')
    assert [p.id for p in load_prompts(tmp_path / "p.json")] == ["line-1", "line-2"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (PLAIN.encode() + '{"prompt": "caf\xe9"}'.encode("cp1252"), "p.jsonl line 2: not UTF-8 text (byte 0xe9); save"),
        (PLAIN.encode() + b'\n{"prompt": "a\x00b"}', "p.jsonl line 3: holds NUL characters"),
        (PLAIN.encode() + b"\x00" * 100, "p.jsonl line 2: holds NUL characters"),
        (PLAIN.encode() + b'{"prompt": "smile \\ud83d now"}', r"p.jsonl line 2: holds \ud83d, half of a character"),
        (b'{"prompt": "a", "domain": "d\\udc00"}', r"p.jsonl line 1: holds \udc00"),
        (b'{"prompt": "a", "k\\udc00": 1}', r"p.jsonl line 1: holds \udc00"),
        (PLAIN.encode() + b'{"prompt": ' + b"[" * 100_000, "p.jsonl line 2: not JSON (nested too deep"),
        (PLAIN.encode() + b"{'prompt': 1}", "p.jsonl line 2: not JSON ("),
        (PLAIN.encode() + b'{"prompt": ' + b"9" * 5000 + b"}", "p.jsonl line 2: not JSON ("),
        (b'[{"prompt": "a"}, {"prompt": 2}]', "p.jsonl item 2: prompt must be text"),
        (b'[{"prompt": "a"}, ', "p.jsonl, a JSON array: not JSON ("),
        (b'{\n"prompt": "a",\n}\n', "p.jsonl line 1: not JSON ("),
        (b"\xff\xfe", "p.jsonl holds no prompts"),
        (PLAIN.encode() + b'{"prompt": "x", "prompt": "y"}', "p.jsonl line 2: key 'prompt' stands twice; leave one"),
        (b'{"prompt": "x"}\n{\n"prompt": "x",\n"prompt": "y"}', "p.jsonl line 2: not JSON ("),
        (b'{\n"prompt": "x"}\n{\n"prompt": "x",\n"prompt": "y"}', "p.jsonl line 3: key 'prompt' stands twice"),
        (b'[{"prompt": "x", "id": 1, "id": 2}]', "p.jsonl, a JSON array: key 'id' stands twice"),
        (gzip.compress(PLAIN.encode()), "p.jsonl is packed with gzip; unpack it"),
        (b"PK\x03\x04\x14\x00\x06\x00", "p.jsonl is a spreadsheet's own file or a zip archive; save it as CSV"),
        (b"PAR1\x15\x04", "p.jsonl is a Parquet table; write its rows as JSON lines"),
    ],
)
def test_what_is_not_is_named_with_its_line(data: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(data)
    with pytest.raises(UsageError) as refused:
        load_prompts(file)
    assert said in str(refused.value)


def test_separators_inside_a_text_are_no_line_ends() -> None:
    text = json.dumps({"prompt": "a\u2028b\x85c\x0cd"}, ensure_ascii=False).replace("\\f", "\\u000c")
    assert [r.value["prompt"] for r in rows(text, "p")] == ["a\u2028b\x85c\x0cd"]


def test_ids_that_clash_after_splitting_turns() -> None:
    questions = [Prompt("q", "d", ("one", "two")), Prompt("q#2", "d", ("other",))]
    for order in (questions, questions[::-1]):
        with pytest.raises(UsageError, match=r"id 'q#2' .* later turn of 'q'; rename one"):
            check_ids(order)
    check_ids([Prompt("q", "d", ("one",)), Prompt("q#2", "d", ("other",))])
