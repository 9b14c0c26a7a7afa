"""Many policies on many traces under many seeds, in parallel, resumable: what ``metasd compare`` runs.

Plays the jobs and gathers their outcomes; ``metasd.sim.compare.leaderboard`` makes numbers with intervals of them.
All policies meet the same prompts, and above temperature 0 the same acceptance noise (it is keyed by seed, prompt and
position, not by policy): common random numbers, so differences are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.results import ALL
from metasd.policies import POLICIES, PolicyLike, make
from metasd.sim.compare.entrants import entrant, entrants, first_free, refuse_unknown
from metasd.sim.compare.job import MEANS, Job, JobOutcome, fingerprint, merge
from metasd.sim.compare.outcome import Comparison, Entry, Played, TraceOutcome
from metasd.sim.compare.sums import added
from metasd.sim.compare.workers import Progress, Workers, run
from metasd.sim.oracle.regret import comparators
from metasd.sim.oracle.rounds import expected_arm_rounds
from metasd.sim.oracle.seconds import clairvoyant_seconds
from metasd.traces import Trace, open_trace

SEED_BLOCK = 10


def default_policies() -> list[str]:
    """Every registered policy that needs no setting, under its first name."""
    found: dict[type, str] = {}
    for name, policy in POLICIES.items():
        try:
            make(name)
        except UsageError:
            continue
        found.setdefault(policy, name)
    return list(found.values())


def compare(
    traces: Sequence[str | Path | Trace],
    policies: Sequence[PolicyLike] = (),
    seeds: int = 1,
    *,
    workers: int | None = None,
    prior: Mapping[str, Any] | None = None,
    reset: str | None = None,
    draft_length: int | None = None,
    costs: CostModel | None = None,
    include_unaligned: bool = False,
    resume_dir: Path | None = None,
    progress: Progress | None = None,
    backend: str = "loky",
    address: str | None = None,
) -> Comparison:
    """Play every policy on every trace under seeds 0..seeds-1.

    Args:
        traces: names, folders (``metasd.traces.open_trace``) or traces in memory.
        policies: specs, classes or objects (every job plays a copy); none means every registered policy with its
            defaults, and one that cannot run on a trace is then listed in ``skipped`` with the reason instead of
            raising.
        prior: policies that take one play twice, with and without it.
        workers: processes; by default one a core. With 1 nothing is started. They do not import the caller's main
            module, so a script needs no ``if __name__ == "__main__"``.
        backend, address: "loky", processes here; "dask" or "ray", a cluster whose scheduler is at ``address``, or one
            started here. Its workers open traces that have a folder under the same path; others are sent to them. The
            outcome does not depend on it.
        resume_dir: outcomes of finished jobs are kept here and found again. In-memory traces work too.

    Raises UsageError for an unknown policy or setting, or a prior that no policy takes; TraceError for a bad trace.
    """
    who = Workers(workers, backend, address)
    entries = _entries(list(policies) or default_policies(), prior)
    outcomes = _open(traces, seeds, include_unaligned, draft_length, costs)
    shared: dict[str, Any] = {
        "reset": reset,
        "draft_length": draft_length,
        "costs": None if costs is None else costs.to_json(),
        "include_unaligned": include_unaligned,
    }
    if resume_dir is not None:
        refuse_unknown(entries)
    jobs, parts = list[Job](), list[tuple[TraceOutcome, Entry, range]]()
    for outcome in outcomes:
        for entry in [*_fixed_arms(outcome.pool), *entries]:
            before = len(jobs)
            jobs.extend(_jobs(outcome, entry, seeds, prior, shared))
            parts.append((outcome, entry, range(before, len(jobs))))
    played, failures = run(jobs, who, resume_dir, progress, lenient=not policies)
    skipped = [reason for part in parts for reason in _gather(*part, played, failures)]
    config: dict[str, Any] = {"traces": [o.name for o in outcomes], "policies": [e.label for e in entries]}
    config |= {
        "seeds": seeds,
        "prior": prior is not None,
        **shared,
        "costs": "given" if costs else "as recorded with each trace",
    }
    return Comparison(outcomes, config, skipped)


def _gather(
    outcome: TraceOutcome, entry: Entry, rows: range, outcomes: Mapping[int, JobOutcome], failures: Mapping[int, str]
) -> Iterator[dict[str, str]]:
    """Put the entry's outcomes into ``outcome``; yields why not if one failed. Raises UsageError for a fixed arm."""
    failed = next((failures[i] for i in rows if i in failures), None)
    if failed is not None and entry.comparator:
        raise UsageError(f"{entry.spec} on {outcome.name}: {failed}; nothing can be compared without it")
    if failed is not None:
        yield {"trace": outcome.name, "policy": entry.label, "reason": failed}
        return
    target = outcome.fixed if entry.comparator else outcome.policies
    target.append(_played(entry, [outcomes[i] for i in rows], outcome.pool))


