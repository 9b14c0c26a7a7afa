"""Numbers at their edges and files that are none, for the commands that need no model: one line, exit 2 or 3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metasd.cli import main
from metasd.core.jsontext import dumps, loads
from metasd.traces import open_trace, save_trace, synthetic

HUGE = "1" + "0" * 40


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = synthetic("iid", prompts=2, length=20, arms=2, draft_length=2)
    return str(save_trace(made, tmp_path_factory.mktemp("offline") / "trace"))


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *said: str, code: int = 2) -> None:
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    for text in said:
        assert text in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("replay --trace T --policy metasd-ucb:beta=nan", "metasd-ucb:beta: 'nan'"),
        ("replay --trace T --policy metasd-ucb:beta=1e400", "metasd-ucb:beta: '1e400'"),
        ("replay --trace T --policy metasd-ucb:beta=inf", "metasd-ucb:beta: 'inf'"),
        (f"replay --trace T --policy random --seeds {HUGE}", "--seeds"),
        (f"compare --trace T --policy random --seeds {HUGE}", "--seeds"),
        (f"growth --trace T --policy random --seeds {HUGE}", "--seeds"),
        ("replay --trace T --policy random --draft-length 256", "draft length 256"),
        ("trace split T --seed -1 --out OUT OUT2", "--seed"),
        ("trace synth iid --seed -1 --out OUT", "--seed"),
        (f"trace synth iid --length {HUGE} --out OUT", "--length"),
        (f"trace synth iid --prompts {HUGE} --out OUT", "prompts"),
        ("trace synth iid --length 1000000000 --prompts 1000000 --out OUT", "not enough memory"),
        ("replay --trace synthetic:kind=iid,seed=-1 --policy random", "seed -1"),
        (f"replay --trace synthetic:kind=iid,length={HUGE} --policy random", "length"),
        ("replay --trace synthetic:kind=iid,temperature=inf --policy random", "temperature"),
        ("replay --trace synthetic:kind=iid,concentration=nan --policy random", "concentration"),
    ],
)
def test_numbers_at_their_edges(
    arguments: str, said: str, trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"T": trace, "OUT": str(tmp_path / "out"), "OUT2": str(tmp_path / "out2")}
    refused(capsys, [places.get(word, word) for word in arguments.split()], said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"[" * 100_000, b"", b"\0" * 9, b"[]", b'"x"', b"{", b"\xff\xfe\x00", b"{}"])
def test_files_that_are_none(content: bytes, trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    (tmp_path / "manifest.json").write_bytes(content)
    given, replay = str(file), ["replay", "--trace", trace, "--policy"]
    refused(capsys, [*replay, "random", "--costs", given], "--costs", str(file))
    refused(capsys, [*replay, "default", "--prior", given], "prior")
    for form in ("spec-bench", "specdecode-bench"):
        refused(capsys, ["trace", "import", form, given, "--out", str(tmp_path / "out")], str(file))
    for command in ("show", "validate"):
        refused(capsys, ["trace", command, str(tmp_path)], "manifest.json", code=3)
    refused(capsys, ["replay", "--trace", str(tmp_path), "--policy", "random"], "manifest.json", code=3)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "manifest.json"}


def test_json_is_for_every_reader() -> None:
    assert loads(dumps({"a": [float("nan"), float("-inf"), 1.5], "b": "\ud83d"})) == {
        "a": [None, None, 1.5],
        "b": "\ud83d",
    }
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    assert loads(dumps(deep)) == deep
    with pytest.raises(ValueError, match="nested too deep"):
        loads("[" * 100_000)


def test_an_imported_domain_is_not_the_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = {"id": 1, "prompt_token_ids": [1, 2], "generated_token_ids": [3, 4], "acc": {"acc_len": [1, 1]}}
    (tmp_path / "all.jsonl").write_text(json.dumps(line | {"acc_eagle": {"acc_len": [1, 1]}}) + "\n")
    out = tmp_path / "trace"
    assert main(["trace", "import", "specdecode-bench", str(tmp_path / "all.jsonl"), "--out", str(out)]) == 0
    assert "domain 'all', the name of the total, is called 'all (domain)' here" in capsys.readouterr().err
    assert list(open_trace(out).domains) == ["all (domain)"]
