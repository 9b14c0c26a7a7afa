"""Policies: numpy only, one file per family. ``POLICIES`` is the whole registry."""

from __future__ import annotations

from metasd import specs
from metasd.errors import UsageError
from metasd.policies.base import IndexPolicy, Policy
from metasd.policies.drifting import DiscountedUCB, SlidingWindowUCB
from metasd.policies.exponential import Exp3, Exp3S, Exp3Spec
from metasd.policies.halving import ExploreThenCommit, SequentialHalving
from metasd.policies.rules import Fixed, LookupFirst, Random
from metasd.policies.ucb import MetaSDUCB

POLICIES: dict[str, type[Policy]] = {
    "fixed": Fixed,
    "random": Random,
    "lookup-first": LookupFirst,
    "metasd-ucb": MetaSDUCB,
    "exp3": Exp3,
    "sequential-halving": SequentialHalving,
    "discounted-ucb": DiscountedUCB,
    "sliding-window-ucb": SlidingWindowUCB,
    "explore-then-commit": ExploreThenCommit,
    "exp3spec": Exp3Spec,
    "exp3s": Exp3S,
}

__all__ = ["POLICIES", "IndexPolicy", "Policy", "make"]


def make(spec: str) -> Policy:
    """The policy that ``name:key=value,...`` describes. Raises UsageError for an unknown name, key or value."""
    name, settings = specs.parse(spec)
    if name not in POLICIES:
        raise UsageError(f"unknown policy {name!r}; choose one of {', '.join(POLICIES)}")
    policy: Policy = specs.build(POLICIES[name], name, settings, "policy")
    return policy
