"""Drafters, arms and the pool: what a policy chooses among.

An *arm* is a (drafter, draft length) pair; draft length 0 is plain decoding and a legal arm. A *pool* is the ordered
list of arms. This module knows nothing about models or traces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metasd.core.cache_rule import COMMITTED, PREFIX, RULES
from metasd.core.errors import UsageError

PLAIN = "plain"
DRAFT_LENGTH = 3
"""Tokens drafted in a round by a drafter that is named, unless told otherwise (docs/decisions.md, 13)."""
DRAFT_LENGTHS = (1, 2, 3, 4, 6, 8)
"""Draft lengths of every drafter of the default pool, an arm each (docs/decisions.md, 87)."""


@dataclass(frozen=True, slots=True)
class DrafterInfo:
    """What the rest of the program must know of a drafter, JSON-serialisable.

    free: its proposals come from tokens alone, so looking is free and it never lags behind the text.
    deterministic: it proposes one token per position with certainty (q is one-hot), so whether a draft token is
    accepted is fixed by the committed text at every temperature.
    needs: layers of the target whose states it reads, as ``hidden_states`` of transformers counts them; -1 is the state
        behind the last norm.
    cache_rule: what of its cache stays valid behind a round (``core.cache_rule``). Raises UsageError for another word.
    """

    name: str
    kind: str
    free: bool
    deterministic: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[int, ...] = ()
    cache_rule: str = PREFIX

    def __post_init__(self) -> None:
        if self.cache_rule not in RULES:
            raise UsageError(f"cache rule {self.cache_rule!r} of drafter {self.name!r} is none of {', '.join(RULES)}")
        object.__setattr__(self, "needs", tuple(self.needs))  # lists come from JSON


@dataclass(frozen=True, slots=True)
class Arm:
    """One choice: ``drafter`` indexes ``Pool.drafters`` (-1 for plain decoding)."""

    drafter: int
    draft_length: int
    name: str


class Pool:
    """The ordered arms, with the per-arm arrays that vectorised code needs.

    Attributes:
        drafters: the D drafters, in order.
        arms: the K arms, in order.
        drafter_of: [K] int64, drafter of each arm; plain arms hold 0 and are told apart by ``plain``.
        draft_length: [K] int64, draft length of each arm.
        plain: [K] bool, arms that draft nothing.
        committed: [D] bool, drafters under that cache rule.
        max_draft_length: G, the longest draft length of any arm; rewards are scaled by it, so arms of different
            draft lengths stay comparable.
    """

    def __init__(self, drafters: Sequence[DrafterInfo], arms: Sequence[tuple[int, int]]) -> None:
        if not arms:
            raise UsageError("the pool has no arms; name at least one drafter")
        names = [d.name for d in drafters]
        if len(set(names)) != len(names):
            raise UsageError(f"two drafters share a name in {names}; give one of them name=...")
        self.drafters = tuple(drafters)
        self.arms = tuple(self._arm(d, length) for d, length in arms)
        if len({a.name for a in self.arms}) != len(self.arms):
            raise UsageError(f"the same arm twice in {[a.name for a in self.arms]}; every arm must differ")
        self.drafter_of = np.array([max(a.drafter, 0) for a in self.arms], np.int64)
        self.draft_length = np.array([a.draft_length for a in self.arms], np.int64)
        self.plain = self.draft_length == 0
        self.max_draft_length = int(self.draft_length.max())
        self.free = np.array([d.free for d in self.drafters], bool)
        self.committed = np.array([d.cache_rule == COMMITTED for d in self.drafters], bool)

    def _arm(self, drafter: int, draft_length: int) -> Arm:
        if draft_length < 0:
            raise UsageError(f"draft length {draft_length} is negative; use 0 for plain decoding or a positive length")
        if draft_length == 0:
            return Arm(-1, 0, PLAIN)
        if not 0 <= drafter < len(self.drafters):
            raise UsageError(f"arm names drafter {drafter}, but the pool has {len(self.drafters)}")
        return Arm(drafter, draft_length, f"{self.drafters[drafter].name}@{draft_length}")

    def __len__(self) -> int:
        return len(self.arms)

    @property
    def names(self) -> list[str]:
        return [a.name for a in self.arms]

    @property
    def models(self) -> bool:
        """Whether some drafter costs passes of a model."""
        return bool((~self.free).any())

    def index(self, name: str) -> int:
        """The arm called ``name``: a full name (``lookup@8``), ``plain``, or a drafter with just one arm.

        Raises UsageError when no arm, or more than one, fits.
        """
        exact = [i for i, a in enumerate(self.arms) if a.name == name]
        by_drafter = [i for i, a in enumerate(self.arms) if a.drafter >= 0 and self.drafters[a.drafter].name == name]
        found = exact or by_drafter
        if len(found) != 1:
            problem = "names several arms" if found else "is not in the pool"
            raise UsageError(f"arm {name!r} {problem}; choose one of {', '.join(self.names)}")
        return found[0]

    @property
    def longest(self) -> list[int]:
        """[D] the longest draft length of each drafter's arms. Raises UsageError for a drafter without an arm."""
        lengths = [
            max((a.draft_length for a in self.arms if a.drafter == d), default=0) for d in range(len(self.drafters))
        ]
        for drafter, length in zip(self.drafters, lengths, strict=True):
            if length < 1:
                raise UsageError(f"drafter {drafter.name!r} has no arm in the pool; give it one or leave it out")
        return lengths

    def with_plain(self) -> Pool:
        """The same pool with an arm that drafts nothing, behind all others where it had none: plain is always legal."""
        if self.plain.any():
            return self
        return Pool(self.drafters, [*((a.drafter, a.draft_length) for a in self.arms), (-1, 0)])

    def cut(self, draft_length: int) -> Pool:
        """The same pool with every draft length cut to ``draft_length``; arms that become equal are one (0: plain)."""
        arms = [(a.drafter, min(a.draft_length, draft_length)) for a in self.arms]
        unique = dict.fromkeys((d, n) if n > 0 else (-1, n) for d, n in arms)
        return Pool(self.drafters, list(unique))

    def to_json(self) -> dict[str, Any]:
        return {
            "drafters": [
                {
                    "name": d.name,
                    "kind": d.kind,
                    "free": d.free,
                    "deterministic": d.deterministic,
                    "settings": dict(d.settings),
                }
                | ({"needs": list(d.needs)} if d.needs else {})  # absent as in older traces, which stay as they are
                | ({"cache_rule": d.cache_rule} if d.cache_rule != PREFIX else {})
                for d in self.drafters
            ],
            "arms": [{"drafter": a.drafter, "draft_length": a.draft_length} for a in self.arms],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pool:
        drafters = [DrafterInfo(**d) for d in data["drafters"]]
        return cls(drafters, [(a["drafter"], a["draft_length"]) for a in data["arms"]])
