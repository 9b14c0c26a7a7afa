"""Fitting a prior, laying it out on other pools, and refusing one that does not belong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.policies import make
from metasd.policies.frontier.prior import lay_out
from metasd.policies.frontier.tokens import fit_tables
from metasd.sim.fit import fit
from metasd.sim.replay.run import replay
from metasd.traces.select import take_prompts

from .world import MODEL, G, copy_trace


@pytest.fixture(scope="module")
def trace():
    return copy_trace(11, [0.8, 0.2] * 14)


@pytest.fixture(scope="module")
def prior(trace):
    return json.loads(json.dumps(fit(take_prompts(trace, range(14)), "default")))


def test_warm_beats_cold_on_held_out_texts(trace, prior):
    """Forgetting at every text, so that the prior is all that differs. Fixed seeds, deterministic policies."""
    test = take_prompts(trace, range(14, 28))
    cold = replay(test, "default", reset="prompt").ledger.totals().rounds
    warm = replay(test, "default", reset="prompt", prior=prior).ledger.totals().rounds
    fixed = replay(test, "fixed:arm=small").ledger.totals().rounds
    assert warm < 0.99 * cold
    assert cold < fixed


def test_a_prior_says_what_it_knows(trace, prior):
    lookup = trace.drafters[0]
    extra = DrafterInfo("extra", "model", free=False, deterministic=False)
    policy = make("default")
    policy.set_prior(prior)
    policy.bind(Pool([lookup, MODEL, extra], [(0, G), (1, G), (2, G)]), 1)
    assert policy.settings()["prior"] == "lookup+small (cold: extra)"
    np.testing.assert_array_equal(policy.A[0, 2], np.eye(policy.A.shape[-1]))


def test_draft_lengths_between_the_fitted_ones(trace, prior):
    pool = Pool(trace.drafters, [(0, 8), (0, 9), (0, 10), (1, 3), (-1, 0)])
    laid = lay_out(prior, pool)
    np.testing.assert_allclose(laid.theta[1], (laid.theta[0] + laid.theta[2]) / 2)
    assert not laid.theta[4].any()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda p: p["drafters"][1].update(name="eagle"), "eagle"),
        (lambda p: p["drafters"][1].update(kind="skip"), "skip"),
        (lambda p: p.update(schema=9), "9"),
        (lambda p: p.update(features=["one"]), "features"),
        (lambda p: p["drafters"][0].pop("models"), "models"),
        (lambda p: p.pop("drafters"), "drafters"),
    ],
)
def test_a_foreign_or_damaged_prior_is_refused(trace, prior, change, names):
    bad = json.loads(json.dumps(prior))
    change(bad)
    policy = make("default")
    policy.set_prior(bad)
    with pytest.raises(UsageError, match=names):
        policy.bind(trace.pool(), 1)


def test_only_some_policies_can_be_fitted(trace):
    with pytest.raises(UsageError, match="default"):
        fit(trace, "exp3")
    with pytest.raises(UsageError, match="nosuch"):
        fit(trace, "nosuch")


def test_visited_positions_are_no_counterfactuals(trace):
    part = take_prompts(trace, range(2))
    part.manifest = {"exact": False}
    with pytest.raises(UsageError, match="counterfactuals"):
        fit(part, "default")


def test_token_tables_keep_what_helps_held_out_texts():
    rng = np.random.default_rng(1)
    key = rng.integers(0, 40, 4000)
    text = np.repeat(np.arange(40), 100)
    effect = rng.normal(size=40)
    noise = rng.normal(size=4000)
    weight = np.ones((4000, 1))
    keys = {
        "last": key,
        "pair": np.full(4000, -1),
        "proposal": rng.integers(0, 2000, 4000),
        "bridge": np.full(4000, -1),
    }
    found = fit_tables(keys, text, (effect[key] + noise)[:, None], weight)
    assert set(found) <= {"last", "proposal"}
    np.testing.assert_allclose(found["last"](np.arange(40))[:, 0], effect, atol=0.6)
    assert fit_tables({k: np.full(4000, -1) for k in keys}, text, noise[:, None], weight) == {}
