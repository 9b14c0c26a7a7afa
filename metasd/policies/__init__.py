"""Policies: numpy only, one file per family. ``POLICIES`` is the whole registry."""

from __future__ import annotations

from metasd import specs
from metasd.errors import UsageError
from metasd.policies.base import IndexPolicy, Policy
from metasd.policies.ucb import MetaSDUCB

POLICIES: dict[str, type[Policy]] = {
    "metasd-ucb": MetaSDUCB,
}

__all__ = ["POLICIES", "IndexPolicy", "Policy", "make"]


def make(spec: str) -> Policy:
    """The policy that ``name:key=value,...`` describes. Raises UsageError for an unknown name, key or value."""
    name, settings = specs.parse(spec)
    if name not in POLICIES:
        raise UsageError(f"unknown policy {name!r}; choose one of {', '.join(POLICIES)}")
    policy: Policy = specs.build(POLICIES[name], name, settings, "policy")
    return policy
