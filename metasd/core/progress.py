"""Progress of long work, on stderr: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from metasd.core import shown

EVERY = 10.0
"""Seconds between lines where stderr is not a terminal."""
ENOUGH = 0.05
"""Share of the work from which a line says how long the rest takes: a first step may hold all that comes before it."""


class Advance(Protocol):
    """What the work calls: ``advance(steps)`` when it got on, ``advance.say(line)`` for a remark."""

    def __call__(self, steps: int = 1) -> None: ...

    def say(self, line: str) -> None: ...


@contextmanager
def bar(total: int, label: str) -> Iterator[Advance]:
    """Yields an ``Advance``; ``total`` is in its steps."""
    if sys.stderr.isatty():
        with _terminal(total, label) as advance:
            yield advance
    else:
        yield _Lines(total, label)


def lines(total: int, label: str) -> Advance:
    """An ``Advance`` that writes lines on a terminal too, for work that shows something else on it."""
    return _Lines(total, label)


@contextmanager
def _terminal(total: int, label: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)

        class _Bar:
            def __call__(self, steps: int = 1) -> None:
                progress.advance(task, steps)

            def say(self, line: str) -> None:
                progress.console.print(shown.line(line), highlight=False, markup=False)

        yield _Bar()


class _Lines:
    """One line every ``EVERY`` seconds, and one at the end."""

    def __init__(self, total: int, label: str) -> None:
        self.total, self.label, self.done = total, label, 0
        self.began = self.spoke = time.monotonic()

    def __call__(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.spoke < EVERY and self.done < self.total:
            return
        self.spoke = now
        said = f"{self.label}: {self.done}/{self.total}"
        if self.done >= ENOUGH * self.total:
            left = (now - self.began) / max(self.done, 1) * (self.total - self.done)
            said += f", {left:.0f} s left"
        self.say(said)

    def say(self, line: str) -> None:
        print(shown.line(line), file=sys.stderr, flush=True)  # noqa: T201
