"""Synthetic traces obey the laws they are made from. Seeds are fixed; each bound states its false-alarm probability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metasd.core.errors import UsageError
from metasd.traces import Trace, open_trace, synth, synthetic, validate
from metasd.traces.laws import LAWS

# Means of n independent values in [0, range] miss by more than SIGMAS standard errors with probability below 1e-7.
SIGMAS = 5.5


def standard_error(values: np.ndarray) -> float:
    return float(values.std() / np.sqrt(len(values)))


def walk(trace: Trace, d: int) -> list[int]:
    """Accepted lengths along the path of always choosing drafter d, rounds that the text's end cut left out."""
    lengths = []
    for start, stop in zip(trace.offsets[:-1], trace.offsets[1:], strict=True):
        row = int(start)
        while row + trace.depth < stop:
            lengths.append(int(trace.accepted[row, d]))
            row += lengths[-1] + 1
    return lengths


@pytest.mark.parametrize("coupling", ["position", "start"])
def test_lengths_along_a_path_are_truncated_geometric(coupling: str) -> None:
    """Assumption 1: P(length >= k) = a^k up to the draft length, and rounds do not depend on one another.

    15 survival frequencies and 3 correlations at SIGMAS: false alarm below 1e-6.
    """
    alphas = (0.25, 0.6, 0.9)
    trace = synthetic("iid", prompts=40, length=1000, arms=3, draft_length=5, alphas=alphas, coupling=coupling)
    for d, alpha in enumerate(alphas):
        lengths = np.array(walk(trace, d))
        for k in range(1, 6):
            hit = lengths >= k
            assert abs(hit.mean() - alpha**k) < SIGMAS * np.sqrt(alpha**k * (1 - alpha**k) / len(hit)) + 1e-4
        neighbours = np.corrcoef(lengths[:-1], lengths[1:])[0, 1]
        assert abs(neighbours) < SIGMAS / np.sqrt(len(lengths))


def test_start_and_depth_agree_for_a_prefix_determined_drafter() -> None:
    """Coupling position: length(t) = 1 + length(t + 1) while the bit at t is one, up to the limit."""
    trace = synthetic("iid", prompts=3, length=60, arms=4, draft_length=6)
    accepted = trace.accepted.reshape(3, 60, 4).astype(int)
    following = np.concatenate([accepted[:, 1:], np.zeros((3, 1, 4), int)], axis=1)
    expected = np.where(accepted > 0, np.minimum(1 + following, 6), 0)
    np.testing.assert_array_equal(accepted, expected)


@pytest.mark.parametrize("coupling", ["position", "start"])
def test_overlap_has_the_rates_mean_at_every_depth(coupling: str) -> None:
    """3 drafters x 4 depths at SIGMAS: false alarm below 1e-6. Only starts a draft apart are independent."""
    trace = synthetic("iid", prompts=200, length=200, arms=3, draft_length=4, coupling=coupling)
    apart = trace.overlap[::4].astype(float)
    for d, alpha in enumerate((0.3, 0.55, 0.8)):
        for depth in range(4):
            values = apart[:, d, depth]
            assert abs(values.mean() - alpha) < SIGMAS * standard_error(values) + 2e-4


def test_bits_are_drawn_from_the_overlap() -> None:
    """Where overlap is high tokens are accepted more often: the first bit's mean in each overlap bin is the bin's.

    8 bins at SIGMAS: false alarm below 1e-6.
    """
    trace = synthetic("iid", prompts=200, length=200, arms=1, draft_length=2, alphas=[0.5])
    overlap, hit = trace.overlap[:, 0, 0].astype(float), trace.accepted[:, 0] > 0
    for low in np.linspace(0.1, 0.8, 8):
        inside = (overlap >= low) & (overlap < low + 0.1)
        assert abs((hit[inside] - overlap[inside]).mean()) < SIGMAS * 0.5 / np.sqrt(inside.sum())


def test_sampled_acceptance_has_the_rates_mean() -> None:
    """3 drafters at SIGMAS: false alarm below 1e-6. Beyond the text's end nothing is accepted."""
    trace = synthetic("iid", prompts=200, length=100, arms=3, draft_length=4, temperature=1.0)
    assert trace.sampled
    for d, alpha in enumerate((0.3, 0.55, 0.8)):
        values = trace.accept[:, d, 0].astype(float)
        assert abs(values.mean() - alpha) < SIGMAS * standard_error(values) + 2e-4
    by_end = trace.accept.reshape(200, 100, 3, 4)
    assert not by_end[:, -1, :, 1:].any()
    assert not by_end[:, -3, :, 3:].any()


def first_hits(trace: Trace) -> np.ndarray:
    """[P, L, D] whether the first draft token is accepted."""
    return (trace.accepted > 0).reshape(len(trace), -1, len(trace.drafters))


