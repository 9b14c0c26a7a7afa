"""How far a recording has come, on stderr. Knows counts and clocks only."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 5.0
"""Seconds between two lines where there is no bar."""


class Meter:
    """A context manager.

    Args:
        total: prompts to do.
        show: None shows a bar on a terminal and nothing elsewhere; True also writes lines elsewhere; False nothing.
    """

    def __init__(self, total: int, show: bool | None = None) -> None:
        self.console = Console(stderr=True)
        terminal = self.console.is_terminal
        self.total, self.done, self.tokens = total, 0, 0
        self._lines = bool(show) and not terminal
        self._shown = self._started = time.perf_counter()
        self._first = 0
        self._bar: Progress | None = None
        if terminal and show is not False:
            columns = (MofNCompleteColumn(), TextColumn("prompts, {task.fields[tokens]:,} tokens"))
            times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            self._bar = Progress(TextColumn("recording"), BarColumn(), *columns, *times, console=self.console)
            self._task = self._bar.add_task("recording", total=total, tokens=0)

    def __enter__(self) -> Meter:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def skip(self, prompts: int) -> None:
        """``prompts`` were recorded before."""
        self.done = self._first = prompts
        if self._bar:
            self._bar.update(self._task, completed=prompts)
            self._bar.reset(self._task, completed=prompts, tokens=0)

    def advance(self, tokens: int) -> None:
        """One more prompt is recorded, with an answer of ``tokens``."""
        self.done += 1
        self.tokens += tokens
        if self._bar:
            self._bar.update(self._task, advance=1, tokens=self.tokens)
        now = time.perf_counter()
        if self._lines and (now - self._shown >= EVERY or self.done == self.total):
            self._shown = now
            left = (now - self._started) / (self.done - self._first) * (self.total - self.done)
            self.say(f"recorded {self.done} of {self.total} prompts, {self.tokens:,} tokens, {left:.0f} s left")

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self._bar:
            self.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201
