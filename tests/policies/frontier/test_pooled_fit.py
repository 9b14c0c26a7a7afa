"""A prior can be learned from several traces together."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.core.errors import UsageError
from metasd.sim.fit import counterfactuals, fit, together
from metasd.traces import synthetic


def test_several_traces_are_learned_as_one() -> None:
    parts = [synthetic("iid", prompts=n, length=40, arms=2, draft_length=4, seed=n) for n in (3, 5)]
    whole = together([counterfactuals(p) for p in parts])
    assert len(whole.offsets) - 1 == 8
    assert whole.proposed.shape == (320, 2)
    np.testing.assert_array_equal(whole.accepted[120:], counterfactuals(parts[1]).accepted)
    both, first = fit(parts, "default"), fit(parts[0], "default")
    assert both != first


def test_different_drafters_are_refused() -> None:
    parts = [synthetic("iid", prompts=2, length=20, arms=n, draft_length=4, seed=0) for n in (2, 3)]
    with pytest.raises(UsageError, match="different drafters"):
        fit(parts, "default")
