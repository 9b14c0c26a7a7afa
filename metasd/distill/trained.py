"""Specialists that are trained, heads or models: one a domain and one over all, each judged from its own files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from metasd.core import poolfolder, progress
from metasd.core.prompts import TOTAL
from metasd.distill.answers import Answer
from metasd.distill.states import Reads, Sample, sampled
from metasd.distill.train import Learner, Training, judge, split, train
from metasd.runtime.load import Target

WEIGHTS, WORK = "model.safetensors", "work"

Parts = dict[str, tuple[list[Sample], list[Sample]]]
"""By domain: what is trained on, and what is held out."""


class Maker(Reads, Protocol):
    """One kind of specialist.

    Attributes:
        key: its list in the manifest, and the folder of its files. how: it is trained.
    """

    key: str
    how: Training

    def begun(self) -> Learner:
        """What training begins with."""
        ...

    def write(self, learner: Any, place: Path) -> int:
        """Write what was trained into a folder, its weights as WEIGHTS; their bytes."""
        ...

    def read(self, place: Path) -> Learner:
        """What was written."""
        ...


def make(
    target: Target,
    folder: Path,
    manifest: dict[str, Any],
    answers: Mapping[str, Sequence[Answer]],
    makers: Sequence[Maker],
) -> None:
    """Train and write FOLDER/<key>/<domain>, and a row of the manifest each; what is there already stays.

    With one domain there is none over all: it would be the same. Raises UsageError for a target that they cannot be
    made for, FileError.
    """
    wanted = [*answers, *([TOTAL] if len(answers) > 1 else [])]
    for maker in makers:
        manifest.setdefault(maker.key, [])
    missing = {m.key: [d for d in wanted if not _there(folder, manifest, m.key, d)] for m in makers}
    makers = [m for m in makers if missing[m.key]]
    if not makers:
        return
    every = _parts(target, answers, makers)
    for maker in makers:
        parts = every.pop(0)
        with progress.bar(len(missing[maker.key]), maker.key) as advance:
            for domain in missing[maker.key]:
                _one(folder, manifest, maker, domain, parts, advance.say)
                advance()
    with suppress(OSError):
        (folder / WORK).rmdir()


def _one(
    folder: Path, manifest: dict[str, Any], maker: Maker, domain: str, parts: Parts, say: Callable[[str], None]
) -> None:
    """Train, write and judge one specialist."""
    train_on, held = parts[domain] if domain in parts else _all(parts)
    started, how, kind = time.perf_counter(), maker.how, poolfolder.KINDS[maker.key]
    learner, name = maker.begun(), poolfolder.file_name(domain)
    work = folder / WORK / f"{kind}-{name}.safetensors"
    found = train(learner, train_on, held, how, work, say, f"{kind} {domain}")
    place = folder / maker.key / name
    size = maker.write(learner, place)
    row: poolfolder.Row = {"domain": domain, "file": f"{maker.key}/{name}", "bytes": size}
    row["parameters"] = sum(p.numel() for p in learner.module.parameters())
    row["sha256"] = hashlib.sha256((place / WEIGHTS).read_bytes()).hexdigest()
    row |= {"answers": len(train_on), "tokens": sum(s.answer for s in train_on), "held_out": len(held)}
    again = maker.read(place)
    judged = {d: judge(again, h or own, how).to_json() for d, (own, h) in parts.items() if h or own}
    row |= {"loss": round(found.loss, 4), "acceptance": judged}
    row["seconds"] = round(time.perf_counter() - started, 1)
    poolfolder.put(manifest, maker.key, row)
    poolfolder.save(folder, manifest)
    work.unlink(missing_ok=True)


def _there(folder: Path, manifest: Mapping[str, Any], key: str, domain: str) -> bool:
    rows = [r for r in manifest.get(key, []) if r["domain"] == domain]
    return bool(rows) and (folder / rows[0]["file"] / WEIGHTS).is_file()


def _parts(target: Target, answers: Mapping[str, Sequence[Answer]], makers: Sequence[Maker]) -> list[Parts]:
    """What each of ``makers`` learns from, of one pass of the target over every answer."""
    made = [Parts() for _ in makers]
    with progress.bar(sum(map(len, answers.values())), "the target's states (answers)") as advance:
        for domain, own in answers.items():
            samples = [list[Sample]() for _ in makers]
            for answer in own:
                for kept, new in zip(samples, sampled(target, [answer], makers), strict=True):
                    kept.extend(new)
                advance()
            for parts, mine, maker in zip(made, samples, makers, strict=True):
                parts[domain] = split(mine, maker.how.held_out)
    return made


def _all(parts: Parts) -> tuple[list[Sample], list[Sample]]:
    return [s for own, _ in parts.values() for s in own], [s for _, held in parts.values() for s in held]
