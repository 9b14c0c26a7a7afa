"""Growth of regret on arms whose law is known, and the bound of docs/theory.md.

Every comparison below is one-sided with a false-alarm probability of 1e-7 under Student's t over independent prompts;
there are fewer than ten in this file, so a correct program fails one with probability below 1e-6. Seeds are fixed.
"""

import json
import math
from functools import cache

import numpy as np
import pytest
from scipy.stats import t as student

from metasd.cli import main
from metasd.sim.compare.bootstrap import Values
from metasd.sim.replay.run import replay
from metasd.sim.theory.bounds import lai_robbins_constant, length_law
from metasd.sim.theory.growth import (
    Growth,
    accepted_mean,
    growth,
    plays_bound,
    regret_at_doublings,
    regret_bound,
    rounds_played,
)
from metasd.traces import Trace, open_trace, synthetic

FALSE_ALARM = 1e-7
CLEAR, CLOSE = (0.9, 0.3, 0.2), (0.7, 0.6, 0.5)
LENGTH = 16384
UCB = "metasd-ucb:beta=1,reward=block_efficiency"


@cache
def iid(alphas: tuple[float, ...], length: int, draft_length: int = 4, *, overlap: bool = False) -> Trace:
    many = {"prompts": 48, "arms": len(alphas), "alphas": alphas, "seed": draft_length}
    return synthetic("iid", length=length, draft_length=draft_length, overlap=overlap, **many)


@cache
def grown(spec: str, alphas: tuple[float, ...], length: int) -> Growth:
    return growth(regret(spec, alphas, length))


@cache
def regret(spec: str, alphas: tuple[float, ...], length: int) -> Values:
    """[P, J + 1] pseudo-regret in tokens at doublings of rounds."""
    mean = accepted_mean(np.array([*alphas, 0.0]), 4)  # the last arm is plain
    arms, _ = rounds_played(iid(alphas, length), spec)
    return regret_at_doublings((mean.max() - mean)[arms], first=32)


@pytest.mark.parametrize(("shape", "exponent"), [(np.log, 0.0), (np.sqrt, 0.5), (lambda t: t, 1.0)])
def test_exact_curves_get_their_exponent(shape: object, exponent: float) -> None:
    curve = np.tile(shape(32.0 * 2 ** np.arange(8)), (5, 1))  # type: ignore[operator]
    found = growth(curve)
    assert found.exponent == pytest.approx(exponent, abs=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9)


def test_growth_wants_positive_increments() -> None:
    with pytest.raises(ValueError, match="need 2, all positive"):
        growth(np.array([[1.0, 2.0, 2.0], [1.0, 2.0, 2.0]]))


def test_standard_error_is_that_of_repeated_samples() -> None:
    """300 samples: the mean jackknife error is within 15 % of the spread; the spread alone has a 4 % error."""
    rng = np.random.default_rng(5)

    def one() -> Growth:
        return growth(np.cumsum(rng.exponential(2.0 ** np.arange(7), (48, 7)), axis=1))

    found = [one() for _ in range(300)]
    spread = np.std([g.exponent for g in found])
    assert np.mean([g.error for g in found]) == pytest.approx(spread, rel=0.25)
    assert np.mean([g.exponent for g in found]) == pytest.approx(1.0, abs=6 * spread / math.sqrt(300) + 0.01)


def test_random_is_linear() -> None:
    found = grown("random", CLEAR, LENGTH)
    assert found.above(0.9, false_alarm=FALSE_ALARM)
    assert found.below(1.1, false_alarm=FALSE_ALARM)


def test_explore_then_commit_is_not_logarithmic() -> None:
    """At least 1 prompt in 4 commits to a worse arm for good, so that none of 48 does has probability below 1e-6."""
    found = grown("explore-then-commit:pulls=8", CLOSE, 4096)
    assert found.above(0.5, false_alarm=FALSE_ALARM)


def test_epsilon_greedy_is_not_logarithmic() -> None:
    assert grown("epsilon-greedy", CLEAR, LENGTH).above(0.5, false_alarm=FALSE_ALARM)


def test_ucb_is_slower_than_a_square_root() -> None:
    found = grown(UCB, CLEAR, LENGTH)
    assert found.below(0.5, false_alarm=FALSE_ALARM)
    assert found.below(0.25, false_alarm=FALSE_ALARM)


