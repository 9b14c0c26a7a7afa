"""Full information, against what a second look at the finished text says of every start."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Revealed
from metasd.runtime.load import Target
from metasd.runtime.models import ModelDrafter
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession

from .sessions import ARMS, drafters_for
from .sessions import PROMPTS as ONCE

PROMPTS = [*ONCE[:3], ("again", ONCE[0][1])]  # the second time the growing table knows the answer and its end
BUDGET = 30
LONGEST = {0: 8, 1: 3, 2: 5, 3: 4}
Key = tuple[int, int]


def run(
    target: Target, model: Any, *, scope: str, censored: bool = False, temperature: float = 0.0
) -> tuple[LiveSession, list[list[tuple[int, Revealed]]], int]:
    """Decode with random arms; per text, (frontier, what was revealed) after every round, and all catch-up."""
    made, pool = drafters_for(target, model, temperature)
    session = LiveSession(
        target, made, pool, PROMPTS, max_new_tokens=BUDGET, sampling=Sampling(temperature), feedback="full",
        scope=scope, censored=censored,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    seen: list[list[tuple[int, Revealed]]] = [[] for _ in PROMPTS]
    caught = 0
    while not session.done:
        at = session.at[0]
        rounds = session.play(rng.integers(6, size=1))
        seen[at].append((len(session.texts[at]), session.reveal()))
        caught += int(rounds.catch_up[0])
    return session, seen, caught


def truth(
    target: Target, made: list[Any], prompt: list[int], text: list[int]
) -> tuple[dict[Key, tuple], np.ndarray, dict]:
    """By (start, drafter): (proposed, agreeing tokens, text ended inside); agreement [T, D]; signals by start.

    ``made`` go from text to text in order, since the table grows.
    """
    agreement = np.full((len(text), 4), np.nan)
    lengths, signals = {}, {}
    for drafter in made:
        drafter.begin(prompt)
    for start, token in enumerate(text):
        signals[start] = np.array([d.look().signals for d in made])
        for d, drafter in enumerate(made):
            tokens = drafter.draft(LONGEST[d]).tokens
            if tokens:
                agreement[start, d] = tokens[0] == token
                same = [a == b for a, b in zip(tokens, text[start:], strict=False)]
                agreed = same.index(False) if False in same else len(same)
                end = start + agreed == len(text) and text[-1] in target.eos_ids
                lengths[start, d] = (len(tokens), agreed, end)
            drafter.extend([token])
    return lengths, agreement, signals


@pytest.fixture(scope="module")
def ending(tiny_target: Target) -> Target:
    return dataclasses.replace(tiny_target, eos_ids=frozenset({22, 56}))


@pytest.mark.parametrize("scope", ["free", "all"])
def test_greedy_full_information_is_exact_and_never_early(ending: Target, tiny_drafter: Any, scope: str) -> None:
    session, seen, _ = run(ending, tiny_drafter, scope=scope)
    inside = [0, 1] if scope == "free" else [0, 1, 2, 3]
    ends = 0
    made, _ = drafters_for(ending, tiny_drafter)
    for (_, prompt), text, rounds in zip(PROMPTS, session.texts, seen, strict=True):
        lengths, agreement, signals = truth(ending, made, prompt, text)
        agreement[:, [d for d in range(4) if d not in inside]] = np.nan
        delivered: set[Key] = set()
        before = 0
        for frontier, revealed in rounds:
            assert revealed.position.tolist() == list(range(before, frontier))
            np.testing.assert_array_equal(revealed.agreement, agreement[before:frontier])
            rows = list(zip(revealed.start.tolist(), revealed.drafter.tolist(), strict=True))
            assert rows == sorted(set(rows))
            assert not revealed.censored.any()
            due = {
                (s, d)
                for (s, d), (_, agreed, ended) in lengths.items()
                if d in inside and before < s + agreed + (not ended) <= frontier and (ended or s + agreed < len(text))
            }
            assert set(rows) == due, "every length in the round that resolves it, and in no other"
            for i, (s, d) in enumerate(rows):
                told = (revealed.proposed[i], revealed.accepted[i], bool(revealed.ended[i]))
                assert told == lengths[s, d]
                np.testing.assert_array_equal(revealed.signals[i, inside], signals[s][inside])
                ends += told[2]
            delivered |= set(rows)
            before = frontier
        assert delivered
    assert ends > 0


def test_censored_lengths_are_flagged_lower_bounds(ending: Target, tiny_drafter: Any) -> None:
    session, seen, _ = run(ending, tiny_drafter, scope="all", censored=True)
    count = 0
    made, _ = drafters_for(ending, tiny_drafter)
    for (_, prompt), text, rounds in zip(PROMPTS, session.texts, seen, strict=True):
        lengths, _, _ = truth(ending, made, prompt, text)
        for frontier, revealed in rounds:
            cut = revealed.censored
            assert (revealed.accepted[cut] == frontier - revealed.start[cut]).all()
            for s, d, accepted in zip(revealed.start[cut], revealed.drafter[cut], revealed.accepted[cut], strict=True):
                assert accepted <= lengths[int(s), int(d)][1]
                count += 1
    assert count > 0


def test_scope_all_charges_every_token_read(ending: Target, tiny_drafter: Any) -> None:
    """Each model drafter ends with all but the last token read, and each token read was charged once."""
    session, _, caught = run(ending, tiny_drafter, scope="all")
    made, pool = drafters_for(ending, tiny_drafter)
    again = LiveSession(ending, made, pool, PROMPTS[:1], max_new_tokens=BUDGET, feedback="full", scope="all")
    total, drafted_into = 0, 0
    while not again.done:
        rounds = again.play(np.array([5]))  # plain: nothing is read but for the revealer
        total += int(rounds.catch_up[0])
        assert rounds.catch_up_seconds is not None
        assert rounds.catch_up_seconds[0] > 0
        drafted_into += int(rounds.drafted[0])
        if not again.done:  # at the end of a text everyone lets go of it
            assert all(m.lag == 0 for m in made if isinstance(m, ModelDrafter))
    assert drafted_into == 0
    assert total == 2 * (len(PROMPTS[0][1]) + len(again.texts[0]) - 1)
    assert 0 < caught <= sum(2 * (len(p) + len(t) - 1) for (_, p), t in zip(PROMPTS, session.texts, strict=True))


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_scope_all_reads_what_it_charges_behind_drafts_of_its_own(
    ending: Target, tiny_drafter: Any, temperature: float
) -> None:
    """Every token the model is given was drafted from or charged; what a draft got right is not read again."""
    fed: list[int] = []
    hook = tiny_drafter.register_forward_pre_hook(
        lambda _, args, kwargs: fed.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    sampling = Sampling(temperature)
    info = DrafterInfo("model", "model", free=False, deterministic=False)
    made = ModelDrafter(info, tiny_drafter, vocab_size=ending.vocab_size, sampling=sampling)
    pool = Pool([info], [(0, 3), (0, 1), (-1, 0)])
    session = LiveSession(
        ending, [made], pool, PROMPTS, max_new_tokens=BUDGET, sampling=sampling, feedback="full", scope="all"
    )
    rng = np.random.default_rng(3)
    accepted, whole = 0, 0
    while not session.done:
        fed.clear()
        rounds = session.play(rng.integers(3, size=1))
        assert sum(fed) == int(rounds.catch_up[0] + rounds.drafted[0])
        accepted += int(rounds.accepted[0])
        whole += int(0 < rounds.drafted[0] == rounds.accepted[0])
    hook.remove()
    assert accepted > 0
    assert whole > 0


def test_sampled_agreement_is_min_one_q_over_p(ending: Target, tiny_drafter: Any) -> None:
    session, seen, _ = run(ending, tiny_drafter, scope="all", temperature=0.9)
    sampling = Sampling(0.9)
    for (_, prompt), text, rounds in zip(PROMPTS, session.texts, seen, strict=True):
        told = np.concatenate([revealed.agreement for _, revealed in rounds])
        ids = torch.tensor([prompt + text])
        with torch.inference_mode():
            p = sampling.probs(ending.model(ids).logits[0, len(prompt) - 1 : -1])
            q = sampling.probs(tiny_drafter(ids).logits[0, len(prompt) - 1 : -1])
        chosen = torch.tensor(text)[:, None]
        expected = (q.gather(1, chosen) / p.gather(1, chosen))[:, 0].clamp(max=1).numpy()
        np.testing.assert_allclose(told[:, 2], expected, rtol=2**-10, atol=1e-7)
        assert np.isin(told[:, 0][~np.isnan(told[:, 0])], (0, 1)).all()
        for _, revealed in rounds:
            assert set(revealed.drafter.tolist()) <= {0, 1}, "what a sampling drafter would have drawn is not known"


def test_the_pool_is_the_one_assumed_here() -> None:
    assert {d: max(n for a, n in ARMS if a == d) for d in range(4)} == LONGEST
