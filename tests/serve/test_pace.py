"""Draft lengths by goodput, under a clock that the test turns."""

from __future__ import annotations

import random

import numpy as np
import pytest

from metasd.serve.pace import PROBE, Pace

MOST = 4


def played(cost, requests: int, chance: float, steps: int = 300, stall: float = 0.0) -> list[int]:
    """The caps of ``steps`` steps whose passes cost ``cost(tokens)`` and whose draft tokens are accepted by chance."""
    pace, draw, caps = Pace(MOST), random.Random(1), []
    for _ in range(steps):
        cap = pace.cap(requests)
        accepted = []
        for _ in range(requests):
            right = 0
            while right < cap and draw.random() < chance:
                right += 1
            accepted.append(right)
        seconds = cost(requests * (1 + cap)) * draw.uniform(0.95, 1.05)
        pace.see(
            requests, requests * (1 + cap), seconds + (draw.random() < stall) * 50 * seconds, requests + sum(accepted)
        )
        pace.judge(np.full(requests, cap), np.full(requests, cap), np.array(accepted))
        caps.append(cap)
    return caps


def usual(caps: list[int]) -> int:
    late = [cap for i, cap in enumerate(caps[200:], 201) if i % PROBE and i % PROBE != PROBE // 2]
    return max(set(late), key=late.count)


def best(cost, requests: int, chance: float) -> int:
    worth = [sum(chance**i for i in range(k + 1)) / cost(requests * (1 + k)) for k in range(MOST + 1)]
    return int(np.argmax(worth))


def affine(start: float, slope: float):
    return lambda tokens: start + slope * tokens


@pytest.mark.parametrize("chance", [0.3, 0.9])
@pytest.mark.parametrize("requests", [1, 16])
@pytest.mark.parametrize("slope", [0.0001, 0.001, 0.02])
def test_the_length_is_that_of_the_most_tokens_a_second(requests, chance, slope):
    cost = affine(0.02, slope)
    found, wanted = usual(played(cost, requests, chance)), best(cost, requests, chance)

    def worth(k):
        return sum(chance**i for i in range(k + 1)) / cost(requests * (1 + k))

    assert worth(found) > 0.97 * worth(wanted)


def test_as_the_batch_grows_drafts_get_shorter_down_to_none():
    caps = [usual(played(affine(0.02, 0.002), n, 0.6)) for n in (1, 4, 16, 64)]
    assert caps == sorted(caps, reverse=True)
    assert caps[0] >= MOST - 1
    assert caps[-1] == 0


def test_stalls_move_nothing():
    cost = affine(0.02, 0.0015)
    assert usual(played(cost, 8, 0.6, stall=0.1)) == usual(played(cost, 8, 0.6))


def test_what_is_not_drafted_is_tried_again():
    caps = played(affine(0.001, 0.02), 8, 0.1)
    assert usual(caps) == 0
    assert caps[-PROBE:].count(MOST) == 1
