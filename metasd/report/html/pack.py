"""A document as it is embedded: rounds of timelines as text, three characters each, which a page reads back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ZERO = 0x30  # the character of the number 0; 1 is the next one, and so on


def packed(document: Mapping[str, Any]) -> dict[str, Any]:
    """``document`` with the rounds of every timeline packed: arm, accepted and emitted; positions follow from these."""
    lines = [{**t, "rounds": {k: pack(v) for k, v in t["rounds"].items()}} for t in document["timelines"]]
    return {**document, "timelines": lines}


def pack(rounds: Sequence[Sequence[int]]) -> str:
    """Rounds (position, arm, accepted, emitted) that follow one another from position 0."""
    return "".join(chr(_ZERO + value) for _, *values in rounds for value in values)


def unpack(text: str) -> list[list[int]]:
    """The rounds of ``pack``."""
    values = [ord(c) - _ZERO for c in text]
    found, position = [], 0
    for i in range(0, len(values), 3):
        found.append([position, *values[i : i + 3]])
        position += values[i + 2]
    return found
