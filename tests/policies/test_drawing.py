"""Drawing among weighted arms."""

from __future__ import annotations

import math

import numpy as np

from metasd.policies.drawing import draw, softmax


def test_draw_never_takes_weight_zero_and_keeps_the_shares():
    weights = np.array([[0.0, 1.0, 0.0, 3.0, 0.0]])
    uniform = np.concatenate([(np.arange(400) + 0.5) / 400, [1.0]])
    arms = draw(np.repeat(weights, len(uniform), axis=0), uniform)
    assert set(arms.tolist()) == {1, 3}
    assert (arms[:-1] == 1).sum() == 100


def test_softmax_is_uniform_where_every_allowed_weight_is_zero():
    logits = np.array([[0.0, -np.inf, -np.inf], [0.0, 1.0, -np.inf]])
    p = softmax(logits, np.array([[False, True, True], [True, True, True]]))
    np.testing.assert_allclose(p[0], [0, 0.5, 0.5])
    np.testing.assert_allclose(p[1], [1 / (1 + math.e), math.e / (1 + math.e), 0])
