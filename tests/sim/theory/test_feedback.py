"""Moments of the two rewards, by enumeration; the example in which block divergence prefers the slower drafter."""

from __future__ import annotations

import itertools
import math

import pytest

from metasd.core.errors import UsageError
from metasd.sim.theory.feedback import Moments, feedback_ratio, moments


def enumerated(alpha: float, G: int, value) -> tuple[float, float, float]:
    """Mean, variance and share of zeros of value(bits) over all accept bits of G independent positions."""
    chance = {b: alpha ** sum(b) * (1 - alpha) ** (G - sum(b)) for b in itertools.product((0, 1), repeat=G)}
    mean = sum(p * value(b) for b, p in chance.items())
    variance = sum(p * (value(b) - mean) ** 2 for b, p in chance.items())
    return mean, variance, sum(p for b, p in chance.items() if value(b) == 0)


def efficiency(bits: tuple[int, ...]) -> float:
    return next((i for i, b in enumerate(bits) if not b), len(bits)) / len(bits)


def divergence(bits: tuple[int, ...]) -> float:
    return sum(bits) / len(bits)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("G", [1, 2, 5])
@pytest.mark.parametrize(("reward", "value"), [("block_efficiency", efficiency), ("block_divergence", divergence)])
def test_moments_are_those_of_the_enumeration(alpha, G, reward, value):
    found = moments(alpha, G, reward)
    mean, variance, zeros = enumerated(alpha, G, value)
    assert (found.mean, found.variance, found.zeros) == pytest.approx((mean, variance, zeros), abs=1e-12)


def test_overlaps_between_0_and_1_vary_less():
    assert moments(0.4, 5, "block_divergence", concentration=8).variance == pytest.approx(0.4 * 0.6 / 9 / 5)
    assert moments(0.4, 5, "block_divergence", concentration=8).zeros == 0


def test_the_ratio_by_hand():
    assert feedback_ratio(Moments(0.2, 0.1, 0), Moments(0.6, 0.05, 0)) == pytest.approx(0.16 / 0.1)
    assert feedback_ratio(Moments(0.2, 0, 0), Moments(0.6, 0, 0)) == math.inf
    assert feedback_ratio(Moments(0.2, 0, 0), Moments(0.2, 0, 0)) == 0


def test_block_divergence_says_more_of_good_drafters_and_not_of_all():
    """docs/theory.md, 4.3: in most pairs, but not in every one."""

    def better(a: float, b: float, G: int) -> bool:
        both = [feedback_ratio(moments(a, G, r), moments(b, G, r)) for r in ("block_divergence", "block_efficiency")]
        return both[0] > both[1]

    assert better(0.4, 0.7, 5)
    assert not better(0.5, 0.95, 5)


def test_more_overlap_can_mean_more_rounds():
    """docs/theory.md, 4.4: overlaps after 0..3 own tokens; a wins in block divergence, b in accepted tokens."""
    a, b = (0.5, 1.0, 1.0, 1.0), (0.8, 0.8, 0.8, 0.8)
    accepted = [sum(math.prod(x[: d + 1]) for d in range(4)) for x in (a, b)]
    assert sum(a) / 4 == 0.875 > sum(b) / 4
    assert accepted == pytest.approx([2.0, 2.3616])


def test_refusals():
    with pytest.raises(UsageError, match="neither"):
        moments(0.5, 3, "tokens")
    with pytest.raises(UsageError, match=r"alpha 1\.5"):
        moments(1.5, 3, "block_efficiency")
