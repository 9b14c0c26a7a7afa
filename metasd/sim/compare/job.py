"""One policy on one trace under a block of seeds: the unit of parallel work, and the file that makes it resumable.

Knows how to play a job and how to keep its outcome; what the numbers mean together is
``metasd.sim.compare.leaderboard``'s business.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from metasd import __version__
from metasd.core import files, jsontext
from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.ledger import Ledger
from metasd.core.pool import Pool
from metasd.core.records import Ints
from metasd.sim.compare.sums import Sums
from metasd.sim.replay.run import replay
from metasd.traces import Trace, open_trace

SCHEMA = 4


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to play one job.

    trace: a trace's folder, or the trace itself where it lives in memory only.
    spec: the policy's name in tables. pickled, code: see ``Entry``.
    """

    trace: Path | Trace
    fingerprint: str
    spec: str
    first_seed: int
    seeds: int
    reset: str | None = None
    draft_length: int | None = None
    prior: Mapping[str, Any] | None = None
    costs: Mapping[str, Any] | None = None
    include_unaligned: bool = False
    pickled: bytes | None = None
    code: str | None = None

    def config(self) -> dict[str, Any]:
        """Everything the outcome depends on, JSON-serialisable."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "trace": self.fingerprint,
            "policy": self.spec,
            "code": self.code,
            "seeds": [self.first_seed, self.seeds],
            "reset": self.reset,
            "draft_length": self.draft_length,
            "prior": _digest(self.prior),
            "costs": _digest(self.costs),
            "include_unaligned": self.include_unaligned,
        }

    def file(self, folder: Path) -> Path:
        """Where the finished outcome is kept."""
        return folder / f"{_digest(self.config())}.npz"


MEANS = ("starts", "start_seconds", "arm_starts")
"""What several blocks of seeds are summed over, as is ``accepted``, whose length may differ."""
_ARRAYS = ("prompt", "seed", "arms", "credit", "shown", "accepted", *MEANS)


@dataclass(slots=True)
class JobOutcome:
    """The outcome of a job, by episode (a prompt under a seed) where not said otherwise.

    counts, times, arms, credit: the ledger's arrays.
    starts: [Q, X] rounds of ``curve_prompts`` begun in each bin of position, summed over the seeds.
    start_seconds: [Q, X] their seconds, zeros without a clock.
    arm_starts: [K, X] the same by arm, summed over prompts.
    accepted: [G + 2 or more] rounds that drafted nothing, then rounds by the length accepted.
    shown: [m, 5] prompt, position, arm, accepted, emitted of the first seed's rounds on the shown prompts.
    """

    config: dict[str, Any]
    settings: dict[str, Any]
    timed: bool
    prompt: Ints
    seed: Ints
    counts: dict[str, Ints]
    times: dict[str, NDArray[np.float64]]
    arms: Ints
    credit: Ints
    starts: Ints
    start_seconds: NDArray[np.float64]
    arm_starts: Ints
    accepted: Ints
    shown: Ints

    def save(self, path: Path) -> None:
        """Write the outcome whole or not at all. Raises FileError."""
        head = json.dumps({"config": self.config, "settings": self.settings, "timed": self.timed})
        arrays: dict[str, Any] = {f"counts.{k}": v for k, v in self.counts.items()}
        arrays |= {f"times.{k}": v for k, v in self.times.items()}
        arrays |= {name: getattr(self, name) for name in _ARRAYS}
        with files.replacing(path) as file:
            np.savez_compressed(file, head=np.array(head), **arrays)

    @classmethod
    def load(cls, path: Path) -> JobOutcome:
        """Read an outcome. Raises UsageError for a file that is not one."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            head = jsontext.loads(str(arrays.pop("head")))
            fields: dict[str, Any] = head | {k: v for k, v in arrays.items() if "." not in k}
            for group in ("counts", "times"):
                fields[group] = {k.removeprefix(f"{group}."): v for k, v in arrays.items() if k.startswith(f"{group}.")}
            return cls(**fields)
        except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
            raise UsageError(f"{path} is not a result of metasd compare ({error}); remove it") from error


def play(job: Job) -> JobOutcome:
    """Replay the job's policy. Raises UsageError as ``replay`` does."""
    trace = job.trace if isinstance(job.trace, Trace) else _open(job.trace, job.include_unaligned, job.fingerprint)
    sums = Sums(trace, len(trace.pool(job.draft_length)), job.first_seed)
    outcome = replay(
        trace,
        job.spec if job.pickled is None else pickle.loads(job.pickled),
        seeds=job.seeds,
        first_seed=job.first_seed,
        reset=job.reset,
        draft_length=job.draft_length,
        prior=job.prior,
        costs=None if job.costs is None else CostModel.from_json(dict(job.costs)),
        watch=sums.begin,
    )
    sums.flush()
    ledger = outcome.ledger
    return JobOutcome(
        config=job.config(),
        settings=outcome.settings,
        timed=ledger.timed,
        prompt=outcome.prompt,
        seed=outcome.seed,
        counts=ledger.counts,
        times=ledger.times,
        arms=ledger.arms,
        credit=ledger.credit,
        starts=sums.starts,
        start_seconds=sums.start_seconds,
        arm_starts=sums.arm_starts,
        accepted=sums.accepted,
        shown=sums.shown,
    )


def merge(outcomes: Sequence[JobOutcome], pool: Pool) -> tuple[Ledger, Ints]:
    """The ledger of several seed blocks of one policy as one, and the prompt of each of its episodes."""
    ledger = Ledger.restore(
        pool,
        counts={k: np.concatenate([c.counts[k] for c in outcomes]) for k in outcomes[0].counts},
        times={k: np.concatenate([c.times[k] for c in outcomes]) for k in outcomes[0].times},
        arms=np.concatenate([c.arms for c in outcomes]),
        credit=np.concatenate([c.credit for c in outcomes]),
        timed=all(c.timed for c in outcomes),
    )
    return ledger, np.concatenate([c.prompt for c in outcomes])


@lru_cache(maxsize=8)
def _open(path: Path, include_unaligned: bool, fingerprint: str) -> Trace:
    """The trace at ``path``, opened once a process; another ``fingerprint`` is another trace."""
    return open_trace(path, include_unaligned=include_unaligned)


def fingerprint(trace: Trace) -> str:
    """What identifies the trace's contents: its manifest (which holds every shard's sha256), or its arrays."""
    found = hashlib.sha256(json.dumps(trace.manifest, sort_keys=True, default=str).encode())
    found.update(json.dumps([list(trace.ids), list(trace.domains)]).encode())
    found.update(json.dumps(trace.costs.to_json() if trace.costs else None).encode())
    if trace.path is None:
        for name in ("offsets", "tokens", "proposed", "accepted", "accept", "overlap", "signals"):
            array = getattr(trace, name)
            found.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _digest(data: Mapping[str, Any] | None) -> str | None:
    if data is None:
        return None
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:24]
