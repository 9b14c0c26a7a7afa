"""Stop strings: the tokens are those of ``generate(stop_strings=...)``, live, recorded, replayed and distilled."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from metasd.core.prompts import Prompt
from metasd.distill.answers import batch_answers
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime.conversation import EncodedPrompt, encode_all, stops_of
from metasd.runtime.load import Target, as_target
from metasd.runtime.registry import build_drafters
from metasd.runtime.stops import ends_in, shown
from metasd.sim.replay.fidelity import check
from metasd.traces import open_trace

BUDGET = 30


@pytest.fixture(scope="module")
def target() -> Target:
    return as_target(tiny.llama(3, 2, torch.float32, vocab_size=tiny.LETTERS), tiny.letters(), "tiny-letters")


def plain(target: Target, ids: list[int], **more: object) -> list[int]:
    given = torch.tensor([ids])
    out = target.model.generate(
        given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=BUDGET, **more
    )
    return out[0, len(ids) :].tolist()


@pytest.fixture(scope="module")
def prompts(target: Target) -> list[Prompt]:
    """Each with two stop strings, of which its own answer holds the second in its middle, over several tokens."""
    made = []
    for i, text in enumerate(("hello", "abab")):
        ids = plain(target, target.encode(text))
        answer = target.tokenizer.decode(ids)
        middle = next(m for k in range(8, 24) if answer.find(m := answer[k : k + 3]) == k)
        made.append(Prompt(f"p{i}", "d", (text,), stop=("never said", middle)))
    return made


def texts_of(target: Target, prompts: list[Prompt]) -> list[EncodedPrompt]:
    return encode_all(target, prompts, raw=False, max_new_tokens=BUDGET)


@pytest.fixture(scope="module")
def wanted(target: Target, prompts: list[Prompt]) -> list[list[int]]:
    """What generate gives."""
    return [
        plain(target, tokens, stop_strings=list(p.stop), tokenizer=target.tokenizer)
        for p, (_, _, tokens) in zip(prompts, texts_of(target, prompts), strict=True)
    ]


def test_decoding_ends_where_generate_ends_and_replay_agrees(
    target: Target, prompts: list[Prompt], wanted: list[list[int]], tmp_path: Path
) -> None:
    def build(length: int = 4):
        return build_drafters(["lookup", "table"], target, draft_length=length)

    texts, stops = texts_of(target, prompts), stops_of(prompts)
    how = live.Decoding(max_new_tokens=BUDGET, stops=stops)
    entrants = live.contenders(["default", "random"], build, baseline=False, prior=None)
    live.run(target, entrants, texts, how)
    assert all(len(tokens) < BUDGET for tokens in wanted)
    assert [e.session.texts for e in entrants] == [wanted] * len(entrants)

    drafters, pool = build()
    record(target, drafters, pool, texts, tmp_path / "t", max_new_tokens=BUDGET, stops=stops)
    trace = open_trace(tmp_path / "t")
    assert trace.ended.all()
    for entrant in entrants:
        assert check(entrant.rounds, [p.id for p in prompts], trace, entrant.spec, budget=BUDGET).identical


def test_the_text_is_cut_before_the_stop_string(target: Target, prompts: list[Prompt], wanted: list[list[int]]) -> None:
    for prompt, tokens in zip(prompts, wanted, strict=True):
        text = target.decode(tokens)
        assert text.endswith(prompt.stop[1])
        assert shown(target, tokens, prompt.stop) == text.removesuffix(prompt.stop[1])


def test_an_end_of_text_before_the_stop_string_counts(target: Target) -> None:
    a, b = target.encode("ab")
    assert ends_in(target, [a], [b, tiny.EOS, a, b], ["abx"]) == 2
    assert ends_in(target, [a], [b, a, tiny.EOS], ["ab"]) == 1
    assert ends_in(target, [], [a, tiny.EOS, b], ["<eos>"]) == 2
    assert ends_in(target, [], [a, b], ["ba"]) > 1 << 30


def test_distilled_answers_end_there_too(target: Target, prompts: list[Prompt], wanted: list[list[int]]) -> None:
    given = [tokens for _, _, tokens in texts_of(target, prompts)]
    answers = list(batch_answers(target, given, BUDGET, lambda n: None, [p.stop for p in prompts]))
    assert sorted(a.tokens for a in answers) == sorted(wanted)
