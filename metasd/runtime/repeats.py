"""Several repetitions of the same contenders, and what they say together: medians, spreads, one closing sentence.

Every repetition starts from nothing (fresh policies, drafters and caches), so texts and rounds repeat and only the
clock differs. Whoever was first in one is last in the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import median
from typing import Any

from metasd.core.results import ALL
from metasd.runtime import contenders as live
from metasd.runtime.contenders import Contender, Decoding
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.load import Target

NOISE = 0.10
"""Relative difference in time of equal rounds from which the machine is called noisy."""

Row = dict[str, Any]


def run(
    target: Target,
    make: Callable[[int], Sequence[Contender]],
    texts: Sequence[EncodedPrompt],
    how: Decoding,
    *,
    repeats: int,
    reset: str | None = None,
    advance: Callable[[], object] = lambda: None,
) -> list[Sequence[Contender]]:
    """The contenders of every repetition, decoded. ``make(repetition)`` makes them anew, from 0."""
    runs = []
    for repetition in range(repeats):
        entrants = make(repetition)
        live.run(target, entrants, texts, how, reset=reset, first=repetition, advance=advance)
        for entrant in entrants:
            entrant.session.close()
        runs.append(entrants)
    return runs


def merged(rows: Sequence[Sequence[Row]]) -> list[Row]:
    """One row for every row of the repetitions: counts of the first, medians of the seconds and the speed-ups.

    Adds ``repeats``, and with it the lowest and highest speed-up seen (``speedup_low``, ``speedup_high``).
    """
    return [_merge(same) for same in zip(*rows, strict=True)]


def _merge(rows: Sequence[Row]) -> Row:
    def middle(key: str) -> float | None:
        known = [r[key] for r in rows if r[key] is not None]
        return median(known) if known else None

    ups = [r["speedup"] for r in rows if r["speedup"] is not None]
    spread = {"speedup_low": min(ups, default=None), "speedup_high": max(ups, default=None)}
    timed = ("seconds", "tokens_per_second", "speedup", "prefill_tokens_per_second", "begin_seconds")
    return (
        dict(rows[0]) | {key: middle(key) for key in (*timed, "first_token_seconds")} | spread | {"repeats": len(rows)}
    )


def sentence(row: Row) -> str | None:
    """How the row's policy compares with plain decoding beside it; None where that did not run."""
    if row["speedup"] is None:
        return None
    low, high, n = row["speedup_low"], row["speedup_high"], row["repeats"]
    said = f"{row['policy']}: {row['speedup']:.2f} x plain decoding"
    if n < 2:
        return f"{said}, measured once, so nothing is known of its spread; --repeats 3 says more"
    said += f", {low:.2f} to {high:.2f} in {n} repetitions"
    if low <= 1 <= high:
        return f"{said}: no difference beyond its noise"
    return f"{said}: slower than plain decoding" if high < 1 else said


def remarks(runs: Sequence[Sequence[Contender]]) -> list[str]:
    """What makes the times doubtful: contenders that played the very same rounds in clearly different time."""
    found = []
    for a, b in combinations(range(len(runs[0])), 2):
        one, other = runs[0][a], runs[0][b]
        if _played(one) != _played(other):
            continue
        times = [median(_seconds(entrants[at]) for entrants in runs) for at in (a, b)]
        if max(times) > (1 + NOISE) * min(times):
            found.append(
                f"{one.spec} and {other.spec} played the same {len(one.rounds)} rounds, yet took {times[0]:.2f} and "
                f"{times[1]:.2f} s: differences up to {max(times) / min(times) - 1:.0%} mean nothing here"
            )
    return found


def _played(entrant: Contender) -> list[tuple[Any, ...]]:
    """Every round by the name of its arm, without its seconds."""
    names = entrant.pool.names
    return [(r[0], names[r[1]], *r[2:]) for rounds in entrant.rounds for r in rounds.counts()]


def _seconds(entrant: Contender) -> float:
    return entrant.ledger.totals().seconds or 0.0


def total(rows: Sequence[Row], policy: str) -> Row:
    """The last row over all domains of ``policy``: with baselines beside, the policy asked for."""
    return [r for r in rows if r["domain"] == ALL and r["policy"] == policy][-1]
