"""Sampled decoding follows the target's law, with the session's own uniforms in the loop.

Every text of four tokens has a probability that can be written down. Drafts are short, so a text takes several
rounds: a dependence between acceptance and residual draw, between rounds, between texts, or between a policy's choice
and what is accepted shows in the joint law of all four, of two, or of one. Chi-squared, eleven tests a case, each at
an eleventh of 1e-7, so that is the false-alarm probability of a case.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import by_hand
import numpy as np
import pytest
import toy
from scipy import stats

from metasd.core.ledger import Ledger, Totals
from metasd.core.loop import decode
from metasd.core.pool import DrafterInfo, Pool
from metasd.drafters import LookupDrafter
from metasd.policies import make
from metasd.runtime.models import ModelDrafter
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession

SIZE, LENGTH, TEXTS, TEMPERATURE = 4, 4, 250, 1.4
PROMPT = [0, 1, 2, 0, 1, 2]


def table(following: float, skipping: float, staying: float, seed: int) -> np.ndarray:
    """Logits that at TEMPERATURE give about these chances to the number after the last of 0, 1, 2, 0, ..., to the one
    behind that, and to the last again; what is left is for 3."""
    chances = np.zeros((SIZE, SIZE, SIZE))
    for last in range(SIZE):
        chances[:, last, (last + 1) % 3] = following
        chances[:, last, (last + 2) % 3] = skipping
        chances[:, last, last % 3] = staying
        chances[:, last, 3] = 1 - following - skipping - staying
    return TEMPERATURE * np.log(chances * np.random.default_rng(seed).uniform(0.9, 1.1, chances.shape))


TARGET, NEAR, FAR = table(0.55, 0.18, 0.16, 1), table(0.45, 0.25, 0.2, 2), table(0.15, 0.7, 0.1, 3)
WARM, TOP_K, TOP_P = Sampling(TEMPERATURE), Sampling(TEMPERATURE, top_k=3), Sampling(TEMPERATURE, top_p=0.8)
LOOKUP, PLAIN = (1, 2), (-1, 0)
CASES = {
    "near": (NEAR, [(0, 1)], WARM),
    "far": (FAR, [(0, 2)], TOP_K),
    "lookup": (NEAR, [LOOKUP], TOP_P),
    "lookup-or-plain": (NEAR, [LOOKUP, PLAIN], WARM),
}
"""What the model drafter says, the arms that a policy draws among, and how all sample."""

Text = tuple[int, ...]


def law(sampling: Sampling) -> dict[Text, float]:
    """The probability of every text of LENGTH tokens of the target."""
    how = (sampling.temperature, sampling.top_k, sampling.top_p)
    texts: dict[Text, float] = {(): 1.0}
    for _ in range(LENGTH):
        grown: dict[Text, float] = {}
        for text, chance in texts.items():
            before, last = [*PROMPT, *text][-2:]
            for token, p in enumerate(by_hand.distribution(TARGET[before, last], *how)):
                if p > 0:
                    grown[(*text, token)] = chance * p
        texts = grown
    return texts


def decoded(drafter: np.ndarray, arms: list[tuple[int, int]], sampling: Sampling) -> tuple[list[Text], Totals]:
    """The texts of a session whose arms are drawn by the policy ``random``, and their sums."""
    info = DrafterInfo("model", "model", free=False, deterministic=False)
    model = ModelDrafter(info, toy.TableModel(drafter), vocab_size=SIZE, sampling=sampling)
    drafters = [model, LookupDrafter(draft_length=2)]
    pool = Pool([d.info for d in drafters], arms)
    prompts = [(f"p{i}", PROMPT) for i in range(TEXTS)]
    target = toy.target(TARGET)
    session = LiveSession(target, drafters, pool, prompts, max_new_tokens=LENGTH, sampling=sampling, seed=5)
    policy, ledger = make("random"), Ledger(pool, TEXTS)
    policy.bind(pool, 1)
    decode(session, policy, ledger)
    return [tuple(text) for text in session.texts], ledger.totals()


def chance_of(texts: list[Text], expected: dict[Text, float], look: Sequence[int]) -> float:
    """The p-value of the tokens that ``texts`` have at the positions ``look``; rare ones count as one."""
    wanted: Counter[Text] = Counter()
    for text, p in expected.items():
        wanted[tuple(text[i] for i in look)] += p * len(texts)
    seen = Counter(tuple(text[i] for i in look) for text in texts)
    common = [tokens for tokens in wanted if wanted[tokens] >= 5]
    assert len(common) > 2
    observed, due = [seen[tokens] for tokens in common], [wanted[tokens] for tokens in common]
    if len(texts) - sum(due) >= 1:
        observed, due = [*observed, len(texts) - sum(observed)], [*due, len(texts) - sum(due)]
    return float(stats.chi2.sf(sum((o - d) ** 2 / d for o, d in zip(observed, due, strict=True)), len(due) - 1))


@pytest.mark.parametrize("case", CASES)
def test_the_joint_law_of_a_text_is_the_targets(case: str) -> None:
    drafter, arms, sampling = CASES[case]
    expected = law(sampling)
    texts, totals = decoded(drafter, arms, sampling)
    assert set(texts) <= set(expected), "a token that top-k or top-p leaves out"
    looks = [look for count in (1, 2, LENGTH) for look in itertools.combinations(range(LENGTH), count)]
    for look in looks:
        assert chance_of(texts, expected, look) > 1e-7 / len(looks), f"the tokens at {look}"
    assert totals.rounds > 1.5 * TEXTS, "one round a text would say nothing of the next"
    assert 0.2 < totals.accepted / totals.drafted < 0.95
