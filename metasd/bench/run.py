"""A live benchmark from the first to the last run: the scene, then every contender once a repeat, in rotated order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metasd.bench.jobs import Job
from metasd.bench.kept import Kept
from metasd.bench.process import execute as in_a_process
from metasd.core.errors import UsageError
from metasd.core.progress import Advance

Execute = Callable[[dict[str, Any]], dict[str, Any]]


def order_of(jobs: Sequence[Job], repeat: int) -> list[Job]:
    """The contenders of a repeat: it begins a little further on each time, so that nobody is always early."""
    first = repeat * max(1, len(jobs) // 3 + 1) % len(jobs)
    return [*jobs[first:], *jobs[:first]]


def measure(
    settings: dict[str, Any],
    jobs: Sequence[Job],
    repeats: int,
    folder: Path,
    *,
    resume: bool,
    advance: Advance,
    execute: Execute = in_a_process,
) -> Kept:
    """Measure what ``folder`` does not hold yet; after every run it holds one more.

    A contender that failed is not asked again in the repeats to come, and asked again by ``resume``.
    Raises UsageError where the scene cannot be set.
    """
    kept = Kept(folder, settings, resume=resume)
    if kept.scene is None:
        advance.say("loading the target, reading the prompts, measuring passes")
        scene = execute({"settings": settings, "scene": None, "job": None})
        if "error" in scene:
            raise UsageError(scene["error"])
        kept.set_scene(scene)
    failed = set[str]()
    for repeat in range(repeats):
        for job in order_of(jobs, repeat):
            if job.name not in failed and not kept.has(job.name, repeat):
                made = execute({"settings": settings, "scene": kept.scene, "job": asdict(job)})
                kept.add({"contender": job.name, "repeat": repeat} | made)
                if "error" in made:
                    failed.add(job.name)
                    advance.say(f"{job.name}: {made['error']}")
            advance()
    return kept
