"""The process in which parts run, one after the other, and what it tells the one that waits for it.

A part that fails ends its process: an error on a CUDA device can leave it unusable, and a new process has a new one.
"""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from .plan import Part, Setting


class Report:
    """What a part fills in and asks: ``found`` goes into the JSON file, as far as it got when the part ended."""

    def __init__(self, pipe: Connection, seconds: float) -> None:
        self.found: dict[str, Any] = {}
        self._pipe, self._until = pipe, time.monotonic() + seconds

    def say(self, line: str) -> None:
        """Tell how far the part is; what was found so far is then safe."""
        self._pipe.send(("step", line, self.found))

    def time_left(self) -> bool:
        """Whether another step may begin; when not, the part is marked as cut short."""
        left = time.monotonic() < self._until
        if not left:
            self.found["cut_short"] = True
        return left


def work(pipe: Connection, setting: Setting, parts: Sequence[Part]) -> None:
    """Run ``parts``, each when told its seconds; sends ("done" | "failed", message, found) for each."""
    for part in parts:
        report = Report(pipe, pipe.recv())
        try:
            module, _, name = part.where.partition(":")
            getattr(importlib.import_module(module), name)(setting, report)
        except Exception as error:
            report.found["traceback"] = traceback.format_exc().splitlines()
            pipe.send(("failed", one_line(error), report.found))
            return
        pipe.send(("done", "", report.found))


def one_line(error: BaseException) -> str:
    """Its kind and the first line of what it says."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
