"""Policies: numpy only, one file per family. ``POLICIES`` is the whole registry."""

from __future__ import annotations

from metasd.core import specs
from metasd.core.errors import UsageError
from metasd.policies.base import IndexPolicy, Policy
from metasd.policies.frontier.policy import Frontier
from metasd.policies.drifting import GLRUCB, DiscountedUCB, SlidingWindowUCB
from metasd.policies.explore import EpsilonGreedy, ExploreThenCommit, SequentialHalving
from metasd.policies.exponential import Exp3, Exp3S, Exp3Spec
from metasd.policies.full import FixedShare, HedgeSpec
from metasd.policies.learned import SB3
from metasd.policies.linear import LinUCB
from metasd.policies.ratio import Goodput, RatioUCB
from metasd.policies.rules import Fixed, LookupFirst, Random
from metasd.policies.switching import UCB2, TsallisSwitch
from metasd.policies.thompson import ThompsonBeta, ThompsonGaussian
from metasd.policies.ucb import KLUCB, MOSS, UCB1, UCBV, MetaSDUCB, UCBSpec, UCBTuned

POLICIES: dict[str, type[Policy]] = {
    # the policy that wins; docs/default-policy.md
    "default": Frontier,
    # rules
    "fixed": Fixed,
    "random": Random,
    "lookup-first": LookupFirst,
    # of this field
    "metasd-ucb": MetaSDUCB,
    "exp3": Exp3,
    "sequential-halving": SequentialHalving,
    "ucbspec": UCBSpec,
    "exp3spec": Exp3Spec,
    "hedgespec": HedgeSpec,
    # stationary
    "ucb1": UCB1,
    "ucb-tuned": UCBTuned,
    "ucb-v": UCBV,
    "kl-ucb": KLUCB,
    "moss": MOSS,
    "thompson-gaussian": ThompsonGaussian,
    "thompson-beta": ThompsonBeta,
    "epsilon-greedy": EpsilonGreedy,
    "explore-then-commit": ExploreThenCommit,
    # non-stationary
    "discounted-ucb": DiscountedUCB,
    "sliding-window-ucb": SlidingWindowUCB,
    "glr-ucb": GLRUCB,
    "exp3s": Exp3S,
    "fixed-share": FixedShare,
    # few switches
    "ucb2": UCB2,
    "tsallis-switch": TsallisSwitch,
    # time-aware
    "ratio-ucb": RatioUCB,
    "goodput": Goodput,
    # contextual
    "linucb": LinUCB,
    # learned
    "sb3": SB3,
}

ALIASES = {"frontier": "default"}
"""Other names that ``make`` and ``metasd fit`` take."""

__all__ = ["ALIASES", "POLICIES", "IndexPolicy", "Policy", "make"]


def make(spec: str) -> Policy:
    """The policy that ``name:key=value,...`` describes. Raises UsageError for an unknown name, key or value."""
    name, settings = specs.parse(spec)
    name = ALIASES.get(name, name)
    if name not in POLICIES:
        raise UsageError(f"unknown policy {name!r}; choose one of {', '.join(POLICIES)}")
    policy: Policy = specs.build(POLICIES[name], name, settings, "policy")
    return policy