def _entries(policies: Sequence[PolicyLike], prior: Mapping[str, Any] | None) -> list[Entry]:
    cold = entrants(policies)
    if prior is None:
        return cold
    if not any(e.takes_prior for e in cold):
        raise UsageError(f"none of the policies {', '.join(e.spec for e in cold)} takes a prior; leave --prior out")
    return [twin for e in cold for twin in ([replace(e, warm=True), e] if e.takes_prior else [e])]


def _open(
    traces: Sequence[str | Path | Trace],
    seeds: int,
    include_unaligned: bool,
    draft_length: int | None,
    costs: CostModel | None,
) -> list[TraceOutcome]:
    outcomes: list[TraceOutcome] = []
    for source in traces:
        trace = source if isinstance(source, Trace) else open_trace(source, include_unaligned=include_unaligned)
        label = first_free(trace.name, {ALL, *(o.name for o in outcomes)})
        outcomes.append(_opened(label, trace, trace.pool(draft_length), seeds, costs))
    return outcomes


def _opened(name: str, trace: Trace, pool: Pool, seeds: int, costs: CostModel | None) -> TraceOutcome:
    """A trace without policies yet."""
    optimum, fixed_rounds = comparators(trace, pool, np.arange(seeds))
    outcome = TraceOutcome(
        name, fingerprint(trace), trace, pool, optimum, fixed_rounds, expected_arm_rounds(trace, pool)
    )
    if costs is not None or trace.costs is not None:
        P, S = len(trace), seeds if trace.sampled else 1
        which: dict[str, Any] = {"prompts": np.tile(np.arange(P), S), "seeds": np.repeat(np.arange(S), P)}
        seconds = clairvoyant_seconds(trace, pool, **which, costs=costs)
        outcome.optimum_seconds = seconds.least.reshape(S, P).mean(axis=0)
        outcome.reached_seconds = seconds.reached.reshape(S, P).mean(axis=0)
        outcome.optimum_seconds_exact = seconds.exact
    return outcome


def _fixed_arms(pool: Pool) -> list[Entry]:
    return [entrant(f"fixed:arm={arm.name}", comparator=True) for arm in pool.arms]


def _jobs(
    outcome: TraceOutcome,
    entry: Entry,
    seeds: int,
    prior: Mapping[str, Any] | None,
    shared: Mapping[str, Any],
) -> Iterator[Job]:
    """The entry's jobs: seeds in blocks. An arm played throughout a fixed text comes out the same under every seed."""
    needed = 1 if entry.comparator and not outcome.trace.sampled else seeds
    for first in range(0, needed, SEED_BLOCK):
        block = min(SEED_BLOCK, needed - first)
        yield Job(
            outcome.trace.path or outcome.trace,
            outcome.fingerprint,
            entry.spec,
            first,
            block,
            prior=prior if entry.warm else None,
            pickled=entry.pickled,
            code=entry.code,
            **shared,
        )


def _played(entry: Entry, outcomes: Sequence[JobOutcome], pool: Pool) -> Played:
    ledger, prompt = merge(outcomes, pool)
    seeds = sum(c.config["seeds"][1] for c in outcomes)
    return Played(
        entry=entry,
        settings=outcomes[0].settings,
        ledger=ledger,
        prompt=prompt,
        seed=np.concatenate([c.seed for c in outcomes]),
        seeds=seeds,
        **{name: sum(getattr(c, name) for c in outcomes) / seeds for name in MEANS},
        accepted=reduce(added, [c.accepted for c in outcomes]) / seeds,
        shown=outcomes[0].shown,
    )
