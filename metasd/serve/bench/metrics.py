"""What vLLM's Prometheus metrics say of speculation between two moments."""

from __future__ import annotations

import math
from dataclasses import dataclass

COUNTERS = {
    "drafts": "vllm:spec_decode_num_drafts",
    "drafted": "vllm:spec_decode_num_draft_tokens",
    "accepted": "vllm:spec_decode_num_accepted_tokens",
}


@dataclass(frozen=True, slots=True)
class Speculation:
    """Drafts checked, tokens drafted and accepted of them, over all engines of a server."""

    drafts: float
    drafted: float
    accepted: float

    @property
    def acceptance(self) -> float | None:
        """Accepted of the drafted tokens."""
        return self.accepted / self.drafted if self.drafted else None

    @property
    def tokens_per_draft(self) -> float | None:
        """Tokens that a checked draft brought on average, the target's own among them."""
        return 1 + self.accepted / self.drafts if self.drafts else None


def speculation(text: str | None) -> Speculation | None:
    """The counters in a page of Prometheus metrics; None for a server without them."""
    if text is None:
        return None
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
        for key, counter in COUNTERS.items():
            if name.removesuffix("_total") == counter:
                value = _value(rest)
                found[key] = found.get(key, 0.0) + value
    return Speculation(**found) if found.keys() == COUNTERS.keys() else None


def between(before: Speculation | None, after: Speculation | None) -> Speculation | None:
    """What came to pass in between; None where one is unknown, or the server was started anew."""
    if before is None or after is None or after.drafts < before.drafts:
        return None
    return Speculation(after.drafts - before.drafts, after.drafted - before.drafted, after.accepted - before.accepted)


def _value(rest: str) -> float:
    """The number behind the labels; 0 for what is none."""
    try:
        value = float(rest.rpartition("}")[2].split()[0])
    except (ValueError, IndexError):
        return 0.0
    return value if math.isfinite(value) else 0.0
