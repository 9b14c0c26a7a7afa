"""What suggests branches, against searching the whole text and asking the whole table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metasd.core.errors import UsageError
from metasd.drafters import LookupDrafter, TableDrafter
from metasd.drafters.index import RECENT
from metasd.drafters.ngrams import NgramTable
from metasd.drafters.sources import MOST, LaneSources, TableSource, TextSource, rebuilt, source_of

texts = st.lists(st.integers(0, 3), max_size=60)
runs = st.lists(st.integers(0, 3), max_size=9)


def searched(text: list[int], context: list[int], low: int, high: int) -> list[tuple[int, int, float, bool]]:
    """Every run from long to short, every place in the text; the newest followers first."""
    found: list[tuple[int, int, float, bool]] = []
    for order in range(min(high, len(context)), low - 1, -1):
        run = context[len(context) - order :]
        after = [text[i + order] for i in range(len(text) - order) if text[i : i + order] == run][-RECENT:]
        for token in dict.fromkeys(reversed(after)):
            if all(token != known[0] for known in found):
                found.append((token, order, after.count(token) / len(after), token == after[-1]))
    return found[:MOST]


@given(texts, runs, st.integers(1, 2), st.integers(0, 6))
def test_the_text_suggests_what_followed_its_runs(text, context, low, more):
    source = TextSource(low, low + more)
    source.begin(text[:20])
    source.suggest(tuple(context))  # what is kept of it must not outlive the text's growth
    source.extend(text[20:])
    assert source.suggest(tuple(context)) == searched(text, context, low, low + more)
    assert source.suggest(tuple(context)) == searched(text, context, low, low + more)


@given(st.lists(texts, max_size=4), runs)
def test_a_table_suggests_its_entries_of_every_length(corpus, context):
    table = NgramTable.build(corpus, tokenizer="t", vocabulary=9)
    wanted: dict[int, tuple[int, int, float, bool]] = {}
    for order in range(min(4, len(context)), 0, -1):
        entry = table.get(tuple(context[len(context) - order :]))
        if entry is not None:
            wanted.setdefault(entry[0], (entry[0], order, entry[1], False))
    assert TableSource(table).suggest(tuple(context)) == list(wanted.values())


def test_the_text_stops_at_its_most():
    source = TextSource(1, 4)
    source.begin([t for n in range(12) for t in (0, n + 1)])
    assert [s[0] for s in source.suggest((0,))] == [12, 11, 10, 9, 8, 7, 6, 5]


def test_a_lane_keeps_its_sources_up_with_the_text():
    lane = LaneSources([(0, TextSource(1, 3))])
    lane.begin([5, 6, 7, 5])
    assert lane.tail == (6, 7, 5)
    assert lane.sources[0][1].suggest(lane.tail) == [(6, 1, 1.0, True)]
    lane.extend([8, 5])
    assert lane.tail == (5, 8, 5)
    assert lane.sources[0][1].suggest(lane.tail) == [(8, 1, 0.5, True), (6, 1, 0.5, False)]
    lane.begin([1, 2])
    assert lane.sources[0][1].suggest((5,)) == []


def test_sources_are_made_anew_from_what_a_manifest_says():
    lookup = rebuilt(LookupDrafter(min_match=2, max_match=5).info)
    assert isinstance(lookup, TextSource)
    assert lookup.reach == 5
    lookup.begin([1, 2, 3, 1])
    assert lookup.suggest((1,)) == []  # shorter than its shortest match
    shipped = TableDrafter("code")
    again, own = rebuilt(shipped.info), source_of(shipped)
    assert again is not None
    assert own is not None
    run = next(r for r in shipped.table._entries if len(r) == 4)
    assert again.suggest(run) == own.suggest(run) != []
    assert rebuilt(TableDrafter().info) is None  # it depends on the texts before
    assert source_of(object()) is None


def test_another_table_under_the_same_name_is_refused():
    info = TableDrafter("code").info
    with pytest.raises(UsageError, match="another sha256"):
        rebuilt(replace(info, settings={**info.settings, "sha256": "0" * 64}))
