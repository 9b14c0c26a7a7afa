"""``metasd run``, sampled, with two ends of text and two turns: every number against a plain implementation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import by_hand
import tiny

from metasd.cli import main

TEMPERATURE, TOP_K, TOP_P, SEED, BUDGET, LENGTH = 1.1, 9, 0.92, 3, 12, 3
ENDS = (5, 12)
ASKED = {"p0": ([2, 3, 2, 3], [7, 2, 3]), "p1": ([8, 9, 4], [9, 4, 8]), "p2": ([6], [6, 6, 10]), "p3": ([11, 2], [3])}
DOMAINS = {"p0": "even", "p1": "odd", "p2": "even", "p3": "odd"}
USER, ASSISTANT = 20, 21
TEMPLATE = (
    f"{{% for m in messages %}}{{{{ 'w{USER}' if m['role'] == 'user' else 'w{ASSISTANT}' }}}} {{{{ m['content'] }}}} "
    f"{{% endfor %}}{{% if add_generation_prompt %}}w{ASSISTANT}{{% endif %}}"
)
MODEL, LOOKUP, PLAIN = "fixed:arm=small@3", "fixed:arm=lookup@3", "fixed:arm=plain"
POLICY = "fixed:arm=small"


@dataclass
class Case:
    """A run's JSON document, and what a plain implementation says of every text under every policy."""

    document: dict[str, Any]
    names: list[str]
    by_hand: dict[str, list[by_hand.Decoded]]

    def row(self, policy: str, domain: str = "all") -> dict[str, Any]:
        (found,) = (r for r in self.document["results"] if (r["policy"], r["domain"]) == (policy, domain))
        return found

    def texts(self, policy: str, domain: str = "all") -> list[by_hand.Decoded]:
        pairs = zip(self.names, self.by_hand[policy], strict=True)
        return [text for name, text in pairs if domain in ("all", DOMAINS[name.split("#")[0]])]


def said(tokens: list[int]) -> str:
    return " ".join(f"w{t}" for t in tokens)


def conversations(greedy: by_hand.Law) -> list[tuple[str, list[int]]]:
    """Name and prompt tokens of every turn; the second is asked after the target's own greedy answer to the first."""
    found = []
    for name, (first, second) in ASKED.items():
        opening = [USER, *first, ASSISTANT]
        answer = by_hand.decode(greedy, by_hand.Drafter(), opening, BUDGET, ENDS, 0, name).tokens
        spoken = [token for token in answer if token > tiny.EOS]  # special tokens are not part of what was said
        found += [(name, opening), (f"{name}#2", [*opening, *spoken, USER, *second, ASSISTANT])]
    return found


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("by-hand")
    target = tiny.llama(7, layers=2)
    target.generation_config.eos_token_id = list(ENDS)
    small = tiny.near(target, 0.25)
    words = tiny.tokenizer()
    words.chat_template = TEMPLATE
    tiny.save(target, words, folder / "target")
    tiny.save(small, words, folder / "small")
    lines = [{"question_id": n, "category": DOMAINS[n], "turns": [said(t) for t in ASKED[n]]} for n in ASKED]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {
        "--target": folder / "target", "--prompts": folder / "prompts.jsonl", "--turns": "all", "--dtype": "float64",
        "--draft-length": LENGTH, "--max-new-tokens": BUDGET, "--seed": SEED, "--policy": POLICY,
        "--temperature": TEMPERATURE, "--top-k": TOP_K, "--top-p": TOP_P,
    }  # fmt: skip
    pool = ["--drafter", "lookup", "--drafter", f"model:path={folder / 'small'},name=small", "--baseline", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("metasd.cli.run.emit", lambda document: printed.append(json.dumps(document, allow_nan=False)))
        assert main(["run", *[str(part) for pair in settings.items() for part in pair], *pool]) == 0

    how = (TEMPERATURE, TOP_K, TOP_P)
    law, drafted = by_hand.law_of(target, *how), by_hand.law_of(small, *how)
    texts = conversations(by_hand.law_of(target, 0, None, None))

    def drafter(policy: str, name: str) -> by_hand.Drafter:
        if policy == PLAIN:
            return by_hand.Drafter()
        if policy == LOOKUP:
            return by_hand.Lookup(LENGTH)
        return by_hand.Model(LENGTH, law=drafted, stream=by_hand.key(SEED, name, "draft", "small"))

    decoded = {
        policy: [by_hand.decode(law, drafter(policy, n), p, BUDGET, ENDS, SEED, n) for n, p in texts]
        for policy in (PLAIN, LOOKUP, MODEL, POLICY)
    }
    return Case(json.loads(printed[0]), [name for name, _ in texts], decoded)


def test_the_texts_are_those_worked_out(case: Case) -> None:
    wanted = case.by_hand[POLICY]
    assert [t["id"] for t in case.document["texts"]] == case.names
    assert [t["token_ids"] for t in case.document["texts"]] == [text.tokens for text in wanted]
    assert [t["text"] for t in case.document["texts"]] == [said([t for t in w.tokens if t > tiny.EOS]) for w in wanted]


def test_the_case_shows_what_it_is_for(case: Case) -> None:
    """Both ends of text end one, some texts use their budget up, drafts fall and stand, drafters disagree."""
    texts = case.by_hand[POLICY]
    assert {text.tokens[-1] for text in texts if len(text.tokens) < BUDGET} == set(ENDS)
    assert any(len(text.tokens) == BUDGET for text in texts)
    for policy in (LOOKUP, POLICY):
        assert 0 < sum(t.accepted for t in case.by_hand[policy]) < sum(t.drafted for t in case.by_hand[policy])
    assert len({tuple(map(str, case.by_hand[policy])) for policy in (PLAIN, LOOKUP, MODEL)}) == 3


@pytest.mark.parametrize("domain", ["even", "odd", "all"])
@pytest.mark.parametrize("policy", [PLAIN, LOOKUP, MODEL, POLICY])
def test_the_sums_are_those_worked_out(case: Case, policy: str, domain: str) -> None:
    row, texts = case.row(policy, domain), case.texts(policy, domain)
    sums = {name: sum(getattr(t, name) for t in texts) for name in ("rounds", "drafted", "accepted", "catch_up")}
    emitted = sum(len(t.tokens) for t in texts)
    assert {name: row[name] for name in sums} == sums
    assert (row["prompts"], row["emitted"], row["switches"]) == (len(texts), emitted, 0)
    assert (
        sum(row["arms"].values()) == row["arms"][(MODEL if policy == POLICY else policy).split("=")[1]] == row["rounds"]
    )
    assert row["tokens_per_round"] == pytest.approx(emitted / sums["rounds"])
    assert row["acceptance"] == (sums["accepted"] / sums["drafted"] if sums["drafted"] else None)
    assert row["tokens_per_second"] == pytest.approx(emitted / row["seconds"])
    fixed = zip(*(case.texts(other, domain) for other in (PLAIN, LOOKUP, MODEL)), strict=True)
    assert row["regret_rounds"] == sums["rounds"] - sum(min(t.rounds for t in arms) for arms in fixed)


def test_the_document_says_how_it_was_decoded(case: Case) -> None:
    config = case.document["config"]
    asked = {
        "temperature": TEMPERATURE,
        "top_k": TOP_K,
        "top_p": TOP_P,
        "seed": SEED,
        "turns": "all",
        "dtype": "float64",
    }
    assert {name: config[name] for name in asked} == asked
