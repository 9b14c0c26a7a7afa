"""What was simulated is what runs: the rounds of a run equal those of the replay of its trace, policy by policy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny

from metasd.core.pool import DrafterInfo, Pool
from metasd.drafters import LookupDrafter, TableDrafter
from metasd.drafters.base import Drafter
from metasd.policies import make
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime.load import Target, as_target
from metasd.runtime.models import ModelDrafter, SkipDrafter
from metasd.runtime.sampling import Sampling
from metasd.sim.compare.run import default_policies
from metasd.sim.replay.fidelity import Fidelity, check
from metasd.traces import Trace, open_trace

BUDGET = 28
LENGTH = 8
GREEDY = Sampling(0.0, None, None)
POLICIES = [*default_policies(), "fixed:arm=lookup", "fixed:arm=small", "metasd-ucb:beta=1", "metasd-ucb:mask=false"]


@pytest.fixture(scope="module")
def target() -> Target:
    return as_target(tiny.llama(7, eos_token_id=12), tiny.tokenizer(), "tiny")


@pytest.fixture(scope="module")
def texts() -> list[live.EncodedPrompt]:
    rng = np.random.default_rng(4)
    made: list[live.EncodedPrompt] = []
    for i in range(6):
        words = rng.integers(2, tiny.VOCABULARY, 4).tolist()
        made.append((f"p{i}", "even" if i % 2 == 0 else "odd", [*words, *words, int(rng.integers(2, 9))]))
    return made


def build(target: Target, draft_length: int | None = None) -> tuple[list[Drafter], Pool]:
    small = DrafterInfo("small", "model", free=False, deterministic=False)
    drafters: list[Drafter] = [
        LookupDrafter(draft_length=LENGTH),
        TableDrafter(name="grown", draft_length=LENGTH),
        ModelDrafter(small, tiny.near(target.model), vocab_size=target.vocab_size, sampling=GREEDY, seed=0),
        SkipDrafter(target, "2-3", sampling=GREEDY, seed=0),
    ]
    pool = Pool([d.info for d in drafters], [*((d, LENGTH) for d in range(4)), (-1, 0)])
    return drafters, pool if draft_length is None else pool.cut(draft_length)


@pytest.fixture(scope="module")
def trace(target: Target, texts: list[live.EncodedPrompt], tmp_path_factory: pytest.TempPathFactory) -> Trace:
    folder: Path = tmp_path_factory.mktemp("parity") / "trace"
    drafters, pool = build(target)
    summary = record(target, drafters, pool, texts, folder, max_new_tokens=BUDGET)
    assert summary["mismatches"] == 0
    return open_trace(folder)


def compared(
    target: Target, texts: list[live.EncodedPrompt], trace: Trace, spec: str, length: int, reset: str
) -> Fidelity:
    how = live.Decoding(max_new_tokens=BUDGET, clock="model", costs=trace.costs)
    entrants = live.contenders([spec], partial(build, target, length), baseline=False, prior=None)
    live.run(target, entrants, texts, how, reset=reset)
    ids = [name for name, _, _ in texts]
    return check(entrants[0].rounds, ids, trace, spec, draft_length=length, reset=reset, costs=how.costs)


@pytest.mark.parametrize("spec", POLICIES)
def test_a_run_equals_its_replay_round_by_round(
    spec: str, target: Target, texts: list[live.EncodedPrompt], trace: Trace
) -> None:
    reset = make(spec).default_reset
    found = [compared(target, texts, trace, spec, length, reset) for length in (1, 3, LENGTH)]
    whole = sum(found[1:], found[0])
    assert whole.rounds >= len(texts) * 3
    assert whole.differing == 0


def test_the_comparison_sees_everything_that_can_happen(
    target: Target, texts: list[live.EncodedPrompt], trace: Trace
) -> None:
    """Without rejections, full acceptance, switches and an end inside a draft the tests above would say little."""
    seen = compared(target, texts, trace, "random", LENGTH, "prompt")
    assert seen.identical
    assert seen.rejections > 10
    assert seen.full_acceptances > 3
    assert seen.switches > 10
    assert seen.ends_inside_draft > 0


def test_the_comparison_can_fail(target: Target, texts: list[live.EncodedPrompt], trace: Trace) -> None:
    how = live.Decoding(max_new_tokens=BUDGET)
    entrants = live.contenders(["fixed:arm=lookup"], partial(build, target, 3), baseline=False, prior=None)
    live.run(target, entrants, texts, how)
    ids = [name for name, _, _ in texts]
    assert check(entrants[0].rounds, ids, trace, "fixed:arm=small", draft_length=3).differing > 0
