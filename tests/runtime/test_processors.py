"""Generation settings that a target ships: the text is generate's whatever drafts, and its law above temperature 0."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import shipped
import tiny
import torch
from scipy import stats
from shipped import ARMS, BUDGET, PROMPTS, SETTINGS, TOGETHER, generated
from transformers import LlamaForCausalLM

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.prompts import Prompt
from metasd.core.records import Rounds, concatenate
from metasd.drafters import LookupDrafter
from metasd.runtime.conversation import encode_all
from metasd.runtime.load import Target, as_target
from metasd.runtime.models import ModelDrafter
from metasd.runtime.processors import APPLIED, REFUSED
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession

MAKERS = (shipped.llama, shipped.gpt2)
MIXED = [2, 0, 3, 1, 4, 2]


def decoded(target: Target, arms: list[int], budget: int = BUDGET) -> tuple[list[list[int]], Rounds]:
    drafters, pool = shipped.build(target)
    session = LiveSession(target, drafters, pool, PROMPTS, max_new_tokens=budget)
    turns, rounds = cycle(arms), []
    while not session.done:
        rounds.append(session.play(np.array([next(turns)])))
    return session.texts, concatenate(rounds)


def expected(target: Target, **more: Any) -> list[list[int]]:
    return [generated(target, prompt, **more) for _, prompt in PROMPTS]


@cache
def plain(make: Any) -> list[list[int]]:
    return expected(make())


def test_every_setting_has_a_case() -> None:
    assert set(SETTINGS) == set(APPLIED)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_alone_gives_the_text_of_generate(make: Any, name: str) -> None:
    target = make(**{name: SETTINGS[name]})
    texts, rounds = decoded(target, MIXED)
    assert texts == expected(target)
    assert rounds.drafted.sum() > 0
    if name not in ("remove_invalid_values", "renormalize_logits"):
        assert texts != plain(make), "the setting must change a text, or this shows nothing"


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("arm", range(len(ARMS)))
def test_all_settings_together_with_each_drafter(make: Any, arm: int) -> None:
    target = make(**TOGETHER)
    texts, rounds = decoded(target, [arm])
    assert texts == expected(target)
    assert (rounds.drafted.sum() > 0) == (ARMS[arm][1] > 0)


def test_texts_end_at_every_end_token_and_budgets_move_the_forced_one() -> None:
    target = shipped.llama(forced_eos_token_id=12)
    for budget in (1, 5, 9):
        texts, _ = decoded(target, MIXED, budget)
        assert texts == expected(target, budget=budget)
        assert all(text[-1] in target.eos_ids | {12} for text in texts)


def test_what_is_ignored_leaves_the_end_tokens() -> None:
    target = shipped.llama(**TOGETHER)
    texts, _ = decoded(target.without_settings(), MIXED)
    assert texts == plain(shipped.llama)
    assert target.without_settings().settings.ignored
    assert target.without_settings().eos_ids == target.eos_ids == frozenset({3, 1})


def test_nothing_shipped_costs_nothing() -> None:
    assert shipped.llama().processors() is None
    assert shipped.llama(repetition_penalty=1.0, no_repeat_ngram_size=0, num_beams=1).processors() is None
    assert shipped.llama(temperature=0.6, top_k=20, do_sample=True).processors() is None, "sampling is the user's"


UNFIT: dict[str, Any] = {
    "num_beams": 4,
    "penalty_alpha": 0.6,
    "guidance_scale": 1.5,
    "dola_layers": "low",
    "stop_strings": ["x"],
    "max_time": 2.0,
    "watermarking_config": {"bias": 2.0},
    "token_healing": True,
}


@pytest.mark.parametrize(("name", "value"), UNFIT.items())
def test_what_cannot_be_honoured_is_named(name: str, value: Any) -> None:
    target = shipped.llama(**{name: value})
    with pytest.raises(UsageError, match=f"{name}.*--ignore-generation-config"):
        LiveSession(target, [], Pool([], [(-1, 0)]), PROMPTS)
    assert target.without_settings().processors() is None
    assert name in REFUSED


@pytest.mark.parametrize("bad", [{"bad_words_ids": []}, {"sequence_bias": [[[99], 1.0]]}, {"repetition_penalty": -1.0}])
def test_settings_that_transformers_does_not_take_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))}.*--ignore-generation-config"):
        shipped.llama(**bad).processors()


# -- above temperature 0 --------------------------------------------------------------------------------------------

WORDS, LIMIT, TEXTS = 6, 3, 800
LAW_PROMPT = [2, 3, 2, 3, 2]
LAW = {"repetition_penalty": 2.5, "suppress_tokens": [4], "min_new_tokens": 1, "eos_token_id": [1, 5]}


class Bigrams(LlamaForCausalLM):
    """Logits by the last token alone, and no work at all: thousands of texts take seconds."""

    def forward(self, input_ids: Any, past_key_values: Any = None, **unused: Any) -> Any:
        kept = input_ids.float()[:, None, :, None]
        past_key_values.update(kept, kept, 0)  # a target must keep a cache, though this one does not read it
        return SimpleNamespace(logits=self.bigrams[input_ids])


def law_target() -> Target:
    config = tiny.llama(0, 1, vocab_size=WORDS, hidden_size=2, intermediate_size=2).config
    model = Bigrams(config).eval()
    model.bigrams = 1.2 * torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(3))
    model.generation_config.update(**LAW)
    return as_target(model, tiny.tokenizer(WORDS), "tiny")


def law(target: Target, temperature: float) -> dict[tuple[int, ...], float]:
    """Every text with its chance, from the definitions of the settings and not from their code."""
    found: dict[tuple[int, ...], float] = {}

    def follow(text: tuple[int, ...], chance: float) -> None:
        if text and (text[-1] in (1, 5) or len(text) == LIMIT):
            found[text] = chance
            return
        prefix = [*LAW_PROMPT, *text]
        logits = target.model.bigrams[prefix[-1]].double().numpy().copy()
        for token in set(prefix):
            logits[token] = logits[token] * 2.5 if logits[token] < 0 else logits[token] / 2.5
        weights = np.exp(logits / temperature)
        weights[[4] if text else [1, 4, 5]] = 0.0
        for token in np.flatnonzero(weights).tolist():
            follow((*text, token), chance * weights[token] / weights.sum())

    follow((), 1.0)
    return found


@pytest.mark.parametrize("kind", ["lookup", "model"])
def test_sampled_texts_have_the_law_of_the_settings(kind: str) -> None:
    """Chi-squared over all texts; false alarm 1e-7."""
    target, sampling = law_target(), Sampling(0.8)
    chances = law(target, 0.8)
    assert sum(chances.values()) == pytest.approx(1)
    made: Any = LookupDrafter(draft_length=2)
    if kind == "model":
        info = DrafterInfo("own", "model", free=False, deterministic=False)
        made = ModelDrafter(info, target.model, vocab_size=WORDS, sampling=sampling)
    prompts = [(f"p{i}", LAW_PROMPT) for i in range(TEXTS)]
    pool = Pool([made.info], [(0, 2)])
    session = LiveSession(target, [made], pool, prompts, max_new_tokens=LIMIT, sampling=sampling)
    rounds = []
    while not session.done:
        rounds.append(session.play(np.array([0])))
    assert 0 < concatenate(rounds).accepted.sum() < concatenate(rounds).drafted.sum()
    seen = Counter(map(tuple, session.texts))
    assert set(seen) <= set(chances)
    common = [text for text, chance in chances.items() if chance * TEXTS >= 8]
    counts = np.array([*(seen[text] for text in common), 0])
    wanted = np.array([*(chances[text] * TEXTS for text in common), 0.0])
    counts[-1], wanted[-1] = TEXTS - counts.sum(), TEXTS - wanted.sum()
    assert len(common) > 10
    assert wanted[-1] > 5
    assert stats.chisquare(counts, wanted).pvalue > 1e-7


def test_a_later_turn_has_the_whole_conversation_as_its_prompt() -> None:
    target = shipped.llama(repetition_penalty=1.4, min_new_tokens=3)
    target.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    turns = ("w5 w9", "w7 w8")
    first, second = encode_all(target, [Prompt("p", "d", turns)], raw=False, max_new_tokens=6)
    answer = target.decode(generated(target, first[2], 6))
    roles = ("user", "assistant", "user")
    said = [{"role": r, "content": t} for r, t in zip(roles, (turns[0], answer, turns[1]), strict=True)]
    assert second[2] == target.encode(said)
    drafters, pool = shipped.build(target)
    session = LiveSession(target, drafters, pool, [(second[0], second[2])], max_new_tokens=BUDGET)
    while not session.done:
        session.play(np.array([2]))
    assert session.texts == [generated(target, second[2])]
