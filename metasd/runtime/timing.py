"""How long the parts of a round take on this machine, measured apart from acceptance, as a ``CostModel``.

Verification is timed at every width up to the longest draft, because seconds need not grow with width (some CPUs are
slower at 2 or 3 tokens than at 4), and at two lengths of context. The model's error is what it is off by in
repetitions it was not fitted to, each held out in turn. Knows models and drafters; nothing of traces.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch

from metasd.core.costs import CostModel
from metasd.core.pool import Pool
from metasd.core.results import versions
from metasd.drafters.base import Draft, Drafter
from metasd.runtime import moment
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import wanted
from metasd.runtime.identity import machine
from metasd.runtime.load import Target, context_limit
from metasd.runtime.sampling import Sampling
from metasd.runtime.verify import Verifier

CATCH_UPS = (1, 8, 32)
"""Tokens a model drafter is left behind by before it drafts."""
FAR = 4
"""The second context is this many times the first."""
WIDTHS = 10
"""Widths timed at most."""
POSITIONS = 48
"""Positions at which text drafters are timed, in every repetition."""

Point = tuple[int, float]  # tokens, seconds


@dataclass(slots=True)
class _Timings:
    """Everything measured in one repetition."""

    verify: dict[tuple[int, int], float] = field(default_factory=dict)  # by context and width
    draft: dict[int, list[Point]] = field(default_factory=dict)  # by drafter
    catch_up: dict[int, list[Point]] = field(default_factory=dict)
    commit: dict[int, float] = field(default_factory=dict)  # a free drafter taking one token and looking


def measure_costs(
    target: Target,
    drafters: Sequence[Drafter],
    pool: Pool,
    text: Sequence[int],
    *,
    repeats: int = 4,
    limit: float = 3.5,
    advance: Callable[[], object] = lambda: None,
) -> CostModel:
    """Time the target and every drafter on ``text`` (token ids; repeated where a longer one is needed).

    Args:
        repeats: how often everything is measured, >= 2.
        limit: seconds after which no third or later repetition begins.
        advance: called after every repetition.

    Changes the text that the drafters are at.
    """
    bench = _Bench(target, drafters, pool.longest, text, repeats)
    started, made = time.perf_counter(), list[_Timings]()
    while len(made) < 2 or (len(made) < repeats and time.perf_counter() - started < limit):
        made.append(bench.measure(len(made)))
        advance()
    names = [d.info.name for d in drafters]
    errors = [
        error
        for held_out in made
        for error in _errors(CostModel(tuple(names), **bench.fitted([m for m in made if m is not held_out])), held_out)
    ]
    about = {"machine": machine(target.device), "target": target.name, "dtype": target.dtype}
    about |= {"date": moment.now().isoformat(timespec="seconds"), "versions": versions()}
    return CostModel(tuple(names), **bench.fitted(made), error=median(errors), measured=about | _raw(made, names))


class _Bench:
    """Sets the scene once, then measures it all as often as asked."""

    def __init__(
        self, target: Target, drafters: Sequence[Drafter], lengths: Sequence[int], text: Sequence[int], repeats: int
    ) -> None:
        self.drafters, self.lengths = drafters, lengths
        widest = 1 + max(lengths, default=0)
        ahead = repeats * max(sum(CATCH_UPS), POSITIONS)  # what the drafters go on by in all repetitions
        room = min(context_limit(target, drafters) - widest, FAR * len(text) + ahead)
        self.near = max(min(len(text), room // 2), 1)
        self.step = max((room - self.near) // repeats, 1)  # tokens the drafters may go on by in one repetition
        far = min(FAR * self.near, room)
        self.tokens = [int(t) for t in np.resize(np.asarray(text), room + widest)]
        self.widths = sorted({int(w) for w in np.linspace(1, widest, min(widest, WIDTHS)).round()})
        self.contexts = [self.near, far] if far >= 2 * self.near else [self.near]
        made = target.processors()
        self.process = None if made is None else made.text(self.tokens[: self.near], room - self.near)
        self.caches = [CachedModel(target.model) for _ in self.contexts]
        for cached, context in zip(self.caches, self.contexts, strict=True):
            cached.warm(context + widest, self.widths)
            if context > 1:
                cached.read(self.tokens[: context - 1])
        if features := wanted([d.info.needs for d in drafters]):
            CachedModel(target.model, features).read(self.tokens)
        for drafter in self.drafters:
            if drafter.info.needs:
                drafter.watch(features)
            drafter.warm(len(self.tokens))
            drafter.begin(self.tokens[: self.near])
            drafter.draft(1)

    @torch.inference_mode()
    def measure(self, repeat: int) -> _Timings:
        """One repetition of everything."""
        made = _Timings()
        for cached, context in zip(self.caches, self.contexts, strict=True):
            few = self.widths if context == self.near else self.widths[:: max(len(self.widths) // 3, 1)]
            for width in few:
                made.verify[context, width] = self._verify(cached, context, width)
        first = self.near + repeat * self.step
        for d, drafter in enumerate(self.drafters):
            fresh = self.tokens[first : first + self.step]
            if drafter.info.free:
                made.draft[d], made.commit[d] = _time_text(drafter, self.lengths[d], fresh[:POSITIONS])
            else:
                made.draft[d], made.catch_up[d] = _time_model(drafter, self.lengths[d], fresh)
        return made

    def _verify(self, cached: CachedModel, context: int, width: int) -> float:
        draft = Draft(self.tokens[context : context + width - 1], [1.0] * (width - 1))
        verifier = Verifier(cached, Sampling(), overlap=False)
        started = time.perf_counter()
        verifier.verify(self.tokens[:context], draft, process=self.process)
        return time.perf_counter() - started

    def fitted(self, made: Sequence[_Timings]) -> dict[str, Any]:
        """The numbers of a ``CostModel``."""
        at = {key: median(t.verify[key] for t in made) for key in made[0].verify}
        # a longer context is never cheaper; a negative slope is noise and would make costs negative far away
        slopes = [(at[c, w] - at[self.near, w]) / (c - self.near) for c, w in at if c != self.near]
        drafts = [_line([p for t in made for p in t.draft[d]]) for d in range(len(self.drafters))]
        behind = [_line([p for t in made for p in t.catch_up.get(d, [])]) for d in range(len(self.drafters))]
        return {
            "widths": np.array(self.widths, np.float64),
            "verify_seconds": np.array([at[self.near, w] for w in self.widths]),
            "draft_fixed": np.array([line[0] for line in drafts]),
            "draft_per_token": np.array([line[1] for line in drafts]),
            "catch_up_fixed": np.array([line[0] for line in behind]),
            "catch_up_per_token": np.array([line[1] for line in behind]),
            "context": float(self.near),
            "verify_per_context": max(median(slopes), 0.0) if slopes else 0.0,
            "overhead": sum(median(t.commit[d] for t in made) for d in made[0].commit),
        }


def _time_model(drafter: Drafter, length: int, fresh: Sequence[int]) -> tuple[list[Point], list[Point]]:
    """(draft, catch-up) timings while the text goes on by the tokens ``fresh``, as far as they reach."""
    drafts, behind, at = list[Point](), list[Point](), 0
    for m, lag in zip((1, length, max(length // 2, 1)), CATCH_UPS, strict=True):
        if at and at + lag > len(fresh):
            break
        drafter.extend(fresh[at : at + lag])
        at += lag
        started = time.perf_counter()
        draft = drafter.draft(m)
        seconds = time.perf_counter() - started
        drafts.append((m, seconds - draft.catch_up_seconds))
        if draft.catch_up:
            behind.append((draft.catch_up, draft.catch_up_seconds))
    return drafts, behind


def _time_text(drafter: Drafter, length: int, fresh: Sequence[int]) -> tuple[list[Point], float]:
    """Drafts by their length, and the median seconds of taking one token and looking."""
    drafts, commits = list[Point](), list[float]()
    for i, token in enumerate(fresh):
        started = time.perf_counter()
        drafter.extend([token])
        drafter.look()
        looked = time.perf_counter()
        draft = drafter.draft(length if i % 2 else 1)
        drafts.append((len(draft.tokens), time.perf_counter() - looked))
        commits.append(looked - started)
    return [p for p in drafts if p[0]], median(commits)


def _line(points: Sequence[Point]) -> tuple[float, float]:
    """(fixed, per token) of the least-squares line through the median seconds at each number of tokens.

    Neither is negative; with one number of tokens, or where the line would start below 0, it goes through 0.
    """
    counts = sorted({n for n, _ in points})
    if not counts:
        return 0.0, 0.0
    seconds = np.array([median(s for n, s in points if n == count) for count in counts])
    x = np.array(counts, np.float64)
    slope, fixed = np.polyfit(x, seconds, 1) if len(counts) > 1 else (0.0, -1.0)
    if slope < 0:
        return float(seconds.mean()), 0.0
    if fixed < 0:
        return 0.0, float(x @ seconds / (x @ x))
    return float(fixed), float(slope)


def _errors(costs: CostModel, held_out: _Timings) -> list[float]:
    """Relative error at every pass of a model in ``held_out``: verification, drafting and catching up."""
    pairs = [
        (float(costs.verify(np.array(width - 1), np.array(context))) - costs.overhead, seconds)
        for (context, width), seconds in held_out.verify.items()
    ]
    for d in held_out.catch_up:  # the model drafters; text drafters take microseconds
        pairs += [(float(costs.draft(np.array(d), np.array(n))), s) for n, s in held_out.draft[d]]
        pairs += [(float(costs.catch_up(np.array(d), np.array(n))), s) for n, s in held_out.catch_up[d]]
    return [abs(said - seconds) / seconds for said, seconds in pairs]


def _raw(made: Sequence[_Timings], names: Sequence[str]) -> dict[str, Any]:
    """The timings as JSON, by repetition."""
    return {
        "verify": [
            {"context": context, "width": width, "seconds": [t.verify[context, width] for t in made]}
            for context, width in made[0].verify
        ],
        "draft": {name: [t.draft[d] for t in made] for d, name in enumerate(names)},
        "catch_up": {names[d]: [t.catch_up[d] for t in made] for d in made[0].catch_up},
        "commit": {names[d]: [t.commit[d] for t in made] for d in made[0].commit},
    }
