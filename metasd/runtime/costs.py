"""What rounds cost on this machine, for live decoding: measured once for a target and its drafters, and kept.

Costs are kept as the ``costs.json`` of a recording is written, in the user's cache folder, under a name that holds all
they depend on: the target and how its passes are made, the drafters and their draft lengths, dtype, threads, machine
and versions. ``measured`` says when and of what.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metasd.core import progress
from metasd.core.costs import CostModel
from metasd.core.errors import FileError, TraceError
from metasd.core.pool import Pool
from metasd.core.results import versions
from metasd.drafters.base import Drafter
from metasd.policies import PolicyLike, make
from metasd.runtime import kept
from metasd.runtime.identity import identity_of, machine
from metasd.runtime.load import Target
from metasd.runtime.timing import measure_costs

AUTO, MEASURE, NONE = "auto", "measure", "none"
CostsLike = CostModel | Path | str
"""``auto`` (kept costs, or a measurement, for policies that read them), ``measure``, ``none``, a file, or costs."""
REPEATS = 4
CONTEXT = 64
"""Tokens of context at which passes are timed; four times as many are the second context."""
TEXT = "The river that runs past the old mill turns twice before the bridge, and twice again before it meets the sea. "
"""Ours and always the same: what is kept must not depend on the prompt that came first."""

Build = Callable[[], tuple[list[Drafter], Pool]]


@dataclass(frozen=True, slots=True)
class Known:
    """Costs, None where there are none, and a line about where they come from."""

    costs: CostModel | None
    said: str | None = None


def reads_costs(policy: PolicyLike) -> bool:
    """Whether the policy looks at what arms cost where that is known, or plans by what passes cost."""
    made = make(policy)
    return "cost" in made.wants(overlap=True, timed=True)["reads"] or getattr(made, "pursues", None) == "time"


def known(wanted: CostsLike, policies: Sequence[PolicyLike], target: Target, build: Build) -> Known:
    """The costs that runs of ``policies`` are to know.

    build: makes fresh drafters and their pool; those that are timed are thrown away.
    Raises TraceError for a file that holds no costs.
    """
    if isinstance(wanted, CostModel):
        return Known(wanted)
    if wanted == NONE or (wanted == AUTO and not any(map(reads_costs, policies))):
        return Known(None)
    if wanted not in (AUTO, MEASURE):
        return Known(CostModel.load(Path(wanted)))
    drafters, pool = build()
    if not drafters:
        return Known(None)
    key = _key(target, pool)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = kept.folder("costs") / f"{Path(target.name).name[:60] or 'target'}-{digest}.json"
    why = None
    if wanted == AUTO and file.exists():
        found, why = _read(file, key)
        if found is not None:
            return Known(found, f"costs: measured {found.measured.get('date')} on this machine ({file.name})")
    return _measure(target, drafters, pool, file, key, why)


def _key(target: Target, pool: Pool) -> dict[str, Any]:
    """All that costs depend on, as JSON gives it back."""
    used = versions()
    key = {
        **identity_of(target),
        "pool": pool.to_json()["drafters"],
        "draft_lengths": pool.longest,
        "machine": machine(target.device),
        "versions": {name: used.get(name) for name in ("metasd", "transformers")},
    }
    made: dict[str, Any] = json.loads(json.dumps(key, default=str))
    return made


def _read(file: Path, key: dict[str, Any]) -> tuple[CostModel | None, str | None]:
    """What ``file`` holds, or why it is of no use."""
    try:
        found = CostModel.load(file)
    except TraceError:
        return None, f"{file.name} in the cache folder is not a costs file; measuring anew"
    if not isinstance(found.measured, dict) or found.measured.get("key") != key:
        return None, f"{file.name} in the cache folder is of another machine or model; measuring anew"
    return found, None


def _measure(
    target: Target, drafters: Sequence[Drafter], pool: Pool, file: Path, key: dict[str, Any], why: str | None
) -> Known:
    with progress.bar(REPEATS, "measuring what rounds cost (repetitions)") as advance:
        if why is not None:
            advance.say(f"costs: {why}")
        text = np.resize(target.encode(TEXT, raw=True) or [0], CONTEXT).tolist()
        costs = measure_costs(target, drafters, pool, text, repeats=REPEATS, advance=advance)
    costs = replace(costs, measured=costs.measured | {"key": key})
    said = f"costs: measured now and kept ({file.name}); --costs measure does so again"
    try:
        costs.save(file)
    except FileError as error:
        said = f"costs: measured now, not kept: {error}"
    return Known(costs, said)
