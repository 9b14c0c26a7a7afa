"""What a comparison holds: every policy's outcome on every trace, with the comparators beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.ledger import Ledger
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints
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

    prompt, seed: [E] prompt and seed of each episode. starts, start_seconds [Q, X], arm_starts [K, X], accepted
        [G + 2]: means over seeds, see ``JobOutcome``.
    """

    entry: Entry
    settings: dict[str, Any]
    ledger: Ledger
    prompt: Ints
    seed: Ints
    seeds: int
    starts: Floats
    start_seconds: Floats
    arm_starts: Floats
    accepted: Floats
    shown: Ints

    def by_run(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """[S, P] a value per episode, by seed and prompt."""
        shape = (self.seeds, len(self.prompt) // self.seeds)
        at = self.seed * shape[1] + self.prompt
        found: NDArray[np.float64] = np.bincount(at, weights=values, minlength=shape[0] * shape[1]).astype(np.float64)
        return found.reshape(shape)

    def count(self, name: str) -> NDArray[np.float64]:
        """[S, P] a count of the ledger."""
        return self.by_run(self.ledger.counts[name])

    def seconds(self) -> NDArray[np.float64] | None:
        """[S, P] seconds of each prompt, None without a clock."""
        values = self.ledger.seconds_of()
        return None if values is None else self.by_run(values)

    def alike(self) -> bool:
        """Whether every run is the same, round for round as far as counts tell: seeds then do nothing."""
        counts = [self.by_run(n) for n in (*self.ledger.counts.values(), *self.ledger.arms.T)]
        return all(bool((c == c[0]).all()) for c in counts)


@dataclass(slots=True)
class TraceOutcome:
    """All policies on one trace, with the comparators they are held against.

    optimum: [P] rounds of the clairvoyant optimum. fixed_rounds: [P, K] rounds of every arm played throughout.
    expected_rounds: [P, K] those expected over all luck, whatever the seeds; at temperature 0 the same.
    optimum_seconds: [P] the same in seconds, a lower bound unless ``optimum_seconds_exact``; None without a clock.
    reached_seconds: [P] seconds that choosing with hindsight was shown to reach; the optimum itself where it is exact.
    The others are means over the seeds, each with the luck that the policies meet under it.
    fixed: every arm played throughout, by replay.
    """

    name: str
    fingerprint: str
    trace: Trace
    pool: Pool
    optimum: Floats
    fixed_rounds: Floats
    expected_rounds: Floats
    optimum_seconds: Floats | None = None
    reached_seconds: Floats | None = None
    optimum_seconds_exact: bool = False
    fixed: list[Played] = field(default_factory=list)
    policies: list[Played] = field(default_factory=list)

    def fixed_seconds(self) -> NDArray[np.float64] | None:
        """[P, K] seconds of every arm played throughout, None without a clock."""
        columns = [p.seconds() for p in self.fixed]
        known = [c for c in columns if c is not None]
        return np.stack([c.mean(axis=0) for c in known], axis=1) if len(known) == len(columns) else None

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
