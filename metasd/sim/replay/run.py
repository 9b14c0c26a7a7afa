"""One policy on one trace: what ``metasd replay`` prints, ``compare`` repeats and the tests check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metasd.core.records import Floats, Ints, Rounds
from metasd.core.costs import CostModel
from metasd.core.ledger import Ledger
from metasd.core.loop import decode
from metasd.core.noise import key
from metasd.policies import make
from metasd.core.pool import Pool
from metasd.core.results import by_domain, row
from metasd.sim.oracle.rounds import clairvoyant_rounds, fixed_arm_rounds
from metasd.sim.replay.session import TraceSession
from metasd.traces import Trace


@dataclass(slots=True)
class Replay:
    """The outcome of one policy on a trace, by episode. An episode is one prompt under one seed.

    Attributes:
        prompt: [E] index of each episode's prompt in the trace.
        seed: [E] seed of each episode.
    """

    policy: str
    settings: dict[str, Any]
    trace: Trace
    pool: Pool
    ledger: Ledger
    prompt: Ints
    seed: Ints
    seeds: int
    rounds: list[Rounds]  # every round in the order played, only if asked for

    @property
    def reset(self) -> str:
        return str(self.settings["reset"])

    def by_prompt(self, values: Floats | Ints) -> Floats:
        """[P] mean over seeds of a value per episode."""
        total = np.bincount(self.prompt, weights=values, minlength=len(self.trace))
        return total / self.seeds

    def rows(self) -> list[dict[str, Any]]:
        """Result rows by domain and in total; counts are means over seeds."""
        optimum, arms = comparators(self.trace, self.pool, np.unique(self.seed))
        fixed = arms.min(axis=1)

        def make_row(totals: Any, rows: Ints, domain: str) -> dict[str, Any]:
            at = self.prompt[rows]
            return row(
                totals,
                policy=self.policy,
                reset=self.reset,
                domain=domain,
                regret_rounds=totals.rounds - fixed[at].sum().item() / self.seeds,
                oracle_rounds=optimum[at].sum().item() / self.seeds,
            )

        domains = [self.trace.domains[p] for p in self.prompt]
        return by_domain(self.ledger, domains, make_row, self.seeds)


def comparators(trace: Trace, pool: Pool, seeds: Ints) -> tuple[Floats, Floats]:
    """[P] rounds of the clairvoyant optimum and [P, K] rounds of each arm played throughout, means over ``seeds``.

    Above temperature 0 each seed has the luck that policies meet under it; at 0 one seed says all.
    """
    which = seeds if trace.sampled else seeds[:1]
    P, S = len(trace), len(which)
    episodes: dict[str, Any] = {"prompts": np.tile(np.arange(P), S), "seeds": np.repeat(which, P)}
    optimum = clairvoyant_rounds(trace, pool, **episodes).reshape(S, P).mean(axis=0)
    return optimum, fixed_arm_rounds(trace, pool, **episodes).reshape(S, P, len(pool)).mean(axis=0)


def order_of(trace: Trace, seed: int) -> Ints:
    """The order in which a policy that keeps what it learned meets the prompts: seed 0 as recorded, others shuffled."""
    recorded = np.arange(len(trace))
    return recorded if seed == 0 else np.random.default_rng(int(key(seed, "order"))).permutation(recorded)


def replay(
    trace: Trace,
    spec: str,
    *,
    seeds: int = 1,
    first_seed: int = 0,
    reset: str | None = None,
    draft_length: int | None = None,
    prior: Mapping[str, Any] | None = None,
    costs: CostModel | None = None,
    budget: int | None = None,
    lanes: int = 256,
    keep_rounds: bool = False,
    on_rounds: Callable[[Rounds], object] | None = None,
) -> Replay:
    """Replay the policy that ``spec`` describes on every prompt, under the ``seeds`` seeds from ``first_seed`` on.

    budget: token budget of a text, at most the recorded one.
    lanes: how many texts are played side by side when the policy is reset at every prompt; results do not depend
        on it. A policy that is never reset gets one lane a seed and meets the prompts one after the other.
    on_rounds: called with the rounds of every play, for sums that need not keep them all.
    Raises UsageError for an unknown policy or key, a draft length that was not recorded, or a reward it lacks.
    """
    policy = make(spec)
    if prior is not None:
        policy.set_prior(prior)
    pool = trace.pool(draft_length)
    kept = reset or policy.default_reset
    which = np.arange(first_seed, first_seed + seeds)
    if kept == "never":
        episodes = [order_of(trace, seed) for seed in which.tolist()]
        lane_seeds = [np.full(len(trace), seed) for seed in which.tolist()]
    else:
        pairs = np.stack(np.meshgrid(np.arange(len(trace)), which, indexing="ij"), -1).reshape(-1, 2)
        used = min(lanes, len(pairs))
        episodes = [pairs[lane::used, 0] for lane in range(used)]
        lane_seeds = [pairs[lane::used, 1] for lane in range(used)]
    session = TraceSession(
        trace,
        pool,
        episodes=episodes,
        seeds=lane_seeds,
        costs=costs,
        budget=budget,
        **policy.wants(trace.overlap is not None),
    )
    policy.bind(pool, session.lanes, reset=kept, overlap=trace.overlap is not None)
    ledger = Ledger(pool, len(session.episode_prompt))
    kept_rounds: list[Rounds] = []
    decode(session, policy, ledger, on_rounds=kept_rounds.append if keep_rounds else on_rounds)
    return Replay(
        spec, policy.settings(), trace, pool, ledger, session.episode_prompt, session.episode_seed, seeds, kept_rounds
    )
