"""What figures need of a job's rounds, summed while it plays: memory grows with prompts and bins, not with rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.records import Ints, Rounds
from metasd.traces import Trace

POINTS = 48  # bins of position in curves
CURVE_PROMPTS = 4096  # of more prompts a part, evenly spread, has its curves kept
SHOWN_TOKENS = 240  # timelines show a text up to here
SHOWN_ROWS = 10_000  # tokens of all texts whose timelines are kept
HELD = 32_768  # rounds that wait to be summed together


class Sums:
    """Sums of the rounds of one policy under a block of seeds.

    Attributes:
        starts: [Q, X] rounds of ``curve_prompts`` begun in each bin of position.
        start_seconds: [Q, X] their seconds, zeros without a clock.
        arm_starts: [K, X] rounds of each arm begun in each bin.
        accepted: [G + 2 or more] rounds that drafted nothing, then rounds by the length accepted: plans may be deeper
            than any arm.

    Args:
        arms: K. first_seed: the seed whose rounds are shown.
    """

    def __init__(self, trace: Trace, arms: int, first_seed: int) -> None:
        self._curved, self._edges, self._shows = curve_prompts(trace), edges(trace), shown_prompts(trace)
        self._first_seed = first_seed
        self.starts: Ints = np.zeros((len(self._curved), POINTS), np.int64)
        self.start_seconds: NDArray[np.float64] = np.zeros((len(self._curved), POINTS))
        self.arm_starts: Ints = np.zeros((arms, POINTS), np.int64)
        self.accepted: Ints = np.zeros(trace.depth + 2, np.int64)
        self._shown: list[Ints] = []
        self._held: list[NDArray[np.int64]] = []
        self._spent: list[NDArray[np.float64]] = []
        self._count = 0

    def begin(self, prompt: Ints, seed: Ints) -> Callable[[Rounds], None]:
        """What is to be called with every play's rounds; prompt and seed of each episode."""
        self._prompt, self._seed = prompt, seed
        return self.add

    def add(self, rounds: Rounds) -> None:
        """Take in one play's rounds."""
        columns = (rounds.prompt, rounds.position, rounds.arm, rounds.accepted, rounds.emitted, rounds.drafted)
        self._held.append(np.stack(columns, axis=1).astype(np.int64))
        self._spent.append(np.zeros(len(rounds)) if rounds.seconds is None else rounds.seconds.astype(np.float64))
        self._count += len(rounds)
        if self._count >= HELD:
            self.flush()

    def flush(self) -> None:
        """Sum what waits; call it after the last round too."""
        if self._count:
            self._sum(np.concatenate(self._held).T, np.concatenate(self._spent))
        self._held, self._spent, self._count = [], [], 0

    def _sum(self, columns: NDArray[np.int64], seconds: NDArray[np.float64]) -> None:
        episode, position, arm, accepted, emitted, drafted = columns
        prompt = self._prompt[episode]
        at = np.searchsorted(self._edges, position, side="right") - 1
        kept = np.isin(prompt, self._curved)
        cell, size = np.searchsorted(self._curved, prompt[kept]) * POINTS + at[kept], self.starts.size
        self.starts += np.bincount(cell, minlength=size).reshape(self.starts.shape)
        self.start_seconds += np.bincount(cell, weights=seconds[kept], minlength=size).reshape(self.starts.shape)
        self.arm_starts += np.bincount(arm * POINTS + at, minlength=self.arm_starts.size).reshape(-1, POINTS)
        length = np.where(drafted > 0, accepted + 1, 0)
        self.accepted = added(self.accepted, np.bincount(length))
        first = self._seed[episode] == self._first_seed
        first &= np.isin(prompt, self._shows) & (position < SHOWN_TOKENS)
        self._shown.append(np.stack([c[first] for c in (prompt, position, arm, accepted, emitted)], axis=1))

    @property
    def shown(self) -> Ints:
        """[m, 5] prompt, position, arm, accepted, emitted of the first seed's rounds on the shown prompts."""
        shown = np.concatenate(self._shown) if self._shown else np.zeros((0, 5), np.int64)
        return shown[np.lexsort((shown[:, 1], shown[:, 0]))]


def added(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Sum of two counts by length, of which one may know greater lengths."""
    size = max(len(one), len(other))
    return np.pad(one, (0, size - len(one))) + np.pad(other, (0, size - len(other)))


def edges(trace: Trace) -> Ints:
    """[X] first position of each bin: X bins of (nearly) equal width from 0 to the longest text."""
    return np.linspace(0, max(int(trace.lengths.max(initial=0)), POINTS), POINTS, endpoint=False).astype(np.int64)


def curve_prompts(trace: Trace) -> Ints:
    """[Q] ascending: the prompts whose curves are kept, all or ``CURVE_PROMPTS`` of them."""
    at = np.linspace(0, len(trace) - 1, min(len(trace), CURVE_PROMPTS))
    return np.unique(at.round().astype(np.int64))


def shown_prompts(trace: Trace) -> Ints:
    """The prompts whose timelines are kept, in the order in which room is given: the first of each domain, the second
    of each, and so on, not the ones that look best. At least one."""
    met: dict[str, int] = {}
    nth = []
    for domain in trace.domains:
        met[domain] = met.get(domain, 0) + 1
        nth.append(met[domain])
    order = np.argsort(nth, kind="stable")
    taken = np.cumsum(np.minimum(trace.lengths[order], SHOWN_TOKENS)) <= SHOWN_ROWS
    return np.asarray(order[: max(int(taken.sum()), 1)], np.int64)
