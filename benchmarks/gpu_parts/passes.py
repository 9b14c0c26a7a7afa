"""Passes: seconds of one pass by width and context, of the target and of a random model of 8B shape.

A pass is what verification does: crop the cache to the context, read ``width`` tokens, give ``width`` rows of logits.
On CUDA two clocks are kept: events on the device's own stream, and the wall clock with a synchronisation at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.load import Target

from .plan import WIDTHS, Setting
from .setting import LARGE, TINY, open_target, peak_memory, random_target, synchronize
from .worker import Report

WARM = 2
"""Passes before those that are timed."""


def measure(setting: Setting, report: Report) -> None:
    """Rows by model, context and width; medians of ``setting.timed`` passes."""
    rows = report.found["rows"] = []
    memory = report.found["memory"] = {}
    small = setting.quick or torch.device(setting.device).type != "cuda"
    openers: tuple[tuple[str, Callable[[], Target]], ...] = (
        ("target", lambda: open_target(setting, setting.dtype)),
        ("large", lambda: random_target(TINY if small else LARGE, setting.device, "bfloat16")),
    )
    for role, opener in openers:
        if not report.time_left():
            return
        with peak_memory(setting.device, memory.setdefault(role, {})):
            report.say(f"loading the {role} model")
            target = opener()
            about = {"role": role, "model": target.name, "dtype": target.dtype, "parameters": _parameters(target)}
            for context in (c for c in setting.contexts if c + max(WIDTHS) <= target.max_length):
                report.say(f"{target.name}, context {context}")
                _rows(target, context, setting.timed, about, report, rows)
            del target


def _rows(
    target: Target, context: int, timed: int, about: dict[str, Any], report: Report, rows: list[dict[str, Any]]
) -> None:
    tokens = [(7 * i + 3) % target.vocab_size for i in range(context + max(WIDTHS))]
    cached = CachedModel(target.model)
    cached.read(tokens[:context])
    for width in WIDTHS:
        if not report.time_left():
            return
        given = tokens[: context + width]
        for _ in range(WARM):
            cached.forward(given, width)
        clocks = [_time(cached, given, width) for _ in range(timed)]
        wall, device = [w for w, _ in clocks], [d for _, d in clocks if d is not None]
        row = {"context": context, "width": width, "wall_seconds": median(wall), "wall_least": min(wall)}
        rows.append({**about, **row, "device_seconds": median(device) if device else None})


def _time(cached: CachedModel, given: list[int], width: int) -> tuple[float, float | None]:
    """Seconds of one pass by the wall clock, and by events of the device where it has them."""
    cuda = cached.device.type == "cuda"
    synchronize(cached.device)
    began = time.perf_counter()
    if not cuda:
        cached.forward(given, width)
        return time.perf_counter() - began, None
    with torch.cuda.device(cached.device):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        cached.forward(given, width)
        last.record()
        last.synchronize()
    return time.perf_counter() - began, first.elapsed_time(last) / 1000


def _parameters(target: Target) -> int:
    return sum(p.numel() for p in target.model.parameters())
