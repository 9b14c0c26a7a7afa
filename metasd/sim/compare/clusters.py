"""The clusters that joblib can hand jobs to: how each is reached, and what it raises when a worker is lost."""

from __future__ import annotations

import importlib
import logging
import multiprocessing.resource_tracker
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from joblib.externals.loky.backend import resource_tracker as loky_tracker

from metasd.core.errors import UsageError
from metasd.traces import Trace

BACKENDS = ("loky", "dask", "ray")
"""Processes of this machine, and two clusters; each cluster is an extra, ``metasd[dask]`` and ``metasd[ray]``."""

PATIENCE = 30
"""Seconds to wait for a scheduler."""


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which a terminal sends to all of them: this one ends them. Here it is
    delivered when the block is left."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    for tracker in (multiprocessing.resource_tracker, loky_tracker):
        tracker.ensure_running()  # starting one unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def cluster(backend: str, address: str | None, count: int, traces: Sequence[Trace]) -> Iterator[dict[str, Any]]:
    """Arguments of ``joblib.parallel_config`` while the cluster is reached; left, and stopped if it was started here.

    traces: what lives in memory and every worker needs; Dask ships it once.
    Raises UsageError without the extra, or where no scheduler answers.
    """
    if backend == "dask":
        with _dask(address, count) as client:
            yield {"backend": "dask", "client": client} | ({"scatter": list(traces)} if traces else {})
    elif backend == "ray":
        with _ray(address, count):
            yield {"backend": "ray"}
    else:
        yield {"backend": "loky"}


def lost_errors() -> list[type[BaseException]]:
    """What the clusters in use raise for a lost worker."""
    named = {
        "distributed": ["KilledWorker", "CancelledError"],
        "ray.exceptions": ["WorkerCrashedError", "ActorDiedError"],
    }
    return [getattr(sys.modules[m], name) for m, names in named.items() if m in sys.modules for name in names]


@contextmanager
def _dask(address: str | None, count: int) -> Iterator[Any]:
    distributed = _package("distributed", "dask")
    own = {"n_workers": count, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with _without_main():
        try:
            with no_interrupts():
                client = distributed.Client(address, timeout=PATIENCE, **({} if address else own))
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(f"no Dask scheduler answers at {address} ({error}); give the address it prints") from error
        with client:
            yield client


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes started inside do not import the caller's main module, so that a script needs no guard.

    A job has all it needs: policies of that module travel by value. Processes of joblib's own never import it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _ray(address: str | None, count: int) -> Iterator[None]:
    ray = _package("ray", "ray")
    try:
        with no_interrupts():
            ray.init(address=address, **({} if address else {"num_cpus": count, "include_dashboard": False}))
    except (ConnectionError, OSError, ValueError) as error:
        raise UsageError(f"no Ray cluster answers at {address} ({error}); give the address it prints") from error
    importlib.import_module("ray.util.joblib").register_ray()
    try:
        yield
    finally:
        ray.shutdown()


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"backend {extra} needs {name} ({error}); pip install 'metasd[{extra}]'") from error
