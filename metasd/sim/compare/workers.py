"""Plays jobs in parallel processes and keeps what is finished, so an interrupted comparison goes on where it was."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

from metasd.core import files
from metasd.core.errors import UsageError
from metasd.sim.compare.job import Job, JobOutcome, play

Progress = Callable[[int, str], AbstractContextManager[Callable[..., None]]]
"""``metasd.core.progress.bar``, or anything that fits in its place."""


def run(
    jobs: Sequence[Job], workers: int | None, folder: Path | None, progress: Progress | None, *, lenient: bool
) -> tuple[dict[int, JobOutcome], dict[int, str]]:
    """Play ``jobs``, taking finished ones from ``folder`` and keeping new ones there. Cells and failures by job."""
    outcomes: dict[int, JobOutcome] = {}
    failures: dict[int, str] = {}
    if folder is not None:
        files.make_folder(folder)
        outcomes = {i: JobOutcome.load(job.file(folder)) for i, job in enumerate(jobs) if job.file(folder).exists()}
    missing = [i for i in range(len(jobs)) if i not in outcomes]
    with (progress or _silent)(len(missing), "compare") as advance:
        for i, result in _play_all({i: jobs[i] for i in missing}, workers):
            advance()
            try:
                outcomes[i] = result()
            except UsageError as error:
                if not lenient:
                    raise
                failures[i] = str(error)
                continue
            if folder is not None:
                outcomes[i].save(jobs[i].file(folder))
    return outcomes, failures


def _play_all(jobs: Mapping[int, Job], workers: int | None) -> Iterator[tuple[int, Callable[[], JobOutcome]]]:
    """Finished jobs as they come, each with a call that returns its job or raises what it raised."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers or available, len(jobs))
    if count <= 1:
        for i, job in jobs.items():
            yield i, partial(play, job)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    with ProcessPoolExecutor(count, mp_context=context) as executor:
        with _without_main():  # submitting is what starts processes
            futures: dict[Future[JobOutcome], int] = {executor.submit(play, job): i for i, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes started inside do not import the caller's main module, so that a script needs no guard.

    A job has all it needs: policies of that module travel by value.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _silent(total: int, label: str) -> Iterator[Callable[..., None]]:
    yield lambda *_: None
