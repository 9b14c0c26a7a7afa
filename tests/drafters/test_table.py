"""N-gram tables and the drafter that joins them with the text, against counting and searching the slow way round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from metasd.core.errors import UsageError
from metasd.core.signals import INDEX
from metasd.core.specs import build
from metasd.drafters import TEXT_DRAFTERS, TableDrafter
from metasd.drafters import table as module
from metasd.drafters.ngrams import NgramCounts, NgramTable

texts = st.lists(st.integers(0, 3), max_size=30)
corpora = st.lists(texts, max_size=5)
slow_files = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def make(corpus, **about) -> NgramTable:
    return NgramTable.build(corpus, tokenizer="t", vocabulary=50, **about)


def brute_entry(corpus: list[list[int]], run: tuple[int, ...]) -> tuple[int, float] | None:
    """Most frequent follower; of equals the one that reached the count first."""
    n = len(run)
    followers = [t[i + n] for t in corpus for i in range(len(t) - n) if tuple(t[i : i + n]) == run]
    if not followers:
        return None
    most = max(followers.count(f) for f in followers)
    winner = next(f for i, f in enumerate(followers) if followers[: i + 1].count(f) == most)
    return winner, most / len(followers)


def brute_draft(text: list[int], table: NgramTable, length: int) -> list[int]:
    drafted: list[int] = []
    while len(drafted) < length:
        token = brute_next(text, (text + drafted)[-4:], table)
        if token is None:
            break
        drafted.append(token)
    return drafted


def brute_next(text: list[int], tail: list[int], table: NgramTable) -> int | None:
    for order in range(len(tail), 0, -1):
        run = tail[-order:]
        starts = [i for i in range(len(text) - order) if text[i : i + order] == run]
        if starts:
            return text[starts[-1] + order]
        entry = table.get(tuple(run))
        if entry is not None:
            return entry[0]
    return None


@given(corpora)
def test_counts_agree_with_counting(corpus):
    table = make(corpus)
    runs = {tuple(t[i : i + n]) for t in corpus for n in range(1, 5) for i in range(len(t) - n + 1)}
    for run in runs:
        expected, entry = brute_entry(corpus, run), table.get(run)
        assert (entry is None) == (expected is None)
        if entry is not None and expected is not None:
            assert entry[0] == expected[0]
            assert abs(entry[1] - expected[1]) <= 0.5 / 255 + 1e-12
    assert len(table) == sum(brute_entry(corpus, run) is not None for run in runs)


@slow_files
@given(corpora)
def test_file_holds_the_table(tmp_path, corpus):
    table = make(corpus, domain="d", target="model")
    table.save(tmp_path / "t.safetensors")
    again = NgramTable.load(tmp_path / "t.safetensors")
    assert again.info == table.info
    assert again._entries == table._entries
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "t.safetensors").read_bytes()


def test_wide_vocabulary_needs_wider_ids(tmp_path):
    NgramTable.build([[70_000, 1, 70_000, 2]], tokenizer="t", vocabulary=100_000).save(tmp_path / "t.safetensors")
    assert NgramTable.load(tmp_path / "t.safetensors").get((1,)) == (70_000, 1.0)


@given(corpora, texts)
def test_longest_run_wins_and_the_text_before_the_table(corpus, text):
    drafter = TableDrafter()
    drafter.table = table = make(corpus)
    drafter.begin(text[:3])
    drafter.extend(text[3:])
    expected = brute_draft(text, table, 8)
    assert drafter.look().available == bool(expected)
    assert drafter.draft(8).tokens == expected
    assert drafter.look().signals[INDEX["proposal_length"]] == len(expected)


@given(corpora, texts, texts, st.data())
def test_prefix_stable_and_blind_to_who_looked(corpus, prompt, answer, data):
    whole, pieces = TableDrafter(), TableDrafter()
    whole.table = pieces.table = make(corpus)
    whole.begin(prompt)
    whole.extend(answer)
    agreement = whole.agreement()
    pieces.begin(prompt)
    parts, rest = [], list(answer)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.draft(data.draw(st.integers(1, 8)))
        pieces.extend(rest[:size])
        parts.append(pieces.agreement())
        pieces.look()
        rest = rest[size:]
    np.testing.assert_array_equal(np.concatenate([*parts, np.empty(0)]), agreement)
    np.testing.assert_array_equal(whole.look().signals, pieces.look().signals)
    for length in (3, 1, 8, 2):
        assert whole.draft(length).tokens == pieces.draft(8).tokens[:length]
        assert whole.draft(length).confidence == pieces.draft(8).confidence[:length]


def test_signals_of_a_table_source():
    drafter = TableDrafter()
    drafter.table = make([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4]])
    drafter.begin([3, 9, 1, 2, 3])
    signals = drafter.look().signals
    assert signals[INDEX["from_table"]] == 1
    assert signals[INDEX["match_length"]] == 3  # the run 1 2 3; the text has no longer one, and knows 3 -> 9
    assert signals[INDEX["share"]] == np.float16(170 / 255)
    assert np.isnan(signals[[INDEX["latest"], INDEX["depth"]]]).all()
    assert drafter.draft(1).tokens == [4]
    drafter.extend([5, 1, 2, 3])
    np.testing.assert_array_equal(drafter.agreement()[0], 0)
    signals = drafter.look().signals
    assert signals[INDEX["from_table"]] == 0  # now the text knows it, and is as long
    assert signals[INDEX["match_length"]] == 3
    assert drafter.draft(1).tokens == [5]


def test_growing_table_learns_at_begin():
    drafter = TableDrafter()
    drafter.begin([7])
    drafter.extend([1, 2, 3])
    drafter.begin([8])
    drafter.extend([1])
    assert drafter.draft(8).tokens == [2, 3]  # from the first answer
    assert drafter.look().signals[INDEX["from_table"]] == 1
    drafter.begin([7])  # what followed the prompt counts, the prompt itself does not
    assert drafter.draft(1).tokens == [1]
    drafter.begin([8, 7, 9])
    drafter.begin([8])
    assert drafter.draft(2).tokens == [1, 2]
    assert drafter.info.settings["grows"] is True


def test_growing_stops_at_the_limit(monkeypatch):
    monkeypatch.setattr(module, "GROWTH_LIMIT", 5)
    drafter = TableDrafter()
    for answer in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
        drafter.begin([0])
        drafter.extend(answer)
    drafter.begin([4])
    assert drafter.draft(8).tokens == [5]  # the fifth token; 6 came too late
    drafter.begin([7])
    assert not drafter.look().available
    assert drafter.table.tokens == 5  # type: ignore[attr-defined]


@given(corpora)
def test_growing_counts_equal_a_table_built_at_once(corpus):
    counts = NgramCounts()
    for text in corpus:
        counts.add(text)
    table = make(corpus)
    assert {run: token for run, (token, _) in counts.entries().items()} == {r: e[0] for r, e in table._entries.items()}
    assert all(counts.get(run) == entry for run, entry in counts.entries().items())


def test_table_of_another_tokenizer_is_refused(tmp_path):
    path = tmp_path / "code.safetensors"
    make([[1, 2, 3]], target="model-a").save(path)
    drafter = build(TEXT_DRAFTERS["table"], "table", {"path": str(path)}, "drafter")
    assert drafter.info.name == "table-code"
    assert drafter.info.settings["sha256"]
    drafter.require(["t"], 50)
    drafter.require(["padded", "t"], 4)  # fewer columns, an added token: its own tokens are there
    with pytest.raises(UsageError, match=r"table-code.*model-a"):
        drafter.require(["other"], 50)
    with pytest.raises(UsageError, match=r"table-code.*token 3.*of 3"):
        drafter.require(["t"], 3)
    TableDrafter().require(["any"], 1)


def test_unreadable_tables_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no-such"):
        TableDrafter(path="no-such")
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"not a table at all")
    with pytest.raises(UsageError, match="junk"):
        TableDrafter(path=str(junk))
    save_file({"a": np.zeros(3)}, junk)
    with pytest.raises(UsageError, match=r"junk.*not a table"):
        TableDrafter(path=str(junk))


def test_tokens_outside_the_vocabulary_are_refused():
    with pytest.raises(UsageError, match="50"):
        make([[1, 50]])


def test_shipped_tables_share_a_tokenizer_and_stay_small():
    drafters = [TableDrafter(path=name) for name in ("code", "math", "chat")]
    assert [d.info.name for d in drafters] == ["table-code", "table-math", "table-chat"]
    assert [d.info.settings["domain"] for d in drafters] == ["code", "math", "chat"]
    assert len({d.info.settings["tokenizer"] for d in drafters}) == 1
    for drafter in drafters:
        drafter.require([drafter.info.settings["tokenizer"]], 49152)
        assert module.resolve(drafter.info.settings["path"]).stat().st_size < 500_000
