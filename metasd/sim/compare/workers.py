"""Plays jobs in parallel and keeps what is finished, so an interrupted comparison goes on where it was.

What runs the jobs is joblib's business: processes of this machine (loky), a Dask or a Ray cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor

from metasd.core import files
from metasd.core.errors import MetaSDError, UsageError
from metasd.sim.compare.clusters import BACKENDS, cluster, lost_errors, no_interrupts
from metasd.sim.compare.job import Job, JobOutcome, play
from metasd.traces import Trace

Progress = Callable[[int, str], AbstractContextManager[Callable[..., None]]]
"""``metasd.core.progress.bar``, or anything that fits in its place."""

LOST = "its worker was lost again and again: killed, or out of memory"


@dataclass(frozen=True, slots=True)
class Workers:
    """Who plays the jobs.

    count: processes of this machine, by default one a core; 1 starts nothing. A cluster has its own number.
    backend: one of ``BACKENDS``. address: of a cluster's scheduler; None starts one on this machine.
    """

    count: int | None = None
    backend: str = "loky"
    address: str | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(f"backend {self.backend!r} is unknown; use {', '.join(BACKENDS)}")
        if self.address is not None and self.backend == "loky":
            raise UsageError(f"address {self.address} needs a cluster; give backend dask or ray with it")


def run(
    jobs: Sequence[Job], workers: Workers, folder: Path | None, progress: Progress | None, *, lenient: bool
) -> tuple[dict[int, JobOutcome], dict[int, str]]:
    """Play ``jobs``, taking finished ones from ``folder`` and keeping new ones there. Outcomes and failures by job.

    A failure is an error of the job's own, where ``lenient``, or a worker that was lost with it three times.
    """
    outcomes: dict[int, JobOutcome] = {}
    failures: dict[int, str] = {}
    if folder is not None:
        files.make_folder(folder)
        outcomes = {i: JobOutcome.load(job.file(folder)) for i, job in enumerate(jobs) if job.file(folder).exists()}
    missing = {i: job for i, job in enumerate(jobs) if i not in outcomes}
    with (progress or _silent)(len(missing), "compare") as advance:
        for i, made in _play_all(missing, workers):
            advance()
            if isinstance(made, JobOutcome):
                outcomes[i] = made
                if folder is not None:
                    made.save(jobs[i].file(folder))
            elif isinstance(made, str) or (lenient and isinstance(made, UsageError)):
                failures[i] = str(made)
            else:
                raise made
    return outcomes, failures


Made = JobOutcome | MetaSDError | str
"""What became of a job: its outcome, its own error, or how its worker was lost."""


def _play_all(jobs: Mapping[int, Job], workers: Workers) -> Iterator[tuple[int, Made]]:
    """What became of each job, as they finish."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers.count or available, len(jobs))
    if workers.backend == "loky" and count <= 1:
        yield from (_played(i, job, None) for i, job in jobs.items())
        return
    left = dict(jobs)
    traces = {id(job.trace): job.trace for job in jobs.values() if isinstance(job.trace, Trace)}
    with cluster(workers.backend, workers.address, count, list(traces.values())) as backend:
        try:
            yield from _until_done(left, count, backend)
        finally:
            if workers.backend == "loky":  # none is kept for later: it would know files and modules as they are now
                get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def _until_done(left: dict[int, Job], count: int, backend: Mapping[str, Any]) -> Iterator[tuple[int, Made]]:
    """Play what is ``left`` together, what a lost worker took with it together again, and then one by one."""
    for _ in range(2):
        try:
            yield from _finished(left, left, count, backend)
            return
        except _lost() as error:
            del error  # its traceback holds the failed call, whose workers would stay
    for i in list(left):
        try:
            yield from _finished(left, [i], 2, backend)
        except _lost():
            yield i, LOST


def _finished(
    left: dict[int, Job], which: Sequence[int] | Mapping[int, Job], count: int, backend: Mapping[str, Any]
) -> Iterator[tuple[int, Made]]:
    """Jobs ``which``, taken from ``left`` as they come back. Raises what a backend raises for a lost worker."""
    tasks = [joblib.delayed(_played)(i, *_apart(left[i])) for i in which]
    with joblib.parallel_config(**backend):
        streams = backend["backend"] != "ray"  # whose joblib backend gives results all at once
        n_jobs = count if backend["backend"] == "loky" else -1
        how = "generator_unordered" if streams else "list"
        with no_interrupts():  # the call starts the processes
            stream = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as=how)(tasks)
        for i, made in stream:
            del left[i]
            yield i, made


def _apart(job: Job) -> tuple[Job, Trace | None]:
    """The job and its trace, where that lives in memory: backends ship an argument once, not once a job."""
    if isinstance(job.trace, Trace):
        return replace(job, trace=Path()), job.trace
    return job, None


def _played(i: int, job: Job, trace: Trace | None) -> tuple[int, Made]:
    """In a worker: the job's outcome, or the error of its own that it met."""
    try:
        return i, play(job if trace is None else replace(job, trace=trace))
    except MetaSDError as error:
        return i, error


def _lost() -> tuple[type[BaseException], ...]:
    return (BrokenExecutor, *lost_errors())


@contextmanager
def _silent(total: int, label: str) -> Iterator[Callable[..., None]]:
    yield lambda *_: None