def test_two_language_changes_inside_the_prompt() -> None:
    """The specialists swap roles between the first and the last quarter; generalists do not care.

    Means over 100 x 100 positions of rates 0.2, 0.5, 0.8: 0.03 is 6 standard errors, false alarm below 1e-6.
    """
    trace = synthetic("two-language", prompts=200, length=400, arms=3)
    hits = first_hits(trace)
    for parity, (before, after) in enumerate([((0.8, 0.2), (0.2, 0.8)), ((0.2, 0.8), (0.8, 0.2))]):
        early, late = hits[parity::2, :100].mean((0, 1)), hits[parity::2, 300:].mean((0, 1))
        np.testing.assert_allclose(early, (*before, 0.5), atol=0.03)
        np.testing.assert_allclose(late, (*after, 0.5), atol=0.03)
    assert trace.domains[:2] == ["a-then-b", "b-then-a"]


def test_flip_turns_the_order_of_the_drafters_at_each_text() -> None:
    trace = synthetic("flip", prompts=40, length=200, arms=3)
    even = np.isin(np.arange(40), np.arange(0, 40, 2))[np.repeat(np.arange(40), 200)]
    first = (trace.accepted > 0).mean(axis=0, where=even[:, None])
    np.testing.assert_allclose(first, [0.2, 0.5, 0.8], atol=0.03)
    np.testing.assert_allclose((trace.accepted > 0).mean(axis=0, where=~even[:, None]), [0.8, 0.5, 0.2], atol=0.03)


def test_the_first_drafters_can_be_free() -> None:
    trace = synthetic("iid", prompts=2, length=10, arms=3, free=2)
    assert trace.pool().free.tolist() == [True, True, False]
    with pytest.raises(UsageError, match="free 4"):
        synthetic("iid", prompts=2, length=10, arms=3, free=4)


def test_alternation_has_one_good_drafter_at_a_time() -> None:
    """Per period and drafter, 40 x 50 positions of rate 0.1 or 0.9: 0.04 is 6 standard errors."""
    trace = synthetic("alternation", prompts=120, length=150, arms=3, period=50)
    hits = first_hits(trace)
    for p in range(3):
        blocks = hits[p::3].reshape(40, 3, 50, 3).mean((0, 2))
        good = (np.arange(3)[:, None] + p) % 3 == np.arange(3)
        np.testing.assert_allclose(blocks, np.where(good, 0.9, 0.1), atol=0.05)


def test_drift_swings_and_no_drafter_is_best_overall() -> None:
    """Every drafter's mean over whole turns is 0.5 (0.03 is over 6 standard errors); within a turn it swings."""
    trace = synthetic("drift", prompts=100, length=400, arms=4, period=100)
    hits = first_hits(trace)
    np.testing.assert_allclose(hits.mean((0, 1)), 0.5, atol=0.03)
    quarters = hits.reshape(100, 4, 4, 25, 4).mean((1, 3))  # each prompt has its own phase
    assert (quarters.max(1) - quarters.min(1)).mean() > 0.3


def test_ties_have_twins_and_constant_overlap() -> None:
    trace = synthetic("ties", prompts=4, length=50, arms=5)
    np.testing.assert_array_equal(trace.accepted[:, 0], trace.accepted[:, 1])
    np.testing.assert_array_equal(trace.accepted[:, 2], trace.accepted[:, 3])
    assert not np.array_equal(trace.accepted[:, 0], trace.accepted[:, 2])
    assert (trace.overlap == 0.5).all()


@pytest.mark.parametrize("kind", list(LAWS))
@pytest.mark.parametrize("arms", [2, 64])
def test_every_kind_is_valid_on_disk_and_reproducible(kind: str, arms: int, tmp_path: Path) -> None:
    settings = {"prompts": 3, "length": 20, "arms": arms, "draft_length": 3, "seed": 4}
    trace = open_trace(synth(kind, tmp_path / "t", **settings))
    validate(tmp_path / "t")
    again, other = synthetic(kind, **settings), synthetic(kind, **(settings | {"seed": 5}))
    np.testing.assert_array_equal(trace.accepted, again.accepted)
    np.testing.assert_array_equal(trace.overlap, again.overlap)
    assert not np.array_equal(trace.accepted, other.accepted)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("sines", {}, "unknown kind 'sines'"),
        ("iid", {"arms": 65}, r"arms 65 is outside 1\.\.64"),
        ("ties", {"arms": 1}, "arms 1"),
        ("iid", {"arms": 2, "alphas": [0.5]}, "1 alphas"),
        ("iid", {"arms": 1, "alphas": [1.5]}, "alpha 1.5"),
        ("iid", {"draft_length": 256}, "draft_length 256"),
        ("iid", {"draft_length": 0}, "draft_length 0"),
        ("iid", {"prompts": 0}, "prompts 0"),
        ("iid", {"length": 0}, "length 0"),
        ("drift", {"period": 0}, "period 0"),
        ("iid", {"coupling": "none"}, "coupling 'none'"),
        ("iid", {"temperature": -1.0}, "temperature -1"),
    ],
)
def test_impossible_settings_are_named(tmp_path: Path, kind: str, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        synth(kind, tmp_path / "t", **settings)
    assert not (tmp_path / "t").exists()
