"""What a comparison holds: every policy's outcome on every trace, with the comparators beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.records import Floats, Ints
from metasd.core.ledger import Ledger
from metasd.core.pool import Pool
from metasd.traces import Trace


@dataclass(frozen=True, slots=True)
class Entry:
    """A policy as it takes part.

    spec: its name in tables. warm: it starts from the prior. comparator: it is an arm played throughout, not a
    contestant. takes_prior: whether it could start from one. pickled: the policy where its name
    means nothing to another process. code: a digest of the code it runs, None where that cannot be read.
    """

    spec: str
    warm: bool = False
    comparator: bool = False
    takes_prior: bool = False
    pickled: bytes | None = None
    code: str | None = None

    @property
    def label(self) -> str:
        return f"{self.spec} +prior" if self.warm else self.spec


@dataclass(slots=True)
class Played:
    """One policy on one trace under all seeds.

    prompt: [E] prompt of each episode. starts [P, X], arm_starts [K, X]: means over seeds, see ``JobOutcome``.
    """

    entry: Entry
    settings: dict[str, Any]
    ledger: Ledger
    prompt: Ints
    seeds: int
    starts: Floats
    arm_starts: Floats
    shown: Ints

    def by_prompt(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """[P] mean over seeds of a value per episode."""
        return np.bincount(self.prompt, weights=values, minlength=len(self.starts)) / self.seeds

    def count(self, name: str) -> NDArray[np.float64]:
        """[P] mean over seeds of a count of the ledger."""
        return self.by_prompt(self.ledger.counts[name])

    def seconds(self) -> NDArray[np.float64] | None:
        """[P] mean seconds of each prompt, None without a clock."""
        values = self.ledger.seconds_of()
        return None if values is None else self.by_prompt(values)


@dataclass(slots=True)
class TraceOutcome:
    """All policies on one trace, with the comparators they are held against.

    optimum: [P] rounds of the clairvoyant optimum. fixed_rounds: [P, K] rounds of every arm played throughout.
    optimum_seconds: [P] the same in seconds, a lower bound unless ``optimum_seconds_exact``; None without a clock.
    All are means over the seeds, each with the luck that the policies meet under it.
    fixed: every arm played throughout, by replay.
    """

    name: str
    fingerprint: str
    trace: Trace
    pool: Pool
    optimum: Floats
    fixed_rounds: Floats
    optimum_seconds: Floats | None = None
    optimum_seconds_exact: bool = False
    fixed: list[Played] = field(default_factory=list)
    policies: list[Played] = field(default_factory=list)

    def fixed_seconds(self) -> NDArray[np.float64] | None:
        """[P, K] seconds of every arm played throughout, None without a clock."""
        columns = [p.seconds() for p in self.fixed]
        known = [c for c in columns if c is not None]
        return np.stack(known, axis=1) if len(known) == len(columns) else None

    @property
    def currency(self) -> str:
        """What users pay here: "seconds" where a clock is known, else "rounds"."""
        return "rounds" if self.fixed_seconds() is None else "seconds"

    def fixed_costs(self) -> NDArray[np.float64]:
        """[P, K] what every arm played throughout costs, in the trace's currency."""
        seconds = self.fixed_seconds()
        return np.asarray(self.fixed_rounds, np.float64) if seconds is None else seconds

    def plain_seconds(self) -> NDArray[np.float64] | None:
        """[P] seconds of plain decoding, None without a clock."""
        seconds = self.fixed_seconds()
        return None if seconds is None else seconds[:, int(self.pool.plain.argmax())]


@dataclass(slots=True)
class Comparison:
    """The outcome of ``compare``; ``metasd.sim.compare.leaderboard.document`` makes the JSON of it."""

    traces: list[TraceOutcome]
    config: dict[str, Any]
    skipped: list[dict[str, str]]
