"""The processes of one job: what they tell each other, and how one that fails or is lost ends the others.

They speak through the key-value store that torch's rendezvous opens, kept by rank 0 or by torchrun, and by no
collective: whoever waits also looks whether the others still live, so nobody hangs on a process that was killed.
Knows nothing of what the job is.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, NoReturn

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from metasd.core import shown
from metasd.core.errors import RankError
from metasd.core.ranks import Place

BEAT = 2.0
"""Seconds between two signs of life."""
SILENT = 60.0
"""Seconds without one after which a process counts as lost."""
START = 600.0
"""Seconds that processes wait for one that has given none yet."""
POLL = 0.05
"""Seconds between two looks of a process that waits."""


class Group:
    """A context manager: inside, this process is one of the job's. See the module docstring.

    An exception inside is told to the others, whose next ``hear`` or ``check`` raises RankError. SIGTERM, with which
    torchrun ends processes, is then an interrupt like Ctrl-C, so what is done can be kept.

    Raises RankError where the others are not found.
    """

    def __init__(self, place: Place) -> None:
        self.rank, self.size, self.local = place.rank, place.size, place.local
        self._where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        self._store = self._ask(self._join, place)
        self._over = threading.Event()
        now = time.monotonic()
        self._heard = {other: (0, now) for other in range(self.size) if other != self.rank}
        self._looked = now
        self._lost: set[int] = set()
        self.patience = SILENT  # seconds that rank 0 stays for the others to leave

    @staticmethod
    def _join(place: Place) -> Any:
        opened, _, _ = next(iter(rendezvous("env://", place.rank, place.size, timeout=timedelta(seconds=START))))
        return _prefixed(f"metasd/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", opened)

    def __enter__(self) -> Group:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        threading.Thread(target=self._beat, args=(self._store.clone(),), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError):
            if error is not None and not isinstance(error, RankError):
                said = "was interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {_reason(error)}"
                self._store.set("failed", f"rank {self.rank} {said}")
                self._store.add("failures", 1)
            self._store.add(f"left/{self.rank}", 1)
            if self.rank == 0:  # it keeps the store that the others still read
                self._see_off()
        self._over.set()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def tell(self, key: str, said: str | bytes) -> None:
        """Let everyone who asks for ``key`` hear ``said``."""
        self._ask(self._store.set, key, said)

    def hear(self, key: str, meanwhile: Callable[[], object] = lambda: None) -> bytes:
        """What was told as ``key``; waits for it, calling ``meanwhile`` now and then. Raises RankError as ``check``."""
        while not self._ask(self._store.check, [key]):
            self.check()
            meanwhile()
            time.sleep(POLL)
        return bytes(self._ask(self._store.get, key))

    def shared(self, key: str, make: Callable[[], str]) -> str:
        """What rank 0 makes, the same for all."""
        if self.rank == 0:
            made = make()
            self.tell(key, made)
            return made
        return self.hear(key).decode()

    def count(self, key: str, steps: int = 0) -> int:
        """Add ``steps`` to a number that all share, from 0; what it is now."""
        return int(self._ask(self._store.add, key, steps))

    def check(self) -> None:
        """Raises RankError when another process has failed, was interrupted or has not been heard of for long."""
        now = time.monotonic()
        if now < self._looked + min(1.0, BEAT):
            return
        self._looked = now
        if self.count("failures"):
            raise RankError(self._ask(self._store.get, "failed").decode())
        for other in self._heard:
            self._check_alive(other, now)

    def explain(self, error: Exception) -> NoReturn:
        """Raise RankError for ``error``, by which torch says that another process left: with its reason, if it told."""
        until = time.monotonic() + max(2.0, 2 * BEAT)
        while time.monotonic() < until:
            self._looked = -math.inf
            self.check()
            time.sleep(POLL)
        raise RankError(f"another rank was lost ({shown.reason(error)[:200]}); start all ranks again") from error

    def store(self, name: str) -> Any:
        """A store of this group for what torch keeps under ``name``."""
        return _prefixed(name, self._store.clone())

    def _check_alive(self, other: int, now: float) -> None:
        beats, since = self._heard[other]
        heard = self.count(f"beat/{other}")
        if heard != beats:
            self._heard[other] = (heard, now)
        elif now - since > (SILENT if beats else START) and not self.count(f"left/{other}"):
            self._lost.add(other)
            raise RankError(
                f"rank {other} has not been heard of for {now - since:.0f} s: it was killed, or its machine is lost; "
                "start all ranks again"
            )

    def _beat(self, store: Any) -> None:
        with suppress(RuntimeError):  # the store has gone; whoever waits for something says so
            while True:
                store.add(f"beat/{self.rank}", 1)
                if self._over.wait(BEAT):
                    return

    def _see_off(self) -> None:
        """Wait until the others have left, as long as ``patience`` lasts."""
        until, others = time.monotonic() + self.patience, self._heard.keys() - self._lost
        while time.monotonic() < until:
            if all(self._store.add(f"left/{other}", 0) for other in others):
                return
            time.sleep(POLL)

    def _ask(self, call: Callable[..., Any], *given: Any) -> Any:
        try:
            return call(*given)
        except (RuntimeError, ValueError) as error:  # torch's own errors of stores and networks are RuntimeErrors
            raise RankError(
                f"the other ranks cannot be reached at {self._where} ({shown.reason(error)}): rank 0 has ended or was "
                "never there; start all ranks again"
            ) from error


def _prefixed(name: str, store: Any) -> Any:
    named: Any = dist  # whose stores have no types
    return named.PrefixStore(name, store)


def _reason(error: BaseException) -> str:
    return shown.reason(error) if isinstance(error, Exception) else type(error).__name__
