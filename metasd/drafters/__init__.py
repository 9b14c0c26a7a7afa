"""Drafters that need no model: prompt lookup, suffixes and n-gram tables. Model drafters live in ``metasd.runtime``."""

from __future__ import annotations

from metasd.drafters.lookup import LookupDrafter
from metasd.drafters.suffix import SuffixDrafter
from metasd.drafters.table import TableDrafter
from metasd.drafters.text import TextDrafterBase

TEXT_DRAFTERS: dict[str, type[TextDrafterBase]] = {
    "lookup": LookupDrafter,
    "suffix": SuffixDrafter,
    "table": TableDrafter,
}
"""Factories by the name used in a drafter SPEC; build one with ``metasd.core.specs.build``."""

__all__ = ["TEXT_DRAFTERS", "LookupDrafter", "SuffixDrafter", "TableDrafter", "TextDrafterBase"]
