"""What a replay promises of a run's speed, on a clock that only models' passes move, and what a run learns of costs."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from metasd.core.pool import DrafterInfo, Pool
from metasd.drafters import LookupDrafter
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime import worth
from metasd.runtime.load import as_target
from metasd.runtime.models import ModelDrafter
from metasd.runtime.registry import build_drafters
from metasd.runtime.sampling import Sampling
from metasd.sim.replay.fidelity import against, counterpart
from metasd.sim.replay.forecast import forecast
from metasd.traces import Trace, open_trace

BUDGET, LENGTH = 24, 3
TARGET, DRAFTER = 10.0, 1.0  # seconds of a pass, and a tenth of it more for every token it reads


class World:
    """A target and a drafter whose passes take ``slow`` times the seconds above."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.slow = 0.0, 1.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        self.target = as_target(
            self._driven(tiny.llama(7, eos_token_id=12, max_position_embeddings=600), TARGET), tiny.tokenizer(), "tiny"
        )
        self.near = self._driven(tiny.near(self.target.model), DRAFTER)

    def _driven(self, model: Any, fixed: float) -> Any:
        def before(module: Any, args: Any, given: dict[str, Any]) -> None:
            self.now += self.slow * fixed * (1 + 0.1 * given["input_ids"].shape[1])

        model.register_forward_pre_hook(before, with_kwargs=True)
        return model

    def build(self) -> tuple[list[Any], Pool]:
        info = DrafterInfo("small", "model", free=False, deterministic=False)
        small = ModelDrafter(info, self.near, vocab_size=self.target.vocab_size, sampling=Sampling(), seed=0)
        drafters = [LookupDrafter(draft_length=LENGTH), small]
        return drafters, Pool([d.info for d in drafters], [(0, LENGTH), (1, LENGTH), (-1, 0)])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.fixture
def texts() -> list[live.EncodedPrompt]:
    rng = np.random.default_rng(4)
    words = [rng.integers(2, tiny.VOCABULARY, 4).tolist() for _ in range(4)]
    return [(f"p{i}", "all", [*w, *w, 3]) for i, w in enumerate(words)]


@pytest.fixture
def trace(world: World, texts: list[live.EncodedPrompt], tmp_path: Path) -> Trace:
    record(world.target, *world.build(), texts, tmp_path / "trace", max_new_tokens=BUDGET)
    return open_trace(tmp_path / "trace")


@pytest.mark.parametrize("slow", [1.0, 2.0])
def test_the_error_of_predicted_speed_is_the_machines(
    world: World, texts: list[live.EncodedPrompt], trace: Trace, slow: float
) -> None:
    """On the machine that was recorded on it is 0; on one half as fast, predictions are twice the speed reached."""
    world.slow = slow
    how = live.Decoding(max_new_tokens=BUDGET, clock="model", costs=trace.costs)
    entrants = live.contenders(["default"], world.build, baseline=True, prior=None)
    live.run(world.target, entrants, texts, how)
    speeds = {r["policy"]: r["tokens_per_second"] for r in live.rows(entrants, texts) if r["domain"] == "all"}
    assert speeds["fixed:arm=plain"] == pytest.approx(1 / (slow * TARGET * 1.1))
    ids = [name for name, _, _ in texts]
    assert len(entrants) == 4
    for entrant in entrants:
        reset = entrant.policy.reset
        replayed = counterpart(ids, trace, entrant.spec, budget=BUDGET, costs=how.costs, reset=reset)
        assert against(entrant.rounds, replayed, arms=entrant.pool.names).identical
        found = forecast(replayed, speeds[entrant.spec])
        assert found.error == pytest.approx(slow - 1, abs=1e-6)
        assert found.to_json()["error"] == found.error
        assert entrant.corrections is None


def test_a_run_learns_what_the_machine_takes_now(world: World, texts: list[live.EncodedPrompt], trace: Trace) -> None:
    """Measured at one speed, run at half of it: every factor that was exercised becomes 2, across texts."""
    world.slow = 2.0
    how = live.Decoding(max_new_tokens=BUDGET, costs=trace.costs)
    (entrant,) = live.contenders(["random"], world.build, baseline=False, prior=None)
    live.run(world.target, [entrant], texts, how)
    assert entrant.corrections is not None
    found = entrant.corrections.to_json()
    assert found["verify"] == pytest.approx(2.0)
    assert found["drafters"] == {"lookup": 1.0, "small": pytest.approx(2.0)}


def test_a_drafter_that_costs_too_much_is_said_and_not_played(
    world: World, texts: list[live.EncodedPrompt], trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty times as slow, the small model cannot pay; a policy that counts rounds plays it and hears of it."""
    assert trace.costs is not None
    dear = trace.costs.scaled(1.0, np.array([1.0, 20.0]))
    _, pool = world.build()
    (line,) = worth.beforehand(dear, pool, 200, timed=True)
    assert line.startswith("drafter small costs more than it can save here")
    assert worth.beforehand(trace.costs, pool, 200, timed=True) == []
    uneven = replace(trace.costs, verify_seconds=np.where(trace.costs.widths == 2, 500.0, trace.costs.verify_seconds))
    (line,) = worth.beforehand(uneven, pool, 200, timed=True)
    assert line.startswith("a pass of 2 tokens takes 500,000.0 ms here, one of ")
    monkeypatch.setattr(world, "_driven", None)
    played = {}
    for spec in ("default", "random"):
        (entrant,) = live.contenders([spec], world.build, baseline=False, prior=None)
        live.run(world.target, [entrant], texts, live.Decoding(max_new_tokens=BUDGET, costs=dear, clock="model"))
        played[spec] = entrant.ledger.totals().arms[f"small@{LENGTH}"]
    assert played["default"] == 0
    assert played["random"] > 0


def test_what_was_lost_is_said_afterwards(world: World, texts: list[live.EncodedPrompt]) -> None:
    """The sum of a drafter's rounds against plain decoding of the same tokens, here of a plain run beside it."""
    entrants = live.contenders(["fixed:arm=small"], world.build, baseline=True, prior=None)
    live.run(world.target, entrants, texts, live.Decoding(max_new_tokens=BUDGET))
    assert worth.of_run(entrants, None, texts) == []
    totals = entrants[-1].ledger.totals()
    each = totals.seconds / totals.emitted
    (line,) = worth.afterwards(entrants[-1].rounds, entrants[-1].pool, plain=each * 0.5)
    assert line == (
        f"small cost more than it saved: {totals.rounds:.0f} rounds of it took {totals.seconds:.2f} s for "
        f"{totals.emitted:.0f} tokens, which plain decoding makes in {totals.seconds / 2:.2f} s"
    )
    assert worth.afterwards(entrants[-1].rounds, entrants[-1].pool, plain=each * 1.01) == []
    assert worth.afterwards(entrants[-1].rounds, entrants[-1].pool) == []


def test_overlap_is_measured_for_the_default_only_where_there_are_models(
    world: World, texts: list[live.EncodedPrompt]
) -> None:
    """A softmax over the vocabulary a round, of which it learns nothing that free drafters' starts do not say."""
    free = partial(build_drafters, ("lookup",), world.target)
    for build, told in ((world.build, True), (free, False)):
        (entrant,) = live.contenders(["default:objective=rounds"], build, baseline=False, prior=None)
        live.run(world.target, [entrant], texts, live.Decoding(max_new_tokens=BUDGET))
        assert {r.overlap is not None for r in entrant.rounds if r.drafted[0]} == {told}
