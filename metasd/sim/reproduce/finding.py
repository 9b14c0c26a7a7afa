"""What an experiment says: numbers with intervals beside the paper's, verdicts, and the helpers that measure them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from metasd.core.records import Floats
from metasd.sim.compare.bootstrap import Clusters, Estimate, Statistic, Values, ratio
from metasd.sim.replay.run import Replay, replay
from metasd.traces.trace import Trace

REPRODUCED, NOT_REPRODUCED, UNKNOWN = "reproduced", "not reproduced", "cannot be told"
NO_TRAINED = "no trained drafters in this trace"
TRAINED = ("head", "model")
"""Kinds of drafters that were trained."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the paper says of a number.

    said: its words or its number. certainty: H, M or L (docs/reproduction.md). low, high: where the number must lie for
    the claim to hold. None for both: there is nothing to hold it against.
    """

    said: str
    certainty: Literal["H", "M", "L", "-"] = "-"
    low: float | None = None
    high: float | None = None


NOTHING = Claim("not stated")


@dataclass(frozen=True, slots=True)
class Finding:
    """One number: ``value`` in ``unit`` with its 95 % ``interval`` over prompts (None where withheld)."""

    what: str
    value: float | None
    interval: list[float] | None
    unit: str
    paper: str
    certainty: str
    verdict: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Outcome:
    """What an experiment found.

    tables: title to rows of equal keys. maps: title to rows, columns and values of a heat map. lacks: why there is
    nothing, where there is nothing.
    """

    findings: list[Finding] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    maps: dict[str, dict[str, Any]] = field(default_factory=dict)
    lacks: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "findings": [f.to_json() for f in self.findings],
            "tables": self.tables,
            "maps": self.maps,
            "lacks": self.lacks,
        }


@dataclass(frozen=True, slots=True)
class Setting:
    """What experiments run on.

    seeds: repetitions of what is drawn. quick: fewer points where a sweep has many. shifted: a trace of the same pool
    on other prompts: of two tasks, reworded, of other domains. whole: ``trace`` with the drafters made over all
    domains, where it has any.
    """

    trace: Trace
    seeds: int
    quick: bool
    shifted: Trace | None = None
    whole: Trace | None = None

    @property
    def trained(self) -> bool:
        """Whether the trace has trained drafters."""
        return any(d.kind in TRAINED for d in self.trace.drafters)

    def play(self, spec: str, **how: Any) -> Replay:
        """Replay ``spec`` on the trace with the setting's seeds."""
        return replay(self.trace, spec, seeds=self.seeds, **how)


def found(what: str, estimate: Estimate, claim: Claim = NOTHING, *, unit: str = "times", missing: str = "") -> Finding:
    """A finding and its verdict. missing: what the trace lacks for the claim to be put to the test."""
    verdict, reason = judged(estimate, claim) if not missing else (UNKNOWN, missing)
    said = claim.said, claim.certainty
    value = estimate.value if np.isfinite(estimate.value) else None
    return Finding(what, value, estimate.interval, unit, *said, verdict, reason)


def judged(estimate: Estimate, claim: Claim) -> tuple[str, str]:
    """Verdict and reason: the whole interval inside what is claimed, the whole of it outside, or neither."""
    if claim.low is None and claim.high is None:
        return UNKNOWN, "the paper's number is not known here"
    low = -np.inf if claim.low is None else claim.low
    high = np.inf if claim.high is None else claim.high
    ends = estimate.ends()
    if ends is None:
        return UNKNOWN, "too few prompts for an interval"
    if low <= ends[0] and ends[1] <= high:
        return REPRODUCED, ""
    if ends[1] < low or ends[0] > high:
        return NOT_REPRODUCED, ""
    return UNKNOWN, "the interval reaches both sides of what is claimed"


# -- estimates over prompts -------------------------------------------------------------------------------------------


def over(top: Floats, below: Floats) -> Estimate:
    """Sum of ``top`` over sum of ``below``, [P] each, with its interval over prompts."""
    pair = np.stack([np.asarray(top, np.float64), np.asarray(below, np.float64)], axis=1)
    return Clusters(np.zeros(len(pair))).estimate(pair, ratio)


def rounds(outcome: Replay) -> Floats:
    """[P] rounds, mean over seeds."""
    return outcome.by_prompt(outcome.ledger.rounds_of())


def seconds(outcome: Replay) -> Floats | None:
    """[P] seconds, mean over seeds; None without a clock."""
    spent = outcome.ledger.seconds_of()
    return None if spent is None else outcome.by_prompt(spent)


def rate(outcome: Replay) -> Estimate:
    """Tokens per round."""
    return over(outcome.by_prompt(outcome.ledger.counts["emitted"]), rounds(outcome))


def times(outcome: Replay, other: Replay) -> Estimate:
    """Tokens per round of ``outcome`` over those of ``other`` on the same prompts."""
    return over(rounds(other), rounds(outcome))


def estimate(columns: Values, of: Callable[[Values], Values]) -> Estimate:
    """``of`` the sums of ``columns`` [P, m], a smooth function [..., m] -> [...] whose slopes are taken numerically."""
    return Clusters(np.zeros(len(columns))).estimate(columns, _sloped(of))


def _sloped(of: Callable[[Values], Values]) -> Statistic:
    def statistic(sums: Values) -> tuple[Values, Values]:
        slopes = np.empty_like(sums)
        for j in range(sums.shape[-1]):
            step = np.zeros_like(sums)
            step[..., j] = 1e-5 * np.maximum(np.abs(sums[..., j]), 1e-3)
            slopes[..., j] = (of(sums + step) - of(sums - step)) / (2 * step[..., j])
        return of(sums), slopes

    return statistic