def test_a_change_inside_the_text_breaks_the_logarithm() -> None:
    """The negative control: where the good arm changes every 1,024 tokens, UCB's regret to it is no logarithm."""
    period = 1024
    trace = synthetic("alternation", prompts=32, length=8192, arms=2, draft_length=4, period=period, overlap=False)
    arms, positions = rounds_played(trace, UCB)
    good = (positions // period + np.arange(len(trace))[:, None]) % 2
    bad_mean, good_mean = accepted_mean(np.array([0.1, 0.9]), 4)
    found = growth(regret_at_doublings((good_mean - bad_mean) * (arms != good), first=128))
    assert found.above(0.5, false_alarm=FALSE_ALARM)


def lost(trace: Trace, spec: str) -> tuple[Values, Values]:
    """[P] rounds beyond those of arm 0 (the best), and plays of worse arms."""
    ours, best = replay(trace, spec), replay(trace, "fixed:arm=arm0")
    rounds = ours.by_prompt(ours.ledger.rounds_of()) - best.by_prompt(best.ledger.rounds_of())
    return rounds, ours.by_prompt(ours.ledger.arms[:, 1:].sum(axis=1))


def upper(values: Values) -> float:
    """The mean's upper confidence limit at FALSE_ALARM."""
    return float(
        values.mean() + student.isf(FALSE_ALARM, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    )


def falls(before: Values, after: Values) -> bool:
    """Whether the mean falls, wrongly so with probability FALSE_ALARM (Welch, with the smaller degrees of freedom)."""
    error = math.sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after))
    return bool((before.mean() - after.mean()) / error > student.isf(FALSE_ALARM, len(before) - 1))


def test_measured_regret_stays_below_the_bound() -> None:
    rounds, _ = lost(iid(CLEAR, LENGTH), UCB)
    bound = regret_bound(np.array(CLEAR), 4, LENGTH, reward="block_efficiency", beta=1)
    at_random, _ = lost(iid(CLEAR, LENGTH), "random")
    assert rounds.mean() > 0
    assert upper(rounds) < bound
    assert bound < at_random.mean() / 8  # and the bound says something


def test_block_divergence_needs_less_the_longer_the_draft() -> None:
    """The paper's claim, with the confidence width that the reward's variance allows: beta = 1 / sqrt(G)."""
    alphas = (0.8, 0.4, 0.3)
    found = {}
    for G in (1, 4, 8):
        spec = f"metasd-ucb:beta={1 / math.sqrt(G)},reward=block_divergence"
        found[G] = lost(iid(alphas, 4096, G, overlap=True), spec)
        bound = regret_bound(np.array([*alphas, 0.0]), G, 4096, reward="block_divergence", beta=1 / math.sqrt(G))
        assert upper(found[G][0]) < bound
    for shorter, longer in ((1, 4), (4, 8)):
        assert falls(found[shorter][0], found[longer][0])  # rounds lost
        assert falls(found[shorter][1], found[longer][1])  # plays of worse arms


def test_block_efficiency_does_not() -> None:
    """The variance of accepted / G does not shrink: beta must stay at 1, and longer drafts cost more to tell apart."""
    alphas = (0.8, 0.4, 0.3)
    short, long = (lost(iid(alphas, 4096, G, overlap=True), UCB)[0] for G in (1, 8))
    assert falls(long, short)


def test_bounds_by_hand() -> None:
    np.testing.assert_allclose(accepted_mean(np.array([0.5, 1.0, 0.0]), 3), [0.875, 3, 0])
    expected = 8 * math.log(1000) / 0.25 + 1 + 2 * 1.2020569031595942  # zeta(3)
    assert plays_bound(0.5, 1000, beta=1, proxy=0.25) == pytest.approx(expected)
    assert plays_bound(0.5, 1000, beta=0.5, proxy=0.25) == math.inf
    one = regret_bound(np.array([0.5, 0.25]), 1, 1000, reward="block_efficiency", beta=1)
    assert one == pytest.approx((plays_bound(0.25, 1000, beta=1, proxy=0.25) * 0.25 + 1) / 1.5)
    same = regret_bound(np.array([0.5, 0.25]), 1, 1000, reward="block_divergence", beta=1)
    assert same == one  # with one drafted token the two rewards agree in mean and proxy


def test_lai_robbins_is_below_what_ucb_pays() -> None:
    """The asymptotic least cost of a doubling, C ln 2, against what UCB with a valid beta pays for its last one."""
    trace = iid(CLEAR, LENGTH)
    paid = np.diff(regret(UCB, CLEAR, LENGTH), axis=1)[:, -1]
    least = lai_robbins_constant(length_law(trace, trace.pool())) * math.log(2)
    assert least > 0
    assert -upper(-paid) > least


def test_the_command_tells_growth_and_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    source = "synthetic:kind=iid,prompts=24,length=2048,arms=3,draft_length=4,overlap=false"
    policies = [word for spec in ("random", UCB, "exp3") for word in ("--policy", spec)]
    assert main(["growth", "--trace", source, *policies, "--json"]) == 0
    random, ucb, _ = json.loads(capsys.readouterr().out)["results"]
    assert random["exponent"] == pytest.approx(1, abs=0.1)
    assert ucb["exponent"] < 0.8
    assert ucb["regret"] < random["regret"] / 2
    trace = open_trace(source)
    assert ucb["lai_robbins"] == pytest.approx(lai_robbins_constant(length_law(trace, trace.pool())))
    rates = np.array([*trace.manifest["config"]["law"]["rates"], 0.0])
    assert ucb["bound"] == pytest.approx(regret_bound(rates, 4, 2048, reward="block_efficiency", beta=1))
    assert random["bound"] is None
    assert main(["growth", "--trace", source.replace("2048", "20"), "--policy", "random"]) == 2
    assert "growth needs" in capsys.readouterr().err
