"""Replay: a trace recorded on the device, runs on the device against its replay, and what recording costs there."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from metasd.record.recorder import Recorder
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling
from metasd.sim.replay.fidelity import check
from metasd.traces import Trace, open_trace

from .plan import Setting
from .setting import builder, open_target, peak_memory, texts_of
from .worker import Report

SPECS = ("default", "planner", "random")
SHORT = 3
"""The draft length that is run beside the recorded one."""


def measure(setting: Setting, report: Report) -> None:
    """By dtype: rounds that differ from the replay, by policy and draft length, and what recording cost."""
    rows = report.found["rows"] = []
    recordings = report.found["recordings"] = []
    memory = report.found["memory"] = {}
    for dtype in dict.fromkeys(("float32", setting.dtype)):
        if not report.time_left():
            return
        with peak_memory(setting.device, memory.setdefault(dtype, {})), tempfile.TemporaryDirectory() as scratch:
            target = open_target(setting, dtype)
            texts = texts_of(target, setting.texts, setting.tokens)
            report.say(f"{dtype}, recording {len(texts)} texts")
            recordings.append({"dtype": dtype, **_record(setting, target, texts, Path(scratch) / "trace")})
            _compare(setting, target, texts, open_trace(Path(scratch) / "trace"), report, rows)
            del target


def _record(setting: Setting, target: Target, texts: list[EncodedPrompt], folder: Path) -> dict[str, Any]:
    """What ``metasd record --json`` reports, and ``reading_ratio``: the same ratio without the timing of costs."""
    build = builder(target, setting.draft_length, skip=True)
    Recorder(target, *build(), Sampling(), budget=4, seed=0).record(texts[0])  # warms up
    summary = record(target, *build(), texts, folder, max_new_tokens=setting.tokens)
    reading = summary["seconds"] - summary["stages"]["costs"]
    return summary | {"drafters": len(build()[0]), "reading_ratio": reading / summary["plain_seconds"]}


def _compare(
    setting: Setting,
    target: Target,
    texts: list[EncodedPrompt],
    trace: Trace,
    report: Report,
    rows: list[dict[str, Any]],
) -> None:
    build = builder(target, setting.draft_length, skip=True)
    how = live.Decoding(max_new_tokens=setting.tokens, clock="model", costs=trace.costs)
    for length in dict.fromkeys((setting.draft_length, min(SHORT, setting.draft_length))):
        for spec in SPECS:
            if not report.time_left():
                return
            report.say(f"{target.dtype}, {spec} at draft length {length}")
            (entrant,) = live.contenders([spec], partial(build, length), baseline=False, prior=None)
            live.run(target, [entrant], texts, how)
            ids = [name for name, _, _ in texts]
            seen = check(entrant.rounds, ids, trace, spec, draft_length=length, budget=setting.tokens, costs=how.costs)
            rows.append({"dtype": target.dtype, "policy": spec, "draft_length": length, **seen.to_json()})
