"""A target's generation settings in what is recorded and distilled: the text is generate's, the columns follow it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import shipped
from shipped import BUDGET, PROMPTS, TOGETHER, generated

from metasd.core.errors import UsageError
from metasd.distill.answers import batch_answers
from metasd.drafters.base import Draft
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.identity import identity_of
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling
from metasd.runtime.verify import Verifier
from metasd.sim.replay.fidelity import check
from metasd.sim.replay.identity import check_same_texts
from metasd.traces import Trace, open_trace

TEXTS = [(name, "all of them", prompt) for name, prompt in PROMPTS]
IDS = [name for name, _ in PROMPTS]


def recorded(target: Target, out: Path, sampling: Sampling | None = None) -> tuple[Trace, dict[str, Any]]:
    drafters, pool = shipped.build(target, sampling)
    summary = record(target, drafters, pool, TEXTS, out, max_new_tokens=BUDGET, sampling=sampling)
    return open_trace(out), summary


@pytest.fixture(scope="module", params=[shipped.llama, shipped.gpt2], ids=["llama", "gpt2"])
def made(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Target, Trace, dict[str, Any]]:
    target = request.param(**TOGETHER)
    return target, *recorded(target, tmp_path_factory.mktemp("processed") / "t")


def test_the_recorded_text_is_generates(made: tuple[Target, Trace, dict[str, Any]]) -> None:
    target, trace, summary = made
    for tokens, (_, prompt) in zip(np.split(trace.tokens, trace.offsets[1:-1]), PROMPTS, strict=True):
        assert tokens.tolist() == generated(target, prompt)
    assert summary["mismatches"] == 0, "the wide pass is processed as the narrow ones"
    assert trace.manifest["config"]["generation"] == TOGETHER
    assert trace.manifest["config"]["ignore_generation_config"] is False


@pytest.mark.parametrize("spec", ["metasd-ucb", "random"])
def test_a_run_is_its_replay(made: tuple[Target, Trace, dict[str, Any]], spec: str) -> None:
    """The first reads overlap and chooses by it, the second rejects and switches."""
    target, trace, _ = made
    entrants = live.contenders([spec], partial(shipped.build, target), baseline=False, prior=None)
    live.run(target, entrants, TEXTS, live.Decoding(max_new_tokens=BUDGET))
    found = check(entrants[0].rounds, IDS, trace, spec, budget=BUDGET, texts=entrants[0].session.texts)
    assert found.identical
    assert found.rejections > 0


def test_recorded_overlap_is_the_verifiers(made: tuple[Target, Trace, dict[str, Any]]) -> None:
    """On and beside the text, where every row has a prefix of its own."""
    target, trace, _ = made
    prompt, d, beside = PROMPTS[1][1], 0, 0
    answer = trace.tokens[trace.offsets[1] :].tolist()
    verifier = Verifier(CachedModel(target.model), Sampling(), overlap=True)
    processors = target.processors()
    assert processors is not None
    process = processors.text(prompt, BUDGET)
    for t in range(len(answer)):
        row = int(trace.offsets[1]) + t
        m = int(trace.proposed[row, d])
        draft = Draft(trace.draft_tokens[row, d, :m].tolist(), [1.0] * m)
        if len(prompt) + t + m < len(prompt) + BUDGET and m:
            verdict = verifier.verify([*prompt, *answer[:t]], draft, process=process)
            np.testing.assert_allclose(trace.overlap[row, d, :m], verdict.overlap, atol=2e-3)
            assert verdict.agreed == trace.accepted[row, d]
            beside += m > verdict.agreed + 1
    assert beside > 0


def test_a_sampled_recording_obeys(tmp_path: Path) -> None:
    target = shipped.llama(**TOGETHER)
    trace, summary = recorded(target, tmp_path / "t", Sampling(0.8))
    assert summary["mismatches"] == 0
    assert not set(trace.tokens.tolist()) & {3, 4}
    first = trace.tokens[trace.offsets[:-1]].tolist()
    assert first[0] == TOGETHER["forced_bos_token_id"]
    assert trace.lengths.min() >= TOGETHER["min_new_tokens"]


def test_distilled_answers_are_generates() -> None:
    target = shipped.llama(**TOGETHER)
    answers = batch_answers(target, [prompt for _, prompt in PROMPTS], BUDGET, lambda n: None)
    assert sorted(a.tokens for a in answers) == sorted(generated(target, prompt) for _, prompt in PROMPTS)


def test_a_trace_of_other_texts_is_refused(made: tuple[Target, Trace, dict[str, Any]]) -> None:
    target, trace, _ = made
    mine = identity_of(target)
    check_same_texts(trace, mine, PROMPTS, BUDGET)
    ignored, other = identity_of(target.without_settings()), mine | {"target": mine["target"] | {"dtype": "bfloat16"}}
    for identity, prompts, budget, said in (
        (mine, [(IDS[0], PROMPTS[0][1]), (IDS[1], [5, 9, 7, 5, 8])], BUDGET, f"{IDS[1]!r} is another text"),
        (mine, [("nobody", [5])], BUDGET, "'nobody' is not in the trace"),
        (ignored, PROMPTS, BUDGET, "repetition_penalty"),
        (other, PROMPTS, BUDGET, "dtype bfloat16"),
        (mine, PROMPTS, BUDGET - 1, f"use {BUDGET}"),
    ):
        with pytest.raises(UsageError, match=said):
            check_same_texts(trace, identity, prompts, budget)


def test_tokens_are_compared(made: tuple[Target, Trace, dict[str, Any]]) -> None:
    target, trace, _ = made
    entrants = live.contenders(["fixed:arm=plain"], partial(shipped.build, target), baseline=False, prior=None)
    live.run(target, entrants, TEXTS, live.Decoding(max_new_tokens=BUDGET))
    texts = [list(text) for text in entrants[0].session.texts]
    texts[1][2] += 1
    found = check(entrants[0].rounds, IDS, trace, "fixed:arm=plain", budget=BUDGET, texts=texts, arms=["plain"])
    assert (found.differing, found.texts_differing, found.identical) == (0, 1, False)
