"""Drafters that need no model: prompt lookup and n-gram tables. Model drafters live in ``metasd.runtime``."""

from __future__ import annotations

from metasd.drafters.lookup import LookupDrafter

TEXT_DRAFTERS = {"lookup": LookupDrafter}
"""Factories by the name used in a drafter SPEC; build one with ``metasd.specs.build``."""

__all__ = ["TEXT_DRAFTERS", "LookupDrafter"]
