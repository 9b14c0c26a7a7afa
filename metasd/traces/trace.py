"""A recorded trace in memory: what every drafter would have done at every position of the target's own texts.

Rows are start positions, all prompts concatenated; ``offsets`` delimits prompts. Row ``offsets[p] + t`` speaks of the
draft that begins after t committed answer tokens of prompt p; ``tokens`` at that row is the token judged first.
Arrays may be memory-mapped: nothing here copies them.

Shapes: P prompts, N rows, D drafters, G the longest recorded draft length, F signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Bools, Ints


@dataclass(slots=True, repr=False)
class Trace:
    """See the module docstring. ``None`` marks a field that was not recorded."""

    drafters: tuple[DrafterInfo, ...]
    draft_lengths: Ints  # [D] longest draft recorded of each drafter
    ids: Sequence[str]  # [P]
    domains: Sequence[str]  # [P]
    offsets: Ints  # [P + 1]
    ended: Bools  # [P] the text ended by itself; otherwise the token budget cut it
    prompt_lengths: Ints  # [P] tokens of each prompt
    tokens: NDArray[Any]  # [N] the target's text
    proposed: NDArray[np.uint8]  # [N, D] length of the proposal, 0 = none
    accepted: NDArray[np.uint8]  # [N, D] leading tokens of it that the text agrees with (temperature 0 or one-hot)
    accept: NDArray[np.float16] | None = None  # [N, D, G] min(1, q/p) of the text's tokens; only above temperature 0
    overlap: NDArray[np.float16] | None = None  # [N, D, G] 1 - TV(p, q) on the drafter's own chain, NaN beyond it
    confidence: NDArray[np.float16] | None = None  # [N, D, G] the drafter's probability of each drafted token
    draft_tokens: NDArray[Any] | None = None  # [N, D, G] its own chain, 0 beyond ``proposed``
    signals: NDArray[np.float16] | None = None  # [N, D, F]
    margin: NDArray[np.float32] | None = None  # [N] target's top-1 minus top-2 logit
    prompt_tokens: NDArray[Any] | None = None  # [sum of prompt_lengths]
    column_text: Ints | None = None  # [P, D] hash of the text each column was recorded on; None: the text here
    manifest: Mapping[str, Any] = field(default_factory=dict)
    costs: CostModel | None = None
    path: Path | None = None

    @property
    def depth(self) -> int:
        """G, the longest recorded draft length."""
        return int(self.draft_lengths.max()) if len(self.draft_lengths) else 0

    @property
    def sampled(self) -> bool:
        """Whether the text was sampled: acceptance is then drawn from ``accept``, not fixed."""
        return self.accept is not None

    @property
    def exact(self) -> bool:
        """False for imported logs of visited positions, which replay only approximately."""
        return bool(self.manifest.get("exact", True))

    @property
    def name(self) -> str:
        """What tables call it: its folder's name, or how it was made."""
        if self.path is not None:
            return self.path.name
        if "part" in self.manifest:
            return str(self.manifest["part"])
        law = self.manifest.get("config", {}).get("law")
        return f"synthetic {law['kind']}" if law else "in memory"

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.ids)

    def __repr__(self) -> str:
        drafters = ", ".join(d.name for d in self.drafters)
        return f"<Trace {self.name}: {len(self)} prompts, {len(self.tokens)} tokens, drafters {drafters}>"

    @property
    def lengths(self) -> Ints:
        """[P] answer tokens of each prompt."""
        return np.diff(self.offsets)

    def pool(self, draft_length: int | None = None) -> Pool:
        """The arms as recorded and plain decoding, or all of them cut to ``draft_length`` (0: plain decoding alone).

        Plain needs no column, so every trace replays with it, however old.

        Raises UsageError for a draft length that is negative or above the recorded one.
        """
        if "pool" in self.manifest:
            recorded = Pool.from_json(self.manifest["pool"])
        else:
            recorded = Pool(self.drafters, [(d, int(n)) for d, n in enumerate(self.draft_lengths)])
        if draft_length is None:
            return recorded.with_plain()
        self.check_draft_length(draft_length)
        return recorded.cut(draft_length).with_plain()

    def check_draft_length(self, draft_length: int) -> None:
        """Raises UsageError unless 0 <= draft_length <= the recorded one."""
        if not 0 <= draft_length <= self.depth:
            raise UsageError(f"draft length {draft_length} is outside 0..{self.depth}, what this trace records")
