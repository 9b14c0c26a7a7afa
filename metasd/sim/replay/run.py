"""One policy on one trace: what ``metasd replay`` prints, ``compare`` repeats and the tests check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.ledger import Ledger
from metasd.core.loop import decode
from metasd.core.noise import key
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints, Rounds
from metasd.policies import PolicyLike, label, make
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
    costs: CostModel | None  # the clock of its seconds
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


def order_of(trace: Trace, seed: int) -> Ints:
    """The order in which a policy that keeps what it learned meets the prompts: seed 0 as recorded, others shuffled."""
    recorded = np.arange(len(trace))
    return recorded if seed == 0 else np.random.default_rng(int(key(seed, "order"))).permutation(recorded)


def replay(
    trace: Trace,
    policy: PolicyLike,
    *,
    seeds: int = 1,
    first_seed: int = 0,
    reset: str | None = None,
    draft_length: int | None = None,
    prior: Mapping[str, Any] | None = None,
    costs: CostModel | None = None,
    budget: int | None = None,
    lanes: int = 256,
    at_once: int = 1,
    keep_rounds: bool = False,
    on_rounds: Callable[[Rounds], object] | None = None,
    watch: Callable[[Ints, Ints], Callable[[Rounds], object]] | None = None,
) -> Replay:
    """Replay ``policy`` on every prompt, under the ``seeds`` seeds from ``first_seed`` on.

    policy: a spec, a class, or an object, which stays as it is: a copy of it plays.
    budget: token budget of a text, at most the recorded one.
    lanes: how many texts are played side by side when the policy is reset at every prompt; results do not depend
        on it. A policy that is never reset gets one lane a seed and meets the prompts one after the other.
    at_once: lanes that a policy which is never reset gets a seed, where a live run decodes so many texts at once: each
        takes the next text that none has begun, and knows what was learned on itself.
    on_rounds: called with the rounds of every play. watch: makes that, from prompt and seed of each episode [E].
    Raises UsageError for an unknown policy or key, a draft length that was not recorded, or a reward it lacks.
    """
    played = make(policy)
    if prior is not None:
        played.set_prior(prior)
    pool = trace.pool(draft_length)
    kept = reset or played.default_reset
    which = np.arange(first_seed, first_seed + seeds)
    timed = costs is not None or trace.costs is not None
    how = played.wants(trace.overlap is not None, timed, pool.models) | {"costs": costs, "budget": budget}
    if kept == "never":
        orders = [order_of(trace, seed) for seed in which.tolist()]
        how["sharing"] = min(at_once, len(trace))
        session = TraceSession.in_order(trace, pool, orders=orders, seeds=which.tolist(), **how)
    else:
        session = TraceSession.per_prompt(trace, pool, lanes=lanes, seeds=which.tolist(), **how)
    played.bind(pool, session.lanes, reset=kept, overlap=trace.overlap is not None)
    ledger = Ledger(pool, len(session.episode_prompt))
    if watch is not None:
        on_rounds = watch(session.episode_prompt, session.episode_seed)
    kept_rounds: list[Rounds] = []
    decode(session, played, ledger, on_rounds=kept_rounds.append if keep_rounds else on_rounds)
    return Replay(
        policy=label(policy),
        settings=played.settings(),
        trace=trace,
        pool=pool,
        costs=costs or trace.costs,
        ledger=ledger,
        prompt=session.episode_prompt,
        seed=session.episode_seed,
        seeds=seeds,
        rounds=kept_rounds,
    )
