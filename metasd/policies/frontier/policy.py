"""The default policy: a masked contextual index that learns free drafters from counterfactuals let through by the
frontier, model drafters from their own rounds, and both from an offline prior where one is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import Bools, Context, Floats, Ints, Revealed, Rounds, StopReason
from metasd.core.signals import INDEX
from metasd.policies.base import Policy, best, unstalled, worthwhile
from metasd.policies.frontier import rollout
from metasd.policies.frontier.afford import affordable
from metasd.policies.frontier.belief import STIFF, PoolLayout, cold_start, gather, warm_start
from metasd.policies.frontier.features import W, features, free_features
from metasd.policies.frontier.level import BETWEEN, Levels
from metasd.policies.frontier.prior import Prior, lay_out
from metasd.policies.frontier.rollout import Counterfactuals
from metasd.policies.frontier.yields import yields

PROPOSAL = INDEX["proposal_length"]

FREE_WEIGHT = 1 / 3  # of one counterfactual start: neighbouring starts say nearly the same
TEXT_CAP = 100.0  # rows after which those of one text count less and less: a runaway loop must not own the model
PATIENCE = 1 / 32  # solve again once the new rows weigh this share of all
DRAWS = (2.0, 1.0)  # draft tokens accepted and rejected before any: a chance of two in three
TIE = 1e-9
REJECTED = int(StopReason.REJECTED)
TEXT_ENDED, BUDGET_ENDED = int(StopReason.TEXT_ENDED), int(StopReason.BUDGET_ENDED)


class Frontier(Policy):
    """Plays the arm with the largest index: expected tokens of a round, less what its time is worth.

    Index of arm k: x.theta_k + level_k + alpha s sqrt(ln t x^T A^-1 x) [models only] + prior's corrections - rho cost_k

    x: clipped signals (``metasd.policies.frontier.features``); theta_k = A^-1 b_k, a Bayesian linear regression of the
    tokens a round emits. Free drafters learn from every start whose outcome the frontier has resolved, so they need no
    exploration; model drafters from their own rounds (LinUCB; Li et al. 2010, arXiv 1003.0146), and there from their
    overlap where it is told (``metasd.policies.frontier.yields``). One page explains it: ``docs/default-policy.md``.

    Args:
        objective: ``rounds`` (tokens per round, rho = 0), ``time`` (tokens per second: rho is the running rate) or
            ``auto``: time where the session knows what rounds cost, else rounds. ``pursues`` says which it was.
        watch: ``free`` learns model drafters from their own rounds only; ``all`` from every start, as free ones, at the
            price of letting each catch up after every round; ``auto`` is ``all`` where rounds are the objective.
        alpha: width of the confidence bound of model drafters, in standard deviations s of what a round emits.
        n0: rows that an offline prior is worth against what is seen online.
        reward: only ``tokens``; the index is in emitted tokens.
    """

    feedback: ClassVar[Literal["bandit", "full"]] = "full"
    scope: ClassVar[Literal["free", "all"]] = "free"
    reads: ClassVar[frozenset[str]] = frozenset({"signals", "tail", "proposal"})
    default_reset: ClassVar[Literal["prompt", "never"]] = "never"
    sums: ClassVar[tuple[str, ...]] = ("A", "b", "mass", "draws", "said", "rate")
    derived: ClassVar[tuple[str, ...]] = ("P", "theta")

    def __init__(
        self,
        objective: str = "auto",
        watch: str = "auto",
        alpha: float = 1.0,
        n0: float = 1000.0,
        reward: str = "tokens",
        mask: bool = True,
    ) -> None:
        super().__init__(reward, mask)
        if objective not in ("auto", "rounds", "time"):
            raise UsageError(f"objective {objective!r} is unknown; use auto, rounds or time")
        if watch not in ("auto", "free", "all"):
            raise UsageError(f"watch {watch!r} is unknown; use auto, free or all")
        if reward != "tokens":
            raise UsageError(f"this policy counts emitted tokens, reward {reward!r} does not fit; use reward=tokens")
        if not (alpha >= 0 and n0 > 0):
            raise UsageError(f"alpha {alpha} must be >= 0 and n0 {n0} > 0")
        self.objective, self.watch, self.alpha, self.n0 = objective, watch, alpha, n0
        self.pursues = "time" if objective == "time" else "rounds"
        self.prior = "none"
        self._data: Mapping[str, Any] | None = None

    def set_prior(self, prior: Mapping[str, Any]) -> None:
        """Start from what ``metasd fit`` learned; it is checked against the pool by ``bind``."""
        self._data = prior

    @classmethod
    def fit(cls, data: Counterfactuals) -> dict[str, Any]:
        """The prior that full counterfactuals of training texts teach (``metasd.policies.frontier.rollout``)."""
        return rollout.fit(data)

    def wants(self, overlap: bool, timed: bool = False, models: bool = True) -> dict[str, Any]:
        """As ``Policy.wants``; overlap of model drafters, where there are any; the expected cost of arms too when it
        pursues time; the scope as ``watch`` says."""
        if self.objective == "auto":
            self.pursues = "time" if timed else "rounds"
        by_time = self.pursues == "time"
        scope = ("free" if by_time else "all") if self.watch == "auto" else self.watch
        return super().wants(overlap, timed, models) | {
            "overlap": overlap and models,
            "reads": self.reads | ({"cost", "pays"} if by_time else set()),
            "scope": scope,
        }

    def bind(self, pool: Pool, lanes: int, *, reset: str | None = None, overlap: bool = True) -> None:
        """As ``Policy.bind``. Raises UsageError when the prior is of other drafters than the pool's."""
        self._layout = PoolLayout.of(pool)
        self._prior: Prior | None = None if self._data is None else lay_out(self._data, pool)
        self.prior = "none" if self._prior is None else self._prior.name
        super().bind(pool, lanes, reset=reset, overlap=overlap)

    # -- state --------------------------------------------------------------------------------------------------

    def allocate(self, lanes: int, arms: int) -> None:
        drafters = len(self._layout.free)
        self.A = np.zeros((lanes, drafters, W, W))  # second moments of the rows of each drafter
        self.P = np.zeros((lanes, drafters, W, W))  # their inverse when last solved
        self.b = np.zeros((lanes, arms, W))
        self.theta = np.zeros((lanes, arms, W))
        self.mass = np.zeros((lanes, drafters, 2))  # weight of the rows solved for, and of those since
        self.text_rows = np.zeros((lanes, drafters))  # rows of the present text
        self.draws = np.zeros((lanes, drafters, 2))  # draft tokens accepted and rejected
        self.said = np.zeros((lanes, drafters, 2))  # tokens accepted, and expected from overlap, of models' rounds
        self.watched = np.zeros((lanes, drafters), bool)  # drafters that starts, not their own rounds, teach
        self.rate = np.zeros((lanes, 2))  # tokens emitted and seconds spent
        self.seen = np.zeros((lanes, drafters, W))  # features at the last choice
        self.asked = np.zeros((lanes, arms))  # cost of each arm at the last choice
        self._levels = Levels(lanes, arms)
        self._start = cold_start(self._layout, STIFF if self.pursues == "time" else 1.0)
        if self._prior is not None:
            self._start = warm_start(self._layout, self._prior, self.n0, self._start)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        return super().state_dict() | {f"level.{k}": v.copy() for k, v in vars(self._levels).items()}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        super().load_state_dict({k: v for k, v in state.items() if not k.startswith("level.")})
        for name, value in vars(self._levels).items():
            value[...] = state[f"level.{name}"]

    def _learned(self) -> list[NDArray[Any]]:
        return [*super()._learned(), *vars(self._levels).values()]

    def clear(self, lanes: Ints) -> None:
        moments, b = self._start.moments, self._start.b
        self.A[lanes], self.b[lanes] = moments, b
        inverse = np.linalg.inv(moments)
        self.P[lanes] = inverse
        self.theta[lanes] = np.einsum("kwv,kv->kw", inverse[self._layout.drafter_of], b)
        self.draws[lanes], self.said[lanes] = DRAWS, 0.0
        self._levels.clear(lanes)
        self.mass[lanes], self.rate[lanes] = 0.0, 0.0
        self.watched[lanes] = self._layout.foretold
        self.text_rows[lanes], self.seen[lanes], self.asked[lanes] = 0.0, 0.0, 0.0

    def begin(self, lanes: Ints, keys: Any) -> None:
        super().begin(lanes, keys)
        self.text_rows[lanes] = 0.0
        self._levels.gone[lanes] = BETWEEN

    def accumulate(self, lane: int, learned: Mapping[str, NDArray[Any]]) -> None:
        """As ``Policy.accumulate``; solves the regressions anew."""
        super().accumulate(lane, learned)
        self.mass[lane] = self.mass[lane].sum(axis=1, keepdims=True) * (1.0, 0.0)
        self.P[lane] = np.linalg.inv(self.A[lane])
        self.theta[lane] = (self.b[lane, :, None] @ self.P[lane, self._layout.drafter_of])[:, 0]

    # -- choosing -----------------------------------------------------------------------------------------------

    def choose(self, context: Context, allowed: Bools) -> Ints:
        layout = self._layout
        assert context.signals is not None, "this policy reads signals"
        self.seen[...] = features(np.asarray(context.signals, np.float64), layout.free)
        value = np.minimum(self._value(context), context.remaining[:, None])
        if layout.some_plain:
            value = np.where(layout.plain, 1.0, value)
        if layout.ladder:
            value = layout.level(value, context.signals[:, :, PROPOSAL])
        if self.pursues == "time":
            value = value - self._rho(context, value) * self.asked
            allowed = affordable(self._layout, worthwhile(context, allowed), self.asked, self.rate)
        return best(value - TIE * layout.draft_length, allowed)

    def _value(self, context: Context) -> Floats:
        """[B, K] expected tokens of a round, with the prior's corrections and the model drafters' bonus."""
        layout, prior = self._layout, self._prior
        value = (self.theta * self.seen[:, layout.drafter_of]).sum(axis=2)
        if prior is not None:
            value = value + prior.offsets(context, layout.free)
        value = value + self._levels.here()
        if self.alpha and len(layout.models):
            m = self.seen[:, layout.models]
            spread = ((m[:, :, None, :] @ self.P[:, layout.models])[:, :, 0] * m).sum(axis=2)
            rounds = self.mass[:, layout.models].sum(axis=(1, 2))
            scale = (self._levels.noise()[:, 1] * np.log(math.e + rounds))[:, None]
            bonus = np.zeros(self.mass.shape[:2])
            bonus[:, layout.models] = self.alpha * np.sqrt(scale * np.maximum(spread, 0.0))
            value = value + bonus[:, layout.drafter_of]
        return value

    def _rho(self, context: Context, value: Floats) -> Floats:
        """[B, 1] running tokens a second (the ratio's own value, Dinkelbach 1967); before any round, the best hoped."""
        if context.cost is None or np.isnan(context.cost).any():
            raise UsageError(
                "objective=time needs the cost of every arm, which is not known here; "
                "give --costs or use objective=rounds"
            )
        self.asked[...] = context.cost
        tokens, seconds = self.rate[:, 0], self.rate[:, 1]
        hoped = (value / self.asked).max(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(seconds > 0, tokens / seconds, hoped)[:, None]

    # -- learning -----------------------------------------------------------------------------------------------

    def update(self, rounds: Rounds) -> None:
        if self.pursues == "time":
            asked = self.asked[rounds.lane, rounds.arm]
            spent = asked if rounds.seconds is None else unstalled(rounds.seconds, asked)
            self.rate[rounds.lane, 0] += rounds.emitted
            self.rate[rounds.lane, 1] += spent
        super().update(rounds)
        self._levels.gone[rounds.lane] += rounds.emitted

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        """Drafters not watched: every round of their own that the drafter, not the text's end, brought to an end."""
        told = ~self._layout.plain[rounds.arm] & ~self.watched[rounds.lane, self._layout.drafter_of[rounds.arm]]
        told &= (rounds.stop != TEXT_ENDED) & (rounds.stop != BUDGET_ENDED)
        if not told.any():
            return
        if not told.all():
            rounds = rounds.take(told)
        lane, drafter = rounds.lane, self._layout.drafter_of[rounds.arm]
        self.draws[lane, drafter, 0] += rounds.accepted
        self.draws[lane, drafter, 1] += rounds.stop == REJECTED
        lengths = self._layout.draft_length[self._layout.arms[drafter]]
        models = ~self._layout.free[drafter]
        y = yields(rounds, drafter, lengths, self.draws[lane, drafter], models, self.said)
        self._add(lane, drafter, self.seen[lane, drafter], y, 1.0)

    def observe(self, revealed: Revealed) -> None:
        """Watched drafters: every start whose length is resolved. Censored rows are bounds, not lengths: never used."""
        layout = self._layout
        told = layout.drafts[revealed.drafter] & (revealed.proposed > 0) & ~revealed.censored & ~revealed.ended
        used = np.flatnonzero(told)
        if not len(used):
            return
        drafter, lane = revealed.drafter[used], revealed.start_lane[used]
        if len(used) > 1:  # rows of one regression together, those of one text in order
            order = np.argsort(lane * len(layout.free) + drafter, kind="stable")
            used, drafter, lane = used[order], drafter[order], lane[order]
        self.watched[lane, drafter] = True
        signals = np.asarray(revealed.signals[used], np.float64)
        if layout.free[drafter].all():
            x = free_features(signals, layout.free, drafter)
        else:
            x = features(signals, layout.free)[np.arange(len(drafter)), drafter]
        y = np.minimum(revealed.accepted[used, None], layout.draft_length[layout.arms[drafter]]) + 1.0
        self._add(lane, drafter, x, y, FREE_WEIGHT)

    def _add(self, lane: Ints, drafter: Ints, x: Floats, y: Floats, weight: float) -> None:
        """Learn rows [r], those of one lane and drafter together: features [r, W], yields by draft length [r, M]."""
        first, count, rows = gather(lane, drafter, np.concatenate((x, y), axis=1))
        lane, drafter = lane[first], drafter[first]
        self._see(lane, drafter, rows, weight, count)
        w = weight * np.minimum(1.0, TEXT_CAP / (1.0 + self.text_rows[lane, drafter]))
        self.text_rows[lane, drafter] += weight * count
        sums = (w[:, None, None] * rows[:, :, :W]).transpose(0, 2, 1) @ rows
        self.A[lane, drafter] += sums[:, :, :W]
        # An arm that the layout repeats is added to once: numpy gathers, adds and puts back.
        self.b[lane[:, None], self._layout.arms[drafter]] += sums[:, :, W:].transpose(0, 2, 1)
        self._solve(lane, drafter, w * count)

    def _see(self, lane: Ints, drafter: Ints, rows: Floats, weight: float, count: Ints) -> None:
        """Show the local levels what blocks of ``rows`` [g, most, W + M] yielded beyond the regression."""
        arms = self._layout.arms[drafter]
        expected = np.einsum("gw,gmw->gm", rows[:, :, :W].sum(axis=1), self.theta[lane[:, None], arms])
        residual = (rows[:, :, W:].sum(axis=1) - expected) / count[:, None]
        self._levels.see(lane, np.where(self._layout.free[drafter], 0, 1), arms, residual, weight * count)

    def _solve(self, lane: Ints, drafter: Ints, weight: Floats) -> None:
        """Note the ``weight`` [n] of new rows of each (lane, drafter); solve again where enough came together."""
        mass = self.mass[lane, drafter]
        mass[:, 1] += weight
        due = mass[:, 1] >= PATIENCE * mass[:, 0]
        self.mass[lane, drafter] = mass
        if not due.any():
            return
        lane, drafter = lane[due], drafter[due]
        self.mass[lane, drafter, 0] += self.mass[lane, drafter, 1]
        self.mass[lane, drafter, 1] = 0.0
        inverse = np.linalg.inv(self.A[lane, drafter])
        arm = lane[:, None], self._layout.arms[drafter]
        self.P[lane, drafter] = inverse
        self.theta[arm] = self.b[arm] @ inverse
