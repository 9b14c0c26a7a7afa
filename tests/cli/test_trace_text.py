"""``metasd trace text`` and ``import --tokenizer``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

import tiny

from metasd.cli import main
from metasd.traces import open_trace, save_trace, synthetic, texts


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A folder with a tokenizer alone."""
    tiny.tokenizer(words=120).save_pretrained(tmp_path / "words")
    return tmp_path / "words"


def logged(folder: Path) -> Path:
    """A log of another's runs: two texts and the lengths that two drafters came to."""
    rows = [{"prompt_token_ids": [5, 6, 7], "generated_token_ids": [8, 9, 8, 9], "id": str(i)} for i in range(2)]
    lengths = {"acc": {"acc_len": [1, 1, 1, 1]}, "acc_eagle": {"acc_len": [2, 1, 1, 1]}}
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(r | lengths) + "\n" for r in rows))
    return folder


def test_an_import_keeps_the_name_and_is_spelled_by_it(
    tmp_path: Path, words: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    arguments = ["trace", "import", "specdecode-bench", str(logged(tmp_path / "in")), "--out", str(out)]
    assert main([*arguments, "--tokenizer", str(words)]) == 0
    assert open_trace(out, include_unaligned=True).manifest["config"]["tokenizer"] == str(words)
    assert main(["trace", "text", str(out)]) == 0
    assert "the text of 2 answers, 8 tokens" in capsys.readouterr().out
    found = texts.read(open_trace(out, include_unaligned=True))
    assert found is not None
    assert found[0]["name"] == "words"
    assert ["".join(pieces) for pieces in found[1].values()] == ["w8 w9 w8 w9"] * 2


def test_what_cannot_be_spelled_is_one_line(tmp_path: Path, words: Path, capsys: pytest.CaptureFixture) -> None:
    save_trace(synthetic("iid", prompts=2, length=20, seed=1), tmp_path / "t")
    folder = str(tmp_path / "t")
    small = tmp_path / "small"
    tiny.tokenizer(words=4).save_pretrained(small)
    for more, said in (
        ([], "names no tokenizer; give the target's with --tokenizer"),
        (["--tokenizer", str(small)], "has 4 tokens, the trace has token"),
        (["--tokenizer", str(tmp_path / "nowhere")], "no model"),
        (["--tokenizer", "model.gguf"], "is inside a .gguf file"),
    ):
        assert main(["trace", "text", folder, *more]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
    trace = open_trace(folder)
    trace.manifest = {**trace.manifest, "config": {"target": {"name": "other", "tokenizer": "0123"}}}
    save_trace(trace, tmp_path / "u")
    assert main(["trace", "text", str(tmp_path / "u"), "--tokenizer", str(words)]) == 2
    assert "is not that of the trace's target; give other's" in capsys.readouterr().err
    assert not texts.kept(trace)
