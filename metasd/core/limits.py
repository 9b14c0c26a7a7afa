"""Ranges that more than one place holds numbers to."""

from __future__ import annotations

LONGEST_DRAFT = 255
"""Draft tokens a round: a trace keeps them in one byte."""
LONGEST_TEXT = 2**31 - 1
"""Tokens of a text."""
LEAST_TEMPERATURE = 1e-6
"""Lowest temperature above 0, and least top-p: below, logits divided by it overflow what float32 holds."""
