"""What a drafter is. Text drafters (lookup, table) live here; model drafters in ``metasd.runtime``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metasd.core.pool import DrafterInfo
from metasd.core.records import Floats
from metasd.core.signals import F


@dataclass(slots=True)
class Draft:
    """A proposal of m tokens.

    probs: [m, V] the distributions the tokens were sampled from (the very ones: the verifier relies on it), as
        whatever array the drafter's runtime uses; None means one-hot.
    logits: [m, V] of a model drafter, so that overlap can be measured where ``probs`` is one-hot (temperature 0).
    """

    tokens: list[int]
    confidence: list[float]  # the drafter's own probability, or share of support, of each token
    probs: Any = None
    logits: Any = None
    catch_up: int = 0  # tokens re-read first because others produced them
    catch_up_seconds: float = 0.0


@dataclass(slots=True)
class Look:
    """What a drafter says before drafting, from committed tokens only."""

    available: bool
    signals: NDArray[np.float32] = field(default_factory=lambda: np.full(F, np.nan, np.float32))


class Drafter(Protocol):
    """One drafter on one text at a time.

    ``begin`` starts a text; ``extend`` commits tokens of it, whoever produced them; ``look`` and ``draft`` speak of
    the text committed so far and never change what a later ``draft`` would say.
    """

    info: DrafterInfo

    def begin(self, prompt: Sequence[int]) -> None: ...

    def extend(self, tokens: Sequence[int]) -> None: ...

    def look(self) -> Look: ...

    def draft(self, length: int) -> Draft:
        """At most ``length`` >= 1 tokens that may follow; fewer, or none, when the drafter has no more to say."""
        ...


class TextDrafter(Drafter, Protocol):
    """A drafter that works on tokens alone; looking at every committed position is cheap.

    ``extend`` must go through its tokens one at a time, scoring its own first proposal at each position (signals
    run, hit_fast, hit_slow, failures), so that the signals depend on the committed text only, not on when or how
    often anyone looked.
    """

    def agreement(self) -> Floats:
        """[m] per token of the last ``extend``: 1 if it was the first proposal there, 0 if not, NaN without one."""
        ...
