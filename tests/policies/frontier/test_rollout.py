"""What ``fit`` learns: rounds saved, not tokens of one round; and how much of it one text may say."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Context, Revealed
from metasd.core.signals import INDEX, F
from metasd.policies import make
from metasd.policies.frontier.features import NAMES, W
from metasd.policies.frontier.prior import lay_out, pack
from metasd.policies.frontier.rollout import Counterfactuals, fit

DRAFTERS = (
    DrafterInfo("lookup", "lookup", free=True, deterministic=True),
    DrafterInfo("small", "model", free=False, deterministic=True),
)
MATCH = INDEX["match_length"]


def signals(match, rows=1):
    found = np.full((rows, 2, F), np.nan)
    found[:, 0, MATCH] = match
    return found


def here(match, tail=(-1, -1), proposal=-1):
    """One lane that may play either drafter."""
    return Context(
        position=np.zeros(1, np.int64),
        remaining=np.array([1000]),
        available=np.ones((1, 2), bool),
        signals=signals(match),
        tail=np.array([tail]),
        proposal=np.array([[proposal, -1]]),
    )


def bound(prior=None):
    policy = make("default:alpha=0")
    if prior is not None:
        policy.set_prior(prior)
    policy.bind(Pool(DRAFTERS, [(0, 20), (1, 20)]), 1, overlap=False)
    policy.begin(np.array([0]), np.array([1], np.uint64))
    return policy


@pytest.fixture(scope="module")
def trap():
    """Spans of 8 tokens. At their start lookup emits 4 and the model 3; 3 further the model emits 5, anywhere else 1.

    So lookup first takes 1 + 4 rounds for a span, the model first 1 + 1.
    """
    texts, length = 6, 80
    at = np.tile(np.arange(length) % 8, texts)
    model = np.select([at == 0, at == 3], [2, 4], 0)
    return Counterfactuals(
        drafters=DRAFTERS,
        draft_lengths=[[2, 20], [20]],
        offsets=np.arange(texts + 1) * length,
        proposed=np.stack([np.where(at == 0, 20, 0), np.full(len(at), 20)], axis=1),
        accepted=np.stack([np.where(at == 0, 3, 0), model], axis=1),
        signals=np.where((at == 0)[:, None, None], signals(10, len(at)), np.nan),
        tail=np.full((len(at), 2), -1),
        proposal=np.full((len(at), 2), -1),
    )


def test_fit_regresses_rounds_saved(trap):
    """By hand: the policy found takes 2 rounds for 8 tokens, g = 4.

    At the start of a span the model, the reference, is worth the 3 tokens it emits; lookup@20 leads to where 4 rounds
    are left, not 1: 3 + 4 (1 - 4) = -9; lookup@2 leads to where the model leads: 3 + 4 (1 - 1) = 3.
    """
    prior = fit(trap)
    laid = lay_out(prior, Pool(DRAFTERS, [(0, 2), (0, 20), (1, 20)]))
    x = np.array([1.0, *(float(name.startswith("match>=") and int(name[7:]) <= 10) for name in NAMES[1:])])
    lookup = np.where(np.array(NAMES) == "beside", 0.0, x)
    assert laid.theta[0] @ lookup == pytest.approx(3, abs=0.1)
    assert laid.theta[1] @ lookup == pytest.approx(-9, abs=0.1)
    assert laid.theta[2] @ x == pytest.approx(3, abs=0.1)
    assert bound(prior).select(here(10)).tolist() == [1]


# -- token tables ---------------------------------------------------------------------------------------------------


def test_token_tables_of_the_prior_move_the_choice():
    """Lookup is worth 3.5 tokens and the model 4, but 2 more for lookup where a table knows the tokens in sight."""
    shift = 1 << 31

    def entry(d, worth):
        model = {"draft_length": 20, "accepted": 3.0, "theta": [worth] + [0.0] * (W - 1)}
        return {"name": d.name, "kind": d.kind, "settings": {}, "moments": pack(np.eye(W)), "models": [model]}

    prior = {
        "schema": 1,
        "policy": "frontier",
        "features": list(NAMES),
        "drafters": [entry(DRAFTERS[0], 3.5), entry(DRAFTERS[1], 4.0)],
    }
    keys = {"last": 7, "pair": 5 * shift + 7, "proposal": 9, "bridge": 7 * shift + 9}
    for name, key in keys.items():
        policy = bound(prior | {"tables": {name: {"keys": [key], "values": [[2.0, 0.0]]}}})
        arms = {sight: int(policy.select(here(10, *sight))[0]) for sight in (((5, 7), 9), ((7, 5), 8), ((-1, -1), -1))}
        assert list(arms.values()) == [0, 1, 1], name


# -- one text -------------------------------------------------------------------------------------------------------


def test_the_rows_of_a_runaway_text_count_less_and_less():
    """A row of a free drafter weighs 1/3; after 100 rows' worth of one text its rows weigh 100 / (1 + what came before)
    of that. A new text counts in full again. Second moment of the constant feature: 1 + the summed weights."""
    policy, none = bound(), np.zeros(0, np.int64)

    def text(rows):
        weight, before = 0.0, 0.0
        for _ in range(rows):
            policy.observe(
                Revealed(
                    lane=none,
                    position=none,
                    agreement=np.zeros((0, 2)),
                    start_lane=np.array([0]),
                    start=np.array([0]),
                    drafter=np.array([0]),
                    proposed=np.array([20]),
                    accepted=np.array([0]),
                    ended=np.array([False]),
                    censored=np.array([False]),
                    signals=signals(5),
                )
            )
            weight += min(1.0, 100 / (1 + before)) / 3
            before += 1 / 3
        return weight

    first = text(1500)
    assert first < 300  # not 500
    assert policy.A[0, 0, 0, 0] == pytest.approx(1 + first)
    policy.begin(np.array([0]), np.array([2], np.uint64))
    second = text(30)
    assert second == pytest.approx(10)
    assert policy.A[0, 0, 0, 0] == pytest.approx(1 + first + second)
