"""Passes: seconds of one pass by width and context, on every engine path, as a chain and under a tree's mask.

Of the target, and of a random model of 8B shape. A pass is what verification does: crop the cache to the context, read
``width`` tokens, give ``width`` rows of logits. On CUDA two clocks are kept: events on the device's own stream, and the
wall clock with a synchronisation at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from metasd.core.errors import UsageError
from metasd.runtime.engine import graphable, graphs, paths
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.capture import Called
from metasd.runtime.engine.tree import TreePass, can_branch
from metasd.runtime.load import Target

from .plan import WIDTHS, Setting
from .setting import LARGE, TINY, open_target, peak_memory, random_target, synchronize
from .worker import Report

WARM = 2
"""Passes before those that are timed."""
CALLED = "graphs, called"
"""On a CPU, where nothing is captured: static buffers and the same steps, each pass called. Shows that they work."""


def measure(setting: Setting, report: Report) -> None:
    """Rows by model, path, context and width; medians of ``setting.timed`` passes. What cannot be had is left out."""
    report.found["rows"], report.found["left_out"], report.found["captured"] = [], [], []
    memory = report.found["memory"] = {}
    device = torch.device(setting.device).type
    small = setting.quick or device != "cuda"
    openers: tuple[tuple[str, Callable[[], Target], tuple[str, ...]], ...] = (
        ("target", lambda: open_target(setting, setting.dtype), _paths(device)),
        ("large", lambda: random_target(TINY if small else LARGE, setting.device, "bfloat16"), _paths(device)[:2]),
    )
    for role, opener, tried in openers:
        if not report.time_left():
            return
        with peak_memory(setting.device, memory.setdefault(role, {})):
            report.say(f"loading the {role} model")
            target = opener()
            _model(target, role, tried, setting, report)
            del target


def _paths(device: str) -> tuple[str, ...]:
    """Paths of one loaded model, one after the other: what a later one changes in it the earlier ones do not need."""
    return (paths.EAGER, paths.GRAPHS) if device == "cuda" else (paths.EAGER, CALLED, paths.PACKED)


def _model(target: Target, role: str, tried: tuple[str, ...], setting: Setting, report: Report) -> None:
    about = {"role": role, "model": target.name, "dtype": target.dtype, "parameters": _parameters(target)}
    for path in tried:
        try:
            _install(target.model, path)
        except UsageError as error:
            report.found["left_out"].append({"role": role, "path": path, "why": str(error)})
            continue
        for context in (c for c in setting.contexts if c + max(WIDTHS) <= target.max_length):
            report.say(f"{target.name}, {path}, context {context}")
            _rows(target, context, setting.timed, about | {"path": path}, report)
        if (made := graphs.installed(target.model)) is not None:
            captured = {"role": role, "path": path, "passes": made.count, "seconds": made.seconds}
            report.found["captured"].append(captured)


def _install(model: Any, path: str) -> None:
    """Raises UsageError where the path cannot be had."""
    if path != CALLED:
        paths.install(model, path)
    elif why := graphable.against(model) or graphable.install(model, Called()):
        raise UsageError(why)


def _rows(target: Target, context: int, timed: int, about: dict[str, Any], report: Report) -> None:
    tokens = [(7 * i + 3) % target.vocab_size for i in range(context + max(WIDTHS))]
    cached = CachedModel(target.model)
    cached.read(tokens[:context])
    for width in WIDTHS:
        for shape in ("chain", "tree") if width > 2 and can_branch(target.model) else ("chain",):
            if not report.time_left():
                return
            one = _pass(cached, tokens, context, width, shape)
            for _ in range(WARM):
                one()
            clocks = [_time(cached, one) for _ in range(timed)]
            wall, device = [w for w, _ in clocks], [d for _, d in clocks if d is not None]
            row = {"context": context, "width": width, "shape": shape}
            row |= {"wall_seconds": median(wall), "wall_least": min(wall)}
            report.found["rows"].append({**about, **row, "device_seconds": median(device) if device else None})


def _pass(cached: CachedModel, tokens: list[int], context: int, width: int, shape: str) -> Callable[[], object]:
    """Reads ``width`` tokens behind the context: one behind the other, or as a token and a binary tree behind it."""
    if shape == "chain":
        return lambda: cached.forward(tokens[: context + width], width)
    tree, text = TreePass(cached), tokens[: context + 1]
    nodes, parents = tokens[context + 1 : context + width], [(i + 1) // 2 - 1 for i in range(width - 1)]

    def step() -> None:
        tree.step(text, nodes, parents)
        tree.keep([])

    return step


def _time(cached: CachedModel, one: Callable[[], object]) -> tuple[float, float | None]:
    """Seconds of one pass by the wall clock, and by events of the device where it has them."""
    cuda = cached.device.type == "cuda"
    synchronize(cached.device)
    began = time.perf_counter()
    if not cuda:
        one()
        return time.perf_counter() - began, None
    with torch.cuda.device(cached.device):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        one()
        last.record()
        last.synchronize()
    return time.perf_counter() - began, first.elapsed_time(last) / 1000


def _parameters(target: Target) -> int:
    return sum(p.numel() for p in target.model.parameters())
