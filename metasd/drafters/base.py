"""What a drafter is. Text drafters (lookup, table) live here; model drafters in ``metasd.runtime``."""

from __future__ import annotations

from abc import abstractmethod
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


@dataclass(frozen=True, slots=True)
class Causal:
    """The causal model a drafter drafts from, one token at a time, at temperature 0 always its likeliest.

    With it, a recorder reads many prefixes in one pass instead of asking for a draft at each.
    """

    model: Any
    fit: Any  # brings tokens into the model's vocabulary and its logits into the target's
    limit: int | None  # tokens of text that it reads; None: no limit
    switch: int | None  # tokens of text inside which it must stay, or behind which it must start


class Drafter(Protocol):
    """One drafter on one text at a time.

    ``begin`` starts a text; ``extend`` commits tokens of it, whoever produced them; ``look`` and ``draft`` speak of
    the text committed so far and never change what a later ``draft`` would say.

    A class that names this one as its base writes ``info``, ``begin``, ``extend``, ``look`` and ``draft``; the rest
    is then that of a drafter without a model. Where ``info.free`` is false, tokens are committed a round at a time and
    proposals are asked for when they are played, not at every position.
    """

    info: DrafterInfo

    @property
    def lag(self) -> int:
        """Tokens it would have to catch up before it could draft now."""
        return 0

    @property
    def seconds(self) -> float:
        """Wall time of all its models' passes so far."""
        return 0.0

    @property
    def causal(self) -> Causal | None:
        """What it drafts from, for a recorder; a drafter without it is recorded only if free and deterministic."""
        return None

    @property
    def remembers(self) -> bool:
        """Whether what it proposes may depend on the texts before: who records on several processes then lets it read
        them all, in order."""
        return True

    def watch(self, features: Any) -> None:
        """The target's states (``runtime.engine.features``) on the texts to come, where ``info.needs`` names some."""
        return

    @property
    def notes(self) -> list[str]:
        """What its user should know of how it was opened."""
        return []

    def check_fits(self, prompt_id: str, prompt: int, budget: int) -> None:
        """Raises TooLongError for a text of ``prompt`` tokens and a ``budget`` that it cannot read."""
        return  # mypy takes an empty body for an abstract method

    def warm(self, room: int) -> None:
        """Do what is done once for texts of ``room`` tokens, before one begins."""
        return

    def rest(self) -> None:
        """The text is over, and another may be long in coming: let go of what it held. ``begin`` starts the next."""
        return

    @abstractmethod
    def begin(self, prompt: Sequence[int], key: np.uint64 | None = None) -> None:
        """Start a text. ``key``: noise of its drafts; two texts with the same prompt need different ones."""

    @abstractmethod
    def extend(self, tokens: Sequence[int]) -> None:
        """Commit ``tokens``."""

    @abstractmethod
    def look(self) -> Look:
        """What it says before drafting."""

    @abstractmethod
    def draft(self, length: int) -> Draft:
        """At most ``length`` >= 1 tokens that may follow; fewer, or none, when the drafter has no more to say."""

    def everywhere(self, prompt: Sequence[int], answer: Sequence[int], length: int) -> Any:
        """Its drafts of ``length`` tokens at every start of ``answer``, for a recorder, where they depend on more than
        tokens (``runtime.heads.everywhere``); None: they do not. The text must be one it ``watch``es.
        """
        return None

    def judged(self, count: int) -> Any:
        """Logits [count, V] it had for each of the last ``count`` committed tokens; catches up to do it.

        None: it cannot tell. Full information of scope "all" then leaves it out.
        """
        return None


class TextDrafter(Drafter, Protocol):
    """A drafter that works on tokens alone; looking at every committed position is cheap.

    ``extend`` must go through its tokens one at a time, scoring its own first proposal at each position (signals
    run, hit_fast, hit_slow, failures), so that the signals depend on the committed text only, not on when or how
    often anyone looked.
    """

    @abstractmethod
    def agreement(self) -> Floats:
        """[m] per token of the last ``extend``: 1 if it was the first proposal there, 0 if not, NaN without one."""
