"""The only code that sums rounds, and the one definition of every rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.pool import Pool
from metasd.core.records import Ints, Rounds


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over some texts. Every rate is a ratio of sums, never a mean of ratios.

    seconds is None when no clock is known. It covers rounds only: the prefill of prompts is kept apart.
    """

    prompts: int
    rounds: float
    drafted: float
    accepted: float
    emitted: float
    switches: float  # rounds whose arm differs from that of the round before in the same text
    catch_up: float  # tokens re-read because others produced them
    checked: float  # tokens in the target's passes besides the last committed ones: as drafted, but for trees
    seconds: float | None
    draft_seconds: float | None
    verify_seconds: float | None
    catch_up_seconds: float | None
    arms: dict[str, float]  # rounds by arm
    sources: dict[str, float]  # accepted tokens by the drafter that suggested them; UNNAMED: by none of the pool's

    @property
    def tokens_per_round(self) -> float | None:
        """emitted / rounds: the mean tokens one pass of the target yields."""
        return self.emitted / self.rounds if self.rounds else None

    @property
    def tokens_per_second(self) -> float | None:
        """emitted / seconds."""
        return self.emitted / self.seconds if self.seconds else None

    @property
    def acceptance(self) -> float | None:
        """accepted / drafted."""
        return self.accepted / self.drafted if self.drafted else None


UNNAMED = "(planner)"
"""Of ``Totals.sources``: what a planner knew itself."""


class Ledger:
    """Sums of rounds by text. ``prompts`` is the number of texts (episodes) that ``Rounds.prompt`` can name."""

    _COUNTS = ("rounds", "drafted", "accepted", "emitted", "switches", "catch_up", "checked")
    _SECONDS = ("draft_seconds", "verify_seconds", "catch_up_seconds")

    def __init__(self, pool: Pool, prompts: int) -> None:
        self.pool = pool
        self.counts: dict[str, Ints] = {name: np.zeros(prompts, np.int64) for name in self._COUNTS}
        self.times: dict[str, NDArray[np.float64]] = {name: np.zeros(prompts) for name in self._SECONDS}
        self.arms: Ints = np.zeros((prompts, len(pool)), np.int64)
        self.credit: Ints = np.zeros((prompts, len(pool.drafters) + 1), np.int64)
        self._last_arm: Ints = np.full(prompts, -1, np.int64)
        self._timed = True

    @classmethod
    def restore(
        cls,
        pool: Pool,
        *,
        counts: Mapping[str, Ints],
        times: Mapping[str, NDArray[np.float64]],
        arms: Ints,
        credit: Ints,
        timed: bool,
    ) -> Ledger:
        """The ledger whose arrays (``counts``, ``times``, ``arms``, ``credit``, by text) were kept elsewhere."""
        ledger = cls(pool, len(arms))
        ledger.counts, ledger.times, ledger.arms, ledger._timed = dict(counts), dict(times), arms, timed
        ledger.credit = credit
        return ledger

    def add(self, rounds: Rounds) -> None:
        """Add one play: no two rows of ``rounds`` may be of the same text."""
        at = rounds.prompt
        self.counts["rounds"][at] += 1
        for name in ("drafted", "accepted", "emitted", "catch_up"):
            self.counts[name][at] += getattr(rounds, name)
        self.counts["checked"][at] += rounds.nodes
        last = self._last_arm[at]
        self.counts["switches"][at] += (last >= 0) & (last != rounds.arm)
        self._last_arm[at] = rounds.arm
        self.arms[at, rounds.arm] += 1
        if rounds.credit is None:
            self.credit[at, self.pool.drafter_of[rounds.arm]] += rounds.accepted
        else:
            self.credit[at] += rounds.credit
        if rounds.seconds is None:
            self._timed = False
            return
        for name in self._SECONDS:
            self.times[name][at] += getattr(rounds, name)

    @property
    def timed(self) -> bool:
        """Whether every round came with seconds."""
        return self._timed

    def rounds_of(self) -> Ints:
        """[prompts] rounds each text took."""
        return self.counts["rounds"]

    def seconds_of(self) -> NDArray[np.float64] | None:
        """[prompts] seconds each text took, None when no clock is known."""
        return sum(self.times.values(), np.zeros(len(self.arms))) if self._timed else None

    def totals(self, rows: NDArray[Any] | None = None, seeds: int = 1) -> Totals:
        """Sums over the texts ``rows`` (indices or a mask; all by default), divided by ``seeds`` repetitions."""
        picked = np.arange(len(self.arms)) if rows is None else np.arange(len(self.arms))[rows]

        def total(values: NDArray[Any]) -> float:
            value = values[picked].sum().item()
            return value if seeds == 1 else value / seeds

        times: dict[str, Any] = {name: total(values) if self._timed else None for name, values in self.times.items()}
        seconds = sum(v for v in times.values() if v is not None) if self._timed else None
        arms = {name: total(self.arms[:, i]) for i, name in enumerate(self.pool.names)}
        counts: dict[str, Any] = {name: total(values) for name, values in self.counts.items()}
        named = [*(d.name for d in self.pool.drafters), UNNAMED]
        sources = {name: total(self.credit[:, i]) for i, name in enumerate(named)}
        if not sources[UNNAMED]:
            del sources[UNNAMED]
        return Totals(prompts=len(picked) // seeds, seconds=seconds, arms=arms, sources=sources, **counts, **times)
