"""What a server has done so far, summed: rounds by arm, tokens, acceptance by position, the adapter's own time."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.core.pool import Pool
from metasd.core.records import Rounds


class Counters:
    """See the module docstring. ``drafts`` counts rounds with a draft; vLLM's counter of that name has ``padded`` too.

    padded: passes that vLLM widened by placeholders, ``most`` each, none of which it accepts. dropped: drafts that
    were never judged, since their request was preempted or had come to its end. seconds: the adapter's own, without
    what it takes to read the ``read`` tokens of new prompts (reading_seconds). cap: the longest draft of the last step.
    price: what a draft token was said to cost in it, in rounds without drafts; 0 where that is not known or not asked.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.arms = np.zeros(len(pool), np.int64)
        self.at_position = np.zeros(pool.max_draft_length, np.int64)  # drafts whose token there was accepted
        self.requests = self.steps = self.request_steps = self.dropped = self.padded = 0
        self.rounds = self.drafts = self.drafted = self.accepted = self.emitted = 0
        self.read = self.cap = 0
        self.seconds = self.reading_seconds = self.price = 0.0

    def add(self, rounds: Rounds) -> None:
        """Sum the rounds of one step."""
        np.add.at(self.arms, rounds.arm, 1)
        self.rounds += len(rounds)
        self.drafts += int((rounds.drafted > 0).sum())
        self.drafted += int(rounds.drafted.sum())
        self.accepted += int(rounds.accepted.sum())
        self.emitted += int(rounds.emitted.sum())
        ahead = np.arange(len(self.at_position))
        self.at_position += (rounds.accepted[:, None] > ahead).sum(axis=0)

    def to_json(self) -> dict[str, Any]:
        """All sums and the rates made of them; a rate without a base is None."""
        return {
            "requests": self.requests,
            "steps": self.steps,
            "rounds": self.rounds,
            "drafts": self.drafts,
            "drafted": self.drafted,
            "accepted": self.accepted,
            "emitted": self.emitted,
            "dropped_drafts": self.dropped,
            "padded_drafts": self.padded,
            "longest_draft": self.cap,
            "draft_token_cost": self.price,
            "request_steps": self.request_steps,
            "adapter_seconds": self.seconds,
            "tokens_per_round": self.emitted / self.rounds if self.rounds else None,
            "arms": {name: int(n) for name, n in zip(self._pool.names, self.arms, strict=True)},
            "accepted_by_position": self.at_position.tolist(),
            "adapter_microseconds": 1e6 * self.seconds / self.request_steps if self.request_steps else None,
            "reading_microseconds": 1e6 * self.reading_seconds / self.read if self.read else None,
        }

    def line(self) -> str:
        """One line for a log."""
        rate = self.emitted / self.rounds if self.rounds else float("nan")
        own = 1e6 * self.seconds / self.request_steps if self.request_steps else float("nan")
        shares = ", ".join(
            f"{n} {c / max(self.rounds, 1):.0%}" for n, c in zip(self._pool.names, self.arms, strict=True)
        )
        return f"MetaSD: {self.requests} requests, {rate:.2f} tokens a round, {own:.0f} us a request and step; {shares}"
