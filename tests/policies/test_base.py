"""What all policies share: what a round without a draft teaches, and settings that are refused."""

from __future__ import annotations

import pytest
from handmade import one_round

from metasd.core.errors import UsageError
from metasd.policies import make


def test_what_a_round_without_a_draft_teaches(bench):
    pool = bench.pool(2, plain=True)
    masked = bench.bound(make("metasd-ucb:reward=block_efficiency"), pool, bench.keys(1))
    free = bench.bound(make("metasd-ucb:reward=block_efficiency,mask=false"), pool, bench.keys(1))
    for policy in (masked, free):
        policy.update(one_round(pool, 0, 0, proposed=0))  # no proposal
        policy.update(one_round(pool, 0, 0, remaining=1))  # no room
        policy.update(one_round(pool, 2, 0))  # plain
    assert masked.n.tolist() == [[0, 0, 1]]
    assert free.n.tolist() == [[1, 0, 1]]
    assert (free.total == 0).all()


def test_policies_on_emitted_tokens_refuse_another_reward():
    for name in ("ucbspec", "exp3spec"):
        with pytest.raises(UsageError, match="block_efficiency"):
            make(f"{name}:reward=block_efficiency")


@pytest.mark.parametrize("name", ["exp3", "exp3s", "kl-ucb", "thompson-beta", "tsallis-switch"])
def test_rewards_beyond_1_are_refused_where_formulas_need_less(name):
    with pytest.raises(UsageError, match="'tokens_per_second' is not within 0 and 1"):
        make(f"{name}:reward=tokens_per_second")
    for reward in ("tokens", "block_efficiency", "block_divergence", "auto"):
        make(f"{name}:reward={reward}")
    make("metasd-ucb:reward=tokens_per_second")


WRONG = [
    "metasd-ucb:beta=-1",
    "discounted-ucb:gamma=1.5",
    "sliding-window-ucb:window=0",
    "glr-ucb:memory=1",
    "glr-ucb:explore=0",
    "exp3s:horizon=0",
    "sequential-halving:share=2",
    "explore-then-commit:pulls=0",
    "epsilon-greedy:epsilon=1.1",
    "ucb-v:zeta=-1",
    "moss:horizon=0",
    "ucbspec:delta=0",
    "thompson-gaussian:sigma=-0.1",
    "ucb2:alpha=0",
    "tsallis-switch:price=-1",
    "fixed-share:share=1.5",
    "goodput:decay=2",
    "linucb:ridge=0",
]


@pytest.mark.parametrize("spec", WRONG)
def test_a_setting_out_of_range_is_named(spec):
    key, value = spec.split(":")[1].split("=")
    with pytest.raises(UsageError, match=f"{key} {value}.*out of range"):
        make(spec)


def test_a_setting_that_is_no_number_is_named():
    with pytest.raises(UsageError, match="beta: 'nan' is not a"):
        make("metasd-ucb:beta=nan")


@pytest.mark.parametrize("spec", ["hedgespec:weights=light", "hedgespec:score=nice", "fixed-share:score=nice"])
def test_an_unknown_choice_is_named(spec):
    with pytest.raises(UsageError, match=spec.split("=")[1]):
        make(spec)
