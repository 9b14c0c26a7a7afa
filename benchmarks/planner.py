"""What the planner reaches on the reference trace by three clocks, and what its own arithmetic takes.

python benchmarks/planner.py [--seeds N] [--repeats N]

Pool: six lengths of the free drafters, and plain. Cold, carried over the prompts, learning from played rounds only. The
clocks of the GPU are modelled (``tools/make_clocks.py``). Own time is that of planning, learning and keeping the
sources up with the text, by the wall clock of this machine: of every round the least of the repeats, which play the
same rounds, so that what else runs counts less. "charged" counts it as part of every round.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from metasd.core import clocks
from metasd.core.costs import CostModel
from metasd.core.pool import Pool
from metasd.drafters.sources import LaneSources
from metasd.policies.planner.policy import Planner
from metasd.sim.oracle.seconds import clairvoyant_seconds
from metasd.sim.replay.run import Replay, replay
from metasd.traces import Trace, open_trace

LENGTHS = (1, 2, 3, 4, 6, 8)


class Timed(Planner):
    """The planner, counting its own seconds by round; those before the first are of reading a prompt."""

    own: ClassVar[list[float]] = [0.0]

    @staticmethod
    def add(start: float) -> None:
        """Count what has passed since ``start``."""
        Timed.own[-1] += time.perf_counter() - start

    def plan(self, *given: Any) -> Any:
        """As the planner's."""
        Timed.own.append(0.0)
        start = time.perf_counter()
        made = super().plan(*given)
        Timed.add(start)
        return made

    def judge(self, *given: Any) -> None:
        """As the planner's."""
        start = time.perf_counter()
        super().judge(*given)
        Timed.add(start)


class TimedSources(LaneSources):
    """Sources whose upkeep is counted as well."""

    def begin(self, prompt: Any) -> None:
        """As of ``LaneSources``."""
        start = time.perf_counter()
        super().begin(prompt)
        Timed.add(start)

    def extend(self, tokens: Any) -> None:
        """As of ``LaneSources``."""
        start = time.perf_counter()
        super().extend(tokens)
        Timed.add(start)


def laddered() -> Trace:
    """The reference trace with a pool of six lengths of each free drafter, and plain."""
    trace = open_trace("reference")
    free = [d for d, info in enumerate(trace.drafters) if info.free]
    pool = Pool(trace.drafters, [*((d, n) for d in free for n in LENGTHS), (-1, 0)])
    return replace(trace, manifest={**trace.manifest, "pool": pool.to_json()})


def line(name: str, found: Replay, own: float | None = None) -> str:
    """One row of the table."""
    totals = found.ledger.totals()
    assert totals.seconds is not None
    speeds = f"{totals.emitted / totals.seconds:8.1f}{totals.tokens_per_round:8.2f}"
    row = f"{name:<24}{speeds}{totals.checked / totals.rounds:8.1f}"
    if own is None:
        return row
    return row + f"{own / totals.rounds * 1e3:10.3f}{totals.emitted / (totals.seconds + own):10.1f}"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Print a table a clock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="orders of the prompts; the first is the recorded one")
    parser.add_argument("--repeats", type=int, default=3, help="plays of the same rounds, for the planner's own time")
    given = parser.parse_args()
    seeds = given.seeds
    import metasd.sim.replay.trees as trees

    trees.LaneSources = TimedSources  # type: ignore[misc]
    trace = laddered()
    for clock in ("trace", *clocks.shipped()):
        costs = trace.costs if clock == "trace" else CostModel.load(clocks.CLOCKS / f"{clock}.json")
        say(f"\n{clock:<24}   tok/s tok/rnd   nodes    own ms  charged")
        say(line("plain", replay(trace, "fixed:arm=plain", costs=costs)))
        say(line("default:objective=time", replay(trace, "default:objective=time", costs=costs, seeds=seeds)))
        for policy in ("planner", "planner:grown=0"):
            times = []
            for _ in range(given.repeats):
                Timed.own = [0.0]
                made = Timed() if policy == "planner" else Timed(grown=0)
                found = replay(trace, made, costs=costs, seeds=seeds)
                times.append(Timed.own)
            say(line(policy, found, float(np.min(times, axis=0).sum()) / seeds))
        optimum = clairvoyant_seconds(trace, trace.pool(), costs=costs).least
        say(f"{'clairvoyant arm':<24}{float(np.sum(trace.lengths)) / float(np.sum(optimum)):8.1f}")


if __name__ == "__main__":
    main()
