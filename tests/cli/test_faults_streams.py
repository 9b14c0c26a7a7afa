"""What leaves the program: JSON alone on stdout, any encoding, a reader who leaves, a disk that is full."""

from __future__ import annotations

import ctypes
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metasd.cli import main
from metasd.cli.common import emit
from metasd.traces import save_trace, synthetic

PROGRAM = [sys.executable, "-m", "metasd"]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = synthetic("iid", prompts=2, length=60, arms=2, draft_length=2)
    made.domains = ["grüße 字 \u202e", "code"]
    return str(save_trace(made, tmp_path_factory.mktemp("streams") / "trace"))


def commands(trace: str) -> dict[str, list[str]]:
    return {
        "replay": ["replay", "--trace", trace, "--policy", "random"],
        "compare": ["compare", "--trace", trace, "--policy", "random", "--workers", "1", "--seeds", "1"],
        "growth": ["growth", "--trace", trace, "--policy", "random"],
        "show": ["trace", "show", trace],
        "policies": ["policies"],
    }


NAMES = ("replay", "compare", "growth", "show", "policies")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_of_any_encoding(name: str, encoding: str, trace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(commands(trace)[name]) == 0
    assert out.errors == "strict"  # the caller's stream is as it was
    assert out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_json_is_alone_whatever_a_library_prints(
    name: str, trace: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import metasd.core.results as results

    real = results.document

    def noisy(*given: Any, **more: Any) -> dict[str, Any]:
        print("a library says hello")  # noqa: T201
        os.write(1, b"so does its C part\n")
        ctypes.CDLL(None).puts(b"and its buffered C part")
        return real(*given, **more)

    monkeypatch.setattr(results, "document", noisy)
    assert main([*commands(trace)[name], "--json"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["schema"] == 1
    if name != "compare":  # it imports the name at its top
        for noise in ("a library says hello", "so does its C part", "and its buffered C part"):
            assert noise in said.err
    print("stdout is back")  # noqa: T201
    os.write(1, b"and so is its descriptor\n")
    assert capfd.readouterr().out.split("\n")[:2] in (["stdout is back", "and so is its descriptor"],)


def test_a_refusal_behind_json_leaves_stdout_as_it_was(trace: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--json", "--trace", trace, "--policy", "nobody"]) == 2
    assert main(["replay", "--json", "--no-such-option"]) == 2
    os.write(1, b"here\n")
    assert capfd.readouterr().out == "here\n"


def test_numbers_that_json_has_no_word_for(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": float("nan"), "b": [float("inf"), (1.5, -float("inf"))], "c": {"d": 2}, "e": "\ud83d"})
    said = capsys.readouterr().out
    assert json.loads(said, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, [1.5, None]],
        "c": {"d": 2},
        "e": "\ud83d",
    }


def test_a_reader_who_leaves_hears_nothing() -> None:
    for more in ([], ["--json"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [*PROGRAM, "policies", *more], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    for more in ([], ["--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*PROGRAM, "policies", *more], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
            )
        assert (done.returncode, done.stderr) == (2, "metasd: standard output: No space left on device\n")


def test_without_streams_at_all() -> None:
    code = "import os, sys; os.close(1); os.close(2); sys.stdout = sys.stderr = None\nfrom metasd.cli import main\n"
    for more in ("", ", '--json'"):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}sys.exit(main(['policies'{more}]))"], timeout=60, check=False
        )
        assert done.returncode == 0


def test_what_c_has_buffered_does_not_follow_the_json() -> None:
    code = (
        "import ctypes, sys, metasd.core.results as results\nreal = results.document\n"
        "def noisy(*given, **more):\n    ctypes.CDLL(None).puts(b'noise')\n    return real(*given, **more)\n"
        "results.document = noisy\nfrom metasd.cli import main\nsys.exit(main(['policies', '--json']))\n"
    )
    program = [sys.executable, "-c", code]
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}  # which C obeys too
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True, env=buffered)
    assert json.loads(done.stdout)["schema"] == 1
    assert done.stderr == "noise\n"
