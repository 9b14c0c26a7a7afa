"""Spec-Bench answer files (github.com/hemingkx/Spec-Bench): lengths at visited positions only, one file a drafter.

A line is a question: ``choices[0]`` holds the turns' texts, ``decoding_steps``, ``new_tokens`` and ``wall_time`` per
turn, and ``accept_lengths``, tokens emitted by each step over all turns (accepted + 1), split by ``decoding_steps``.

What such a trace can say is approximate, and its manifest says so (``exact`` false, ``approximation``). A start inside
a step that the drafter's run took gets what that step had left: j tokens behind a start with a accepted tokens, a - j.
For a drafter whose next token depends on the prefix alone that is what would have happened, unless the step ended at
its draft limit (then it is a lower bound); a drafter that depends on where its block began may differ either way.
Taking the nearest visited start instead would count long steps once for each of their tokens.

Proposed lengths are not in the files: every proposal counts as the run's longest draft. Nor are tokens: they are -1.
Runs are compared by their texts: a turn whose text or number of tokens differs from the first file's is unaligned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Ints
from metasd.traces import format as fmt
from metasd.traces.importers.lines import integers, named, parse, sources, value
from metasd.traces.trace import Trace

APPROXIMATION = "a start inside a logged step takes what that step had left; proposals count as the longest draft"
_SETTINGS = re.compile(r"-(?:b?float|fp|bf)\d+.*$")
_TEMPERATURE = re.compile(r"temp(?:erature)?-(\d+(?:\.\d+)?)")
_ELSEWHERE = 0


@dataclass(frozen=True, slots=True)
class _Turn:
    """One text of one run."""

    id: str
    domain: str
    text: str
    emitted: Ints  # [steps] tokens emitted by each step
    seconds: float

    @property
    def length(self) -> int:
        return int(self.emitted.sum())


@dataclass(frozen=True, slots=True)
class _Line:
    model: str
    turns: list[_Turn]


@dataclass(frozen=True, slots=True)
class _Run:
    """One file: one drafter on all questions."""

    file: Path
    model: str
    turns: Mapping[str, _Turn]

    @property
    def limit(self) -> int:
        """The longest draft that the lengths show."""
        return max(int(t.emitted.max()) for t in self.turns.values()) - 1


def read(path: Path) -> tuple[Trace, list[str]]:
    """The trace of the answer files at ``path`` and warnings; a prompt is one turn of a question.

    Raises UsageError naming file and line for a broken one; for a sampled run, whose text depends on the drafter; and
    for runs that share no turn.
    """
    files = sources(path)
    runs = [_run(file) for file in files]
    shared = [name for name in runs[0].turns if all(name in run.turns for run in runs)]
    if not shared:
        raise UsageError(f"{path}: no turn of {files[0].name} is in all {len(files)} files; give runs of one benchmark")
    dropped = len({name for run in runs for name in run.turns}) - len(shared)
    warnings = [f"approximate: {APPROXIMATION}"]
    if dropped:
        warnings.append(f"{dropped} turns left out that are not in all files")
    trace = _trace(runs, shared, named(files))
    unaligned = trace.manifest["unaligned"]
    if unaligned:
        warnings.append(f"{len(unaligned)} of {len(trace)} turns unaligned: the runs' texts differ")
    return trace, warnings


def _run(file: Path) -> _Run:
    lines = list(parse(file, _line))
    if not lines:
        raise UsageError(f"{file}: no line in it; give a file that has one")
    model = lines[0].model
    other = {line.model for line in lines} - {model}
    if other:
        raise UsageError(f"{file}: runs of {model!r} and {other.pop()!r} in one file; give one file a drafter")
    turns = {turn.id: turn for line in lines for turn in line.turns}
    if not turns:
        raise UsageError(f"{file}: no turn with a decoding step; give a file that has one")
    run = _Run(file, model, turns)
    if not 1 <= run.limit <= 255:
        raise UsageError(f"{file}: its longest draft is {run.limit} tokens; a trace stores lengths within 1..255")
    return run


def _line(data: dict[str, Any]) -> _Line:
    """One question. Raises ValueError saying what is wrong with it."""
    model = str(value(data, "model_id"))
    found = _TEMPERATURE.search(model)
    if found and float(found[1]) > 0:
        raise ValueError(f"{model} was sampled at temperature {found[1]}; only temperature 0 can be imported")
    choice = value(data, "choices", 0)
    texts = value(choice, "turns")
    steps = integers(value(choice, "decoding_steps"), "decoding_steps", 0)
    tokens = integers(value(choice, "new_tokens"), "new_tokens", 0)
    emitted = integers(value(choice, "accept_lengths"), "accept_lengths", 1)
    seconds = value(choice, "wall_time")
    if not isinstance(texts, list) or not len(texts) == len(steps) == len(tokens) == len(seconds):
        raise ValueError("turns, decoding_steps, new_tokens and wall_time differ in length")
    if not all(0 <= float(second) < float("inf") for second in seconds):
        raise ValueError(f"wall_time holds {seconds}, not all of them seconds")
    if steps.sum() != len(emitted):
        raise ValueError(f"decoding_steps add up to {steps.sum()}, but there are {len(emitted)} accept_lengths")
    parts = np.split(emitted, np.cumsum(steps)[:-1])
    for part, count in zip(parts, tokens, strict=True):
        if part.sum() != count:
            raise ValueError(f"accept_lengths of a turn add up to {part.sum()}, but new_tokens says {count}")
    question, domain = value(data, "question_id"), str(data.get("category", "all"))
    made = zip(texts, parts, seconds, strict=True)
    turns = [_Turn(f"{question}/{i}", domain, str(t), e, float(s)) for i, (t, e, s) in enumerate(made) if len(e)]
    return _Line(model, turns)


def _trace(runs: Sequence[_Run], shared: Sequence[str], files: list[dict[str, str]]) -> Trace:
    """All runs on the turns they share; the first one's texts are the trace's."""
    turns = [runs[0].turns[name] for name in shared]
    lengths = np.array([turn.length for turn in turns], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    limits = np.array([run.limit for run in runs], np.int64)
    accepted = np.zeros((int(offsets[-1]), len(runs)), np.uint8)
    columns = np.full((len(turns), len(runs)), _ELSEWHERE, np.int64)
    for p, turn in enumerate(turns):
        text = fmt.text_hash(np.full(turn.length, -1))
        for d, run in enumerate(runs):
            its = run.turns[turn.id]
            accepted[offsets[p] : offsets[p + 1], d] = what_was_left(its.emitted, turn.length)
            if its.text == turn.text and its.length == turn.length:
                columns[p, d] = text
    aligned = (columns != _ELSEWHERE).all(axis=1)
    names = drafter_names([run.model for run in runs])
    drafters = tuple(DrafterInfo(name, "log", False, False) for name in names)
    pool = Pool(drafters, list(enumerate(limits.tolist())))
    manifest = {
        "config": _config(runs, pool, files),
        "pool": pool.to_json(),
        "exact": False,
        "approximation": APPROXIMATION,
        "unaligned": [name for name, fits in zip(shared, aligned, strict=True) if not fits],
    }
    return Trace(
        drafters=drafters,
        draft_lengths=limits,
        ids=list(shared),
        domains=[turn.domain for turn in turns],
        offsets=offsets,
        ended=np.ones(len(turns), bool),
        prompt_lengths=np.zeros(len(turns), np.int64),
        tokens=np.full(int(offsets[-1]), -1, np.int32),
        proposed=np.broadcast_to(limits.astype(np.uint8), accepted.shape).copy(),
        accepted=accepted,
        column_text=columns,
        manifest=manifest,
    )


def _config(runs: Sequence[_Run], pool: Pool, files: list[dict[str, str]]) -> dict[str, Any]:
    """What decides the arrays, with what each run took: visited starts and seconds a step."""
    visited = [sum(len(t.emitted) for t in run.turns.values()) for run in runs]
    seconds = [sum(t.seconds for t in run.turns.values()) for run in runs]
    return {
        "target": "unknown",
        "format": "spec-bench",
        "files": files,
        "models": [run.model for run in runs],
        "drafters": pool.to_json()["drafters"],
        "acceptance": "exact-match",
        "temperature": 0.0,
        "visited": visited,
        "seconds_per_step": [s / n for s, n in zip(seconds, visited, strict=True)],
    }


def what_was_left(emitted: Ints, length: int) -> Ints:
    """[length] accepted length at every start: tokens left in the step around it, 0 behind the log's end."""
    ends = np.repeat(np.cumsum(emitted), emitted)[:length]
    left = ends - 1 - np.arange(len(ends))
    cut = np.minimum(left, length - np.arange(len(ends)))
    return np.pad(cut, (0, length - len(ends)))


def drafter_names(models: Sequence[str]) -> list[str]:
    """What tells the runs' model ids apart: without dtype and temperature, and without what all begin with.

    The whole ids where that leaves too little.
    """
    cut = [_SETTINGS.sub("", model) for model in models]
    words = [name.split("-") for name in cut]
    columns = zip(*words, strict=False)  # word i of every name
    common = 0 if len(words) == 1 else len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    short = ["-".join(name[common:]) for name in words]
    if all(short) and len(set(short)) == len(short):
        return short
    return list(models) if len(set(models)) == len(models) else [f"{m}#{i}" for i, m in enumerate(models, 1)]
