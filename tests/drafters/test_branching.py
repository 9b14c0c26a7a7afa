"""Tables that keep several continuations of a run: what stays as it was, what the file holds, what becomes branches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from metasd.core.errors import UsageError
from metasd.drafters import TableDrafter
from metasd.drafters.ngrams import NgramTable
from metasd.drafters.sources import BranchingTable, TableSource, source_of
from metasd.policies.planner.candidates import Candidates
from metasd.policies.planner.cells import cold_weights

ABOUT = {"tokenizer": "t", "vocabulary": 9}
TEXT = [1, 2, 3, 1, 2, 4, 1, 2, 4, 1, 2, 5, 1, 2, 6, 1, 2, 6]
"""Behind (1, 2): 4 and 6 twice, 4 first; then 3, then 5."""
corpora = st.lists(st.lists(st.integers(0, 4), max_size=30), max_size=4)


@given(corpora, st.integers(2, 5))
def test_the_first_continuation_is_what_it_was_and_the_others_are_the_next_in_number(corpus, best):
    one, more = NgramTable.build(corpus, **ABOUT), NgramTable.build(corpus, **ABOUT, best=best)
    assert one._entries == more._entries
    assert not one.others
    followed: dict[tuple[int, ...], Counter] = {}
    for text in corpus:
        for here in range(1, len(text)):
            for order in range(1, min(4, here) + 1):
                followed.setdefault(tuple(text[here - order : here]), Counter())[text[here]] += 1
    for run, counts in followed.items():
        told = [more.get(run)[0], *(token for token, _ in more.others.get(run, ()))]
        assert len(told) == len(set(told)) == min(best, len(counts))
        assert [counts[token] for token in told] == sorted(counts.values(), reverse=True)[:best]
        for token, share in more.others.get(run, ()):
            assert share == pytest.approx(counts[token] / counts.total(), abs=1 / 255)


def test_the_file_keeps_them_and_a_reader_of_chains_finds_its_own(tmp_path: Path) -> None:
    one, more = NgramTable.build([TEXT], **ABOUT), NgramTable.build([TEXT], **ABOUT, best=3)
    assert [token for token, _ in more.others[1, 2]] == [6, 3]
    one.save(tmp_path / "one.safetensors")
    more.save(tmp_path / "more.safetensors")
    back = NgramTable.load(tmp_path / "more.safetensors")
    assert (back._entries, back.others, back.info) == (more._entries, more.others, more.info)
    old, new = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "more.safetensors")
    assert not NgramTable.load(tmp_path / "one.safetensors").others
    assert {name: array.tolist() for name, array in old.items()} == {name: new[name].tolist() for name in old}
    assert set(new) - set(old) == {
        f"{name}{k}" for name in ("others", "others_tokens", "others_shares") for k in (1, 2, 3, 4)
    }
    assert NgramTable.build([[1, 2, 1, 8, 1, 2]], **ABOUT, best=2).largest() == 8


def test_a_damaged_file_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "table.safetensors"
    NgramTable.build([TEXT], **ABOUT, best=3).save(path)
    about = NgramTable.load(path).info
    arrays = load_file(path)
    arrays["others2"] = np.full_like(arrays["others2"], 99)
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file(arrays, path, metadata)
    with pytest.raises(UsageError, match="cannot be read"):
        NgramTable.load(path)
    assert about.order == 4


def test_they_become_branches_and_a_chain_is_drafted_as_before(tmp_path: Path) -> None:
    drafters = []
    for best in (1, 3):
        path = tmp_path / f"{best}.safetensors"
        NgramTable.build([TEXT], **ABOUT, best=best).save(path)
        drafters.append(TableDrafter(str(path)))
    one, more = (source_of(d) for d in drafters)
    assert (type(one), type(more)) == (TableSource, BranchingTable)
    assert [(t, order) for t, order, _, _ in one.suggest((7, 1, 2))] == [(4, 2)]
    assert [(t, order) for t, order, _, _ in more.suggest((7, 1, 2))] == [(4, 2), (6, 2), (3, 2)]
    assert more.suggest((7,)) == []
    weights = cold_weights().tolist()
    tokens = [[c[0] for c in Candidates([(0, s)], None).after((7, 1, 2), 0, weights)] for s in (one, more)]
    assert tokens == [[4], [4, 6, 3]]
    for drafter in drafters:
        drafter.begin([7, 1, 2])
    assert drafters[0].draft(6).tokens == drafters[1].draft(6).tokens
