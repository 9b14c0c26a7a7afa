"""The prompts that one of several processes records, and what it hears of the others' while they record theirs.

A drafter that remembers must have read every earlier text, in the prompts' order, whoever records it. So a process
decodes the answers of a run of neighbouring prompts, tells them, and hears those of the runs before; all of them
decode at the same time, so little is waited for. Where nobody remembers, nothing is exchanged.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from metasd.core import progress
from metasd.record.recorder import Recorder
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.group import Group
from metasd.traces import PromptRecord, open_trace

LONGEST_RUN = 8
"""Neighbouring prompts that a process takes at a time: those of one shard."""
RUNS = 4
"""Runs that every process gets at least, where there are prompts enough: their lengths then even out."""


def runs_of(missing: Sequence[int], ranks: int, longest: int = LONGEST_RUN) -> list[list[int]]:
    """The places ``missing``, ascending, in runs of neighbours; rank r of ``ranks`` takes every ranks-th from r on."""
    longest = max(1, min(longest, len(missing) // (RUNS * ranks)))
    runs: list[list[int]] = []
    for place in missing:
        if runs and runs[-1][-1] == place - 1 and len(runs[-1]) < longest:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


class Share:
    """What this process records of ``texts``: all that is not ``done`` for one that is alone.

    Args:
        out: the trace's folder, which holds the texts that are done.
        group: the processes of the job; None for one that is alone.

    Attributes:
        left: prompts that all processes together have to record.
    """

    def __init__(
        self,
        recorder: Recorder,
        texts: Sequence[EncodedPrompt],
        out: Path,
        done: Collection[str],
        group: Group | None,
    ) -> None:
        self._recorder, self._texts, self._group = recorder, texts, group
        known = set(done)
        missing = [place for place, (name, _, _) in enumerate(texts) if name not in known]
        rank, ranks = (0, 1) if group is None else (group.rank, group.size)
        self._remembers = any(drafter.remembers for drafter in recorder.writers.values())
        # heads draft from the states that decoding left, so with them no answer is decoded ahead of its record
        longest = 1 if ranks > 1 and self._remembers and recorder.heads else LONGEST_RUN
        self.left, self._runs = len(missing), runs_of(missing, ranks, longest)[rank::ranks]
        self._trace = open_trace(out) if known and self._remembers else None
        self._rows = {} if self._trace is None else {name: row for row, name in enumerate(self._trace.ids)}
        self._read = 0  # places before this one have been read by the drafters that remember

    def records(self) -> Iterator[PromptRecord]:
        """The records of this process' prompts, in order. Raises RankError when another process fails or is lost."""
        for run in self._runs:
            answers: dict[int, list[int]] = {}
            if self._group is not None and self._remembers:
                for place in run:
                    answers[place] = self._recorder.answer(self._texts[place])
                    self._group.tell(f"answer/{place}", json.dumps(answers[place]))
            for place in run:
                if self._group is not None:
                    self._group.check()
                if self._remembers:
                    self._read_before(place)
                yield self._recorder.record(self._texts[place], answers.get(place))

    def _read_before(self, place: int) -> None:
        """Let the drafters read what lies before ``place``, which they are about to read themselves."""
        for earlier in range(self._read, place):
            name, _, prompt = self._texts[earlier]
            self._recorder.follow(prompt, self._answer(name, earlier))
        self._read = place + 1

    def _answer(self, name: str, place: int) -> list[int]:
        if self._trace is not None and name in self._rows:
            row = self._rows[name]
            return [int(t) for t in self._trace.tokens[self._trace.offsets[row] : self._trace.offsets[row + 1]]]
        assert self._group is not None, "one that is alone has recorded, or found, all that is before"
        answer: list[int] = json.loads(self._group.hear(f"answer/{place}"))
        return answer


@contextmanager
def told(total: int, group: Group | None) -> Iterator[progress.Advance]:
    """Progress over the ``total`` prompts of all processes, told by the first one."""
    if group is not None and group.rank:
        yield _Counted(group, None)
        return
    with progress.bar(total, "recording (prompts)") as bar:
        yield bar if group is None else _Counted(group, bar)


class _Counted:
    """Adds to the number that all processes share; the one with a ``bar`` shows it."""

    def __init__(self, group: Group, bar: progress.Advance | None) -> None:
        self._group, self._bar, self._seen = group, bar, 0

    def __call__(self, steps: int = 1) -> None:
        now = self._group.count("recorded", steps)
        if self._bar is not None and now > self._seen:
            self._bar(now - self._seen)
        self._seen = now

    def say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.say(line)
