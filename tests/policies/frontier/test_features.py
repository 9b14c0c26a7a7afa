"""The features of the default policy against plain Python, column by column."""

from __future__ import annotations

import math

import numpy as np

from metasd.core.signals import SIGNALS, F
from metasd.policies.frontier.features import NAMES, STEPS, features, free_features

SCALE = {"depth": 20, "proposal_length": 20, "failures": 3, "run": 20}  # others: 1
FREE = (True, False, True, True)


def scalar(rows, d):
    """The columns by name of drafter ``d``, from the signals of all drafters at one start, ``rows``."""
    match = [
        -1.0 if math.isnan(r["match_length"]) or not free else r["match_length"]
        for r, free in zip(rows, FREE, strict=True)
    ]
    speaker = match.index(max(match))
    own = d if FREE[d] else speaker
    if not FREE[d] and max(match) < 0:
        return {name: float(name in ("one", "beside")) for name in NAMES}
    out = {"one": 1.0} | {f"match>={int(s)}": float(rows[own]["match_length"] >= s) for s in STEPS}
    for name in NAMES[len(out) : -1]:
        value = rows[own][name] / SCALE.get(name, 1)
        out[name] = 0.0 if math.isnan(value) else min(max(value, 0.0), 1.0)
    longest = max([0.0] + [m for k, m in enumerate(match) if k != d])
    out["beside"] = min(max((longest - match[d]) / 8, -1.0), 1.0) if FREE[d] else 0.0
    return out


def test_every_column_equals_the_scalar_reference():
    """``beside`` is positive where another drafter's match is longer, and 1 for a model where nobody has one."""
    rng = np.random.default_rng(0)
    signals = rng.uniform(-1, 60, (200, len(FREE), F)) * rng.choice([0.02, 1.0], (200, len(FREE), F))
    signals[rng.random(signals.shape) < 0.2] = np.nan
    signals[:20, :, SIGNALS.index("match_length")] = np.nan
    found = features(signals, np.array(FREE))
    assert (found.std(axis=(0, 1))[1:] > 0).all()
    for n, at in enumerate(signals):
        rows = [dict(zip(SIGNALS, map(float, s), strict=True)) for s in at]
        for d in range(len(FREE)):
            wanted = list(scalar(rows, d).values())
            np.testing.assert_allclose(found[n, d], wanted, atol=1e-12, err_msg=f"{NAMES} of drafter {d}")
    for d in (0, 2, 3):
        alone = free_features(signals, np.array(FREE), np.full(len(signals), d))
        np.testing.assert_array_equal(alone, found[:, d])
