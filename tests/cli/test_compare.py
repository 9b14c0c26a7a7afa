"""`metasd compare` from the command line: its tables, its files, what it refuses."""

import csv
import json
from pathlib import Path

import pytest

from metasd.cli import main
from metasd.traces import synth

ARGUMENTS = ["--policy", "random", "--policy", "metasd-ucb", "--seeds", "2", "--workers", "1"]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("traces")
    for i, kind in enumerate(("two-language", "iid")):
        synth(kind, folder / kind, prompts=4, length=30, arms=2, draft_length=3, seed=i)
    return [str(folder / kind) for kind in ("two-language", "iid")]


def test_table_names_policies_and_yardsticks(traces: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--trace", traces[0], *ARGUMENTS]) == 0
    out = capsys.readouterr().out
    for word in ("two-language: 4 prompts, 2 seeds", "random", "metasd-ucb", "best fixed arm", "clairvoyant optimum"):
        assert word in out
    assert "[dim]" not in out


def test_json_csv_and_html_hold_the_same_rows(
    traces: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--csv", str(tmp_path / "r.csv"), "--html", str(tmp_path / "r.html"), "--resume", str(tmp_path / "kept")]
    assert main(["compare", "--trace", *traces, *ARGUMENTS, *files, "--json"]) == 0
    captured = capsys.readouterr()
    made = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert {r["trace"] for r in made["results"]} == {"two-language", "iid", "all"}
    assert made["config"]["traces"] == ["two-language", "iid"]
    with (tmp_path / "r.csv").open(newline="") as file:
        assert [float(r["rounds"]) for r in csv.DictReader(file)] == [r["rounds"] for r in made["results"]]
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    embedded = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert embedded["results"] == made["results"]
    assert main(["compare", "--trace", *traces, *ARGUMENTS, *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made  # from what was kept


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        (["--policy", "nobody"], 2, "'nobody'"),
        (["--policy", "metasd-ucb:beta=x"], 2, "'x'"),
        (["--seeds", "0"], 2, "0"),
        (["--reference", "exp3"], 2, "'exp3' did not play"),
        (["--draft-length", "9"], 2, "9"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    traces: list[str], more: list[str], code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--trace", traces[0], *ARGUMENTS, *more]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.strip().splitlines()[-1]
    assert line.startswith("metasd: ")
    assert word in line


def test_a_damaged_trace_is_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no").mkdir()
    assert main(["compare", "--trace", str(tmp_path / "no"), *ARGUMENTS]) == 3
    assert "no" in capsys.readouterr().err
