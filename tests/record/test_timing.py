"""The cost model fitted to timings: on a clock that is a known function of what is timed."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.runtime import timing


class Clock:
    """Seconds that pass only inside models: ``base[width]`` and a little for every token of context."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


def test_the_fit_finds_what_a_known_machine_costs(world, monkeypatch):
    here, clock = world(), Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock.perf_counter)
    target = here.target.model

    def slow(model, seconds):
        forward = model.forward

        def timed(*args, **kwargs):
            cached = (kwargs.get("cache") or kwargs["past_key_values"]).get_seq_length()
            clock.now += seconds(kwargs["input_ids"].shape[1], cached)
            return forward(*args, **kwargs)

        model.forward = timed

    widths = {1: 5.0, 2: 9.0, 3: 8.0, 4: 6.0, 5: 7.0}
    slow(target, lambda width, cached: widths.get(width, 50.0) + 0.01 * (cached + width))
    near, skip = (here.drafters[d].cached.model for d in (2, 3))
    slow(near, lambda width, cached: 1.0 + 0.25 * width)
    slow(skip, lambda width, cached: 2.0 + 0.5 * width)
    text = np.random.default_rng(0).integers(1, 13, 40)
    costs = timing.measure_costs(here.target, here.drafters, here.pool, text, limit=1e9)
    assert costs.context == 40
    assert costs.measured["verify"][-1]["context"] == 160
    for width, base in widths.items():
        for context in (40, 100, 160):
            # the target reads the context's last token and the draft: width more than is cached
            expected = base + 0.01 * (context + width - 1)
            assert costs.verify(np.array(width - 1), np.array(context)) == pytest.approx(expected)
    assert costs.draft(np.array([2, 3]), np.array([3, 3])).tolist() == pytest.approx([3 * 1.25, 3 * 2.5])
    assert costs.catch_up(np.array([2, 3]), np.array([10, 10])).tolist() == pytest.approx([3.5, 7.0])
    assert costs.draft(np.array([0]), np.array([3])) == 0
    assert costs.error == pytest.approx(0, abs=1e-9)
    assert CostModel.from_json(costs.to_json()).to_json() == costs.to_json()


def test_noise_shows_in_the_error(world, monkeypatch):
    """Every repetition twice as slow as the one before: no repetition says what another takes."""
    here, clock = world(), Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock.perf_counter)
    calls = []
    measure = timing._Bench.measure

    def slower(self, repeat):
        calls.append(repeat)
        return measure(self, repeat)

    monkeypatch.setattr(timing._Bench, "measure", slower)
    for model in (here.target.model, *(here.drafters[d].cached.model for d in (2, 3))):
        forward = model.forward

        def timed(*args, forward=forward, **kwargs):
            clock.now += 2.0 ** len(calls)
            return forward(*args, **kwargs)

        model.forward = timed
    costs = timing.measure_costs(here.target, here.drafters, here.pool, [1, 2, 3] * 10, limit=1e9)
    assert calls == [0, 1, 2, 3]
    assert 0.4 < costs.error < 4
    calls.clear()
    timing.measure_costs(here.target, here.drafters, here.pool, [1, 2, 3] * 10, limit=0.0)
    assert calls == [0, 1]


@pytest.mark.parametrize(
    ("points", "line"),
    [
        ([], (0.0, 0.0)),
        ([(2, 3.0), (2, 5.0)], (0.0, 2.0)),
        ([(1, 3.0), (3, 7.0), (3, 7.0), (3, 90.0)], (1.0, 2.0)),
        ([(1, 1.0), (2, 4.0)], (0.0, 1.8)),  # would start below 0: through it instead
        ([(1, 4.0), (2, 2.0)], (3.0, 0.0)),  # more tokens never cost less
    ],
)
def test_lines_have_no_negative_part(points, line):
    assert timing._line(points) == pytest.approx(line)
