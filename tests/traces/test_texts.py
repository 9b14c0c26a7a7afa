"""The text of a trace's tokens beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from metasd.core.errors import TraceError
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.traces import Trace, describe, open_trace, save_trace, split, synthetic, texts, validate

RAW = [b"a", "é".encode()[:1], "é".encode()[1:], b" b", "\U0001f600".encode()[:2], "\U0001f600".encode()[2:]]


def decode(ids: Sequence[int]) -> str:
    return b"".join(RAW[i % len(RAW)] for i in ids).decode(errors="replace")


def test_a_piece_waits_for_the_end_of_its_character() -> None:
    tokens = [0, 1, 2, 3, 4, 5, 0]
    found = texts.pieces(tokens, decode)
    assert found == ["a", "", "é", " b", "", "\U0001f600", "a"]
    assert texts.pieces([0, 1], decode) == ["a", "\ufffd"]  # nothing ends it


def test_blanks_before_words_are_kept_where_a_decoder_drops_the_first() -> None:
    words = ["one", "two", "three"]
    assert texts.pieces([0, 1, 2, 1], lambda ids: " ".join(words[i] for i in ids)) == ["one", " two", " three", " two"]


@pytest.fixture
def spelled(tmp_path: Path) -> Trace:
    save_trace(synthetic("iid", prompts=8, length=20, arms=2, draft_length=3, seed=1), tmp_path / "t")
    trace = open_trace(tmp_path / "t")
    texts.write(trace, lambda ids: "".join(f"<{i}>" for i in ids), {"name": "numbers", "hash": "0"})
    return trace


def test_texts_are_read_back_and_go_with_halves(spelled: Trace, tmp_path: Path) -> None:
    found = texts.read(spelled)
    assert found is not None
    assert found[0] == {"name": "numbers", "hash": "0"}
    assert ["".join(found[1][i]) for i in spelled.ids] == [
        "".join(f"<{t}>" for t in spelled.tokens[a:b]) for a, b in pairwise(spelled.offsets)
    ]
    assert "texts of 8 answers, by tokenizer numbers" in validate(spelled.path)
    assert describe(spelled.path)["texts"] is True
    for half in split(spelled.path, 0, tmp_path / "a", tmp_path / "b"):
        part = open_trace(half)
        kept = texts.read(part)
        assert kept is not None
        assert kept[1] == {name: found[1][name] for name in part.ids}


def test_a_comparison_shows_them_and_says_why_not(spelled: Trace, tmp_path: Path) -> None:
    made = document(compare([spelled.path], ["random"], 1, workers=1))
    assert made["traces"][0]["texts"] is None
    line = made["timelines"][0]
    assert line["texts"] == [f"<{t}>" for t in line["tokens"]]
    without = document(compare([synthetic("iid", prompts=8, length=20, seed=1)], ["random"], 1, workers=1))
    assert without["traces"][0]["texts"] == "a synthetic trace has no words"
    assert without["timelines"][0]["texts"] is None
    (spelled.path / texts.TEXTS).unlink()
    assert texts.read(spelled) is None


def test_texts_of_other_answers_are_refused(spelled: Trace) -> None:
    file = spelled.path / texts.TEXTS
    whole = file.read_text()
    file.write_text(whole.replace("<", "[", 1))
    for check in (texts.read, lambda trace: validate(trace.path)):
        with pytest.raises(TraceError, match=r"texts\.jsonl: damaged, or of other answers"):
            check(spelled)
    file.write_text("".join(whole.splitlines(keepends=True)[1:]))
    with pytest.raises(TraceError, match=r"texts\.jsonl: damaged, or of other answers"):
        texts.read(spelled)
    file.write_text("{")
    with pytest.raises(TraceError, match=r"texts\.jsonl: not the texts of a trace"):
        texts.read(spelled)


def test_only_what_is_wanted_is_kept(spelled: Trace) -> None:
    found = texts.read(spelled, [spelled.ids[2]])
    assert found is not None
    assert list(found[1]) == [spelled.ids[2]]
