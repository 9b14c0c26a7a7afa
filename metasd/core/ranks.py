"""Which of several processes of one job this is, as torchrun and its like say it in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from metasd.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """One of ``size`` >= 2 processes: ``rank`` among all of them, ``local`` among those of its machine, from 0."""

    rank: int
    size: int
    local: int


def place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The place of this process; None for one that is alone (no RANK and WORLD_SIZE, or a world of one).

    Raises UsageError for variables that do not fit together.
    """
    given = [environment.get(name) for name in ("RANK", "WORLD_SIZE")]
    if None in given or given[1] == "1":
        return None
    rank, size, local = (_number(environment, name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    mend = f"start the processes with torchrun --nproc-per-node {max(size, 2)} -m metasd ..."
    if not 0 <= rank < size:
        raise UsageError(f"RANK {rank} is outside 0..{size - 1} (WORLD_SIZE {size}); {mend}")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if missing:
        raise UsageError(f"RANK {rank} of WORLD_SIZE {size} is set, but {missing[0]} is not; {mend}")
    return Place(rank, size, local)


def _number(environment: Mapping[str, str], name: str) -> int:
    given = environment.get(name, environment.get("RANK", ""))  # LOCAL_RANK: on one machine, the rank
    try:
        return int(given)
    except ValueError:
        raise UsageError(f"{name} {given!r} is no number; start the processes with torchrun") from None
