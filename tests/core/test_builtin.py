"""The prompts that ship: enough of each, none twice, none kept for evaluation among those trained on."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from metasd.core import builtin
from metasd.core.errors import UsageError
from metasd.core.ids import check_ids
from metasd.core.prompts import Prompt

TRAINED = ("code", "math", "translation", "summary", "qa", "chat")
UNTRAINED = ("letters", "recipes")
WORDS, TRIPLES = 0.6, 0.35
"""Largest Jaccard overlap of two prompts' words, and of their runs of three words, that are still two prompts."""


def prompts(*names: str) -> list[Prompt]:
    return [p for name in names for p in builtin.load(name)]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def overlap(left: list[Prompt], right: list[Prompt], run: int = 1) -> np.ndarray:
    """[l, r] Jaccard overlap of the sets of runs of ``run`` words."""
    places: dict[tuple[str, ...], int] = {}
    made = []
    for side in (left, right):
        sets = [set(zip(*(words(p.text)[i:] for i in range(run)), strict=False)) for p in side]
        columns = [places.setdefault(each, len(places)) for runs in sets for each in runs]
        made.append((np.array([len(runs) for runs in sets]), columns))
    (n, a), (m, b) = made
    shape = len(places)
    rows = [csr_array((np.ones(len(c)), c, np.cumsum([0, *k])), shape=(len(k), shape)) for k, c in ((n, a), (m, b))]
    both = (rows[0] @ rows[1].T).toarray()
    return both / np.maximum(n[:, None] + m - both, 1)


def alike(left: list[Prompt], right: list[Prompt]) -> list[tuple[str, str]]:
    """Ids of the pairs that are nearly one prompt."""
    near = (overlap(left, right) > WORDS) | (overlap(left, right, 3) > TRIPLES)
    return [(left[i].id, right[j].id) for i, j in zip(*near.nonzero(), strict=True) if left[i].id != right[j].id]


def test_there_are_enough_of_each():
    train, untrained, held = (Counter(p.domain for p in prompts(n)) for n in ("train", "untrained", "eval"))
    assert set(train) == set(TRAINED)
    assert set(untrained) == set(UNTRAINED)
    assert list(held) == [*TRAINED, *UNTRAINED]
    assert min(*train.values(), *untrained.values()) >= 60
    assert min(held.values()) >= 16
    assert len(prompts("two-task")) >= 32
    assert len({p.domain for p in prompts("two-task")}) >= 24  # pairs of tasks, not one pair over and over


def test_every_set_is_listed_and_every_id_differs():
    assert {p.stem for p in builtin.BUNDLED.glob("*.jsonl")} == set(builtin.SETS)
    check_ids(prompts(*builtin.SETS))
    ids = [p.id for p in prompts(*builtin.SETS)]
    assert len(set(ids)) == len(ids)


def test_no_prompt_stands_there_twice_or_nearly():
    assert alike(*[prompts("train", "untrained", "eval", "two-task")] * 2) == []


def test_nothing_kept_for_evaluation_is_among_what_is_trained_on_or_recorded():
    kept = prompts(*builtin.KEPT)
    others = prompts(*(name for name in builtin.SETS if name not in builtin.KEPT))
    assert alike(kept, others) == []
    builtin.refuse_evaluation(others)


def test_the_measure_of_likeness_sees_one_template_with_other_numbers():
    base = "A shop sells 12 apples for 3 dollars and 8 pears for 4 dollars. What do 24 apples cost?"
    other = base.replace("12", "15").replace("24", "30")
    assert alike([Prompt("a", "d", (base,))], [Prompt("b", "d", (other,))]) == [("a", "b")]


def test_reworded_prompts_map_to_their_originals():
    held = {p.id: p for p in prompts("eval")}
    reworded = prompts("reworded")
    origins = [builtin.original(p.id) for p in reworded]
    assert origins == [p.id for p in held.values() if p.domain in TRAINED]
    for p, origin in zip(reworded, origins, strict=True):
        assert p.domain == held[origin].domain
        assert not p.text.startswith(held[origin].text[:30])
    shared = overlap(reworded, [held[origin] for origin in origins])
    free = [o for o, p in zip(shared.diagonal(), reworded, strict=True) if p.domain in ("code", "math", "chat", "qa")]
    assert max(free) < WORDS  # passages to translate or sum up stay; all else is said in other words
    stems = [{w[:5] for w in words(p.text) if len(w) > 3 or w.isdigit()} for p in reworded]
    asked = [{w[:5] for w in words(held[o].text) if len(w) > 3 or w.isdigit()} for o in origins]
    near = [np.argmax([len(a & b) / len(a | b) for b in asked]) for a in stems]
    assert np.mean(near == np.arange(len(near))) > 0.75  # each is nearest to its own original; shifted by one none is
    assert builtin.original("eval-code-01") is None


def test_lengths_are_mixed():
    for domain in (*TRAINED, *UNTRAINED):
        lengths = [len(p.text) for p in prompts("train", "untrained") if p.domain == domain]
        assert max(lengths) > 2 * min(lengths)
        assert max(lengths) < 1300


def test_domains_are_chosen_by_name(tmp_path, monkeypatch):
    both = builtin.load("train/code+math")
    assert both == [p for p in builtin.load("train") if p.domain in ("code", "math")]
    assert {p.domain for p in both} == {"code", "math"}
    with pytest.raises(UsageError, match=r"'eval' have no domain 'poems'; there are code, math"):
        builtin.load("eval/poems")
    with pytest.raises(UsageError, match=r"'nothing'; there are .*two-task"):
        builtin.load("nothing")
    assert builtin.is_builtin("eval")
    assert builtin.is_builtin(Path("eval/code"))
    assert not builtin.is_builtin("-")
    assert not builtin.is_builtin("eval.jsonl")
    assert not builtin.is_builtin("mine/code")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eval").write_text("")
    assert not builtin.is_builtin("eval")
    assert builtin.shown_name(Path("train/code")) == "train/code"
    assert builtin.shown_name(Path("some/where/p.jsonl")) == "p.jsonl"


@pytest.mark.parametrize("name", ["eval", "reworded", "two-task"])
def test_evaluation_prompts_are_refused_as_training(name):
    train = builtin.load("train")
    kept = builtin.load(name)[3]
    copied = replace(kept, id="mine", turns=("Hello there.", "  " + kept.text.upper().replace(" ", "\n")))
    with pytest.raises(UsageError, match=rf"'mine' is '{kept.id}', kept for evaluation"):
        builtin.refuse_evaluation([*train, copied])
    with pytest.raises(UsageError, match="and 2 more"):
        builtin.refuse_evaluation(builtin.load(name)[:3])
