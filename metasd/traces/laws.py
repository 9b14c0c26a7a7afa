"""The acceptance laws behind synthetic traces: how likely each drafter's token is accepted, by position.

Knows rates only; ``metasd.traces.synth`` turns them into tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.records import Ints

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Law:
    """Acceptance rates of D drafters on prompts of L positions, as indices into a few levels.

    rates: [M] the distinct acceptance rates, M <= 256.
    codes: from a generator and [p] prompt numbers to [p, L, D] indices into ``rates``.
    domains: prompt p belongs to ``domains[p % len(domains)]``.
    noise: whether overlap scatters around the rate (a Beta law) or equals it.
    twins: whether drafters 2k and 2k + 1 share their columns.
    """

    rates: NDArray[np.float64]
    codes: Callable[[np.random.Generator, Ints], Codes]
    domains: tuple[str, ...]
    noise: bool = True
    twins: bool = False


def iid(length: int, arms: int, alphas: Sequence[float] | None, period: int | None) -> Law:
    """Assumption 1 of arXiv 2604.05417: one rate a drafter (default: evenly from 0.3 to 0.8, the best one last)."""
    rates = np.linspace(0.3, 0.8, arms) if alphas is None else np.asarray(alphas, np.float64)

    def codes(rng: np.random.Generator, prompts: Ints) -> Codes:
        return np.broadcast_to(np.arange(arms, dtype=np.uint8), (len(prompts), length, arms))

    return Law(rates, codes, ("iid",))


def two_language(length: int, arms: int, alphas: Sequence[float] | None, period: int | None) -> Law:
    """A change of language inside every prompt, uniform in its middle half.

    Drafter 0 speaks language a, drafter 1 language b (rates: its own 0.8, the other 0.2), all others are generalists
    (0.5). Even prompts go from a to b, odd ones from b to a. ``alphas`` replaces (other, generalist, own).
    """
    rates = np.asarray((0.2, 0.5, 0.8) if alphas is None else alphas, np.float64)

    def codes(rng: np.random.Generator, prompts: Ints) -> Codes:
        change = rng.integers(length // 4, max(3 * length // 4, length // 4 + 1), size=len(prompts))
        late = np.arange(length) >= change[:, None]
        in_b = late ^ (prompts % 2 == 1)[:, None]
        out = np.full((len(prompts), length, arms), 1, np.uint8)
        out[..., 0] = np.where(in_b, 0, 2)
        out[..., 1] = np.where(in_b, 2, 0)
        return out

    return Law(rates, codes, ("a-then-b", "b-then-a"))


def drift(length: int, arms: int, alphas: Sequence[float] | None, period: int | None) -> Law:
    """Rates that swing between ``alphas`` (default 0.1, 0.9) as sines, drafters a fraction of a turn apart.

    One turn takes ``period`` positions (default: the prompt's length); each prompt begins at a random phase. Rates
    are rounded to 32 levels.
    """
    low, high = (0.1, 0.9) if alphas is None else (min(alphas), max(alphas))
    turn = period or length

    def codes(rng: np.random.Generator, prompts: Ints) -> Codes:
        phase = rng.random((len(prompts), 1, 1)) + np.arange(arms) / arms
        swing = np.sin(2 * np.pi * (np.arange(length)[:, None] / turn + phase))
        return np.rint((swing + 1) * 15.5).astype(np.uint8)

    return Law(np.linspace(low, high, 32), codes, ("drift",))


def alternation(length: int, arms: int, alphas: Sequence[float] | None, period: int | None) -> Law:
    """One good drafter at a time (0.9, all others 0.1), the next one in turn every ``period`` positions.

    The default period of 24 is a few rounds: whoever follows the recent past comes too late each time, and all
    drafters are equally good over a whole turn. ``alphas`` replaces (bad, good).
    """
    rates = np.asarray((0.1, 0.9) if alphas is None else alphas, np.float64)

    def codes(rng: np.random.Generator, prompts: Ints) -> Codes:
        block = np.arange(length) // (period or 24)
        good = (block + prompts[:, None]) % arms
        return (np.arange(arms) == good[..., None]).astype(np.uint8)

    return Law(rates, codes, ("alternation",))


def ties(length: int, arms: int, alphas: Sequence[float] | None, period: int | None) -> Law:
    """Heavy ties: all drafters at one rate (0.5), twins with equal columns, overlap equal to the rate everywhere."""
    rates = np.asarray((0.5,) if alphas is None else alphas, np.float64)

    def codes(rng: np.random.Generator, prompts: Ints) -> Codes:
        return np.zeros((len(prompts), length, arms), np.uint8)

    return Law(rates, codes, ("ties",), noise=False, twins=True)


def flip(length: int, arms: int, alphas: Sequence[float] | None, period: int | None) -> Law:
    """Best and worst change places with the text: drafter i has rate i on even texts, rate -1 - i on odd ones.

    Rates lie evenly from 0.2 to 0.8, or as ``alphas`` says; within a text nothing changes. ``period``: texts before
    each change, 1 by default.
    """
    rates = np.linspace(0.2, 0.8, arms) if alphas is None else np.asarray(alphas, np.float64)

    def codes(rng: np.random.Generator, prompts: Ints) -> Codes:
        odd = (prompts // (period or 1) % 2 == 1)[:, None, None]
        turned = np.where(odd, np.arange(arms)[::-1], np.arange(arms)).astype(np.uint8)
        return np.broadcast_to(turned, (len(prompts), length, arms))

    return Law(rates, codes, ("flip",))


_Make = Callable[[int, int, Sequence[float] | None, int | None], Law]
# kind -> (maker, fewest drafters, number of alphas it takes; None: one a drafter)
LAWS: dict[str, tuple[_Make, int, int | None]] = {
    "iid": (iid, 1, None),
    "two-language": (two_language, 2, 3),
    "drift": (drift, 2, 2),
    "alternation": (alternation, 2, 2),
    "flip": (flip, 2, None),
    "ties": (ties, 2, 1),
}


def law(kind: str, *, length: int, arms: int, alphas: Sequence[float] | None, period: int | None) -> Law:
    """The law called ``kind``. Raises UsageError for a kind, a number of arms, rates or a period that do not fit."""
    if kind not in LAWS:
        raise UsageError(f"unknown kind {kind!r} of synthetic trace; choose one of {', '.join(LAWS)}")
    make, fewest, count = LAWS[kind]
    _within("arms", arms, fewest, 64)
    _within("length", length, 1, None)
    if period is not None:
        _within("period", period, 1, None)
    if alphas is not None:
        wanted = arms if count is None else count
        if len(alphas) != wanted:
            raise UsageError(f"{len(alphas)} alphas for kind {kind}; give {wanted}")
        for alpha in alphas:
            _within("alpha", alpha, 0, 1)
    return make(length, arms, alphas, period)


def _within(name: str, value: Any, low: float, high: float | None) -> None:
    if value < low or (high is not None and value > high):
        raise UsageError(f"{name} {value} is outside {low}..{'' if high is None else high}; choose one within")
