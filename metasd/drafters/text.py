"""What text drafters share: reading the text one token at a time and keeping score of the own first proposal.

Knows a ``ContextIndex`` and the names of the signals; where proposals come from is the subclass's business.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.records import Floats
from metasd.core.signals import INDEX, F, rounded
from metasd.drafters.base import Draft, Look, TextDrafter
from metasd.drafters.index import ContextIndex

FAST, SLOW = 0.2, 0.05
"""Rates of the two exponential averages of hits."""

_NAN = float("nan")
_MATCH, _LENGTH = INDEX["match_length"], INDEX["proposal_length"]
_SHARE, _LATEST, _DEPTH = INDEX["share"], INDEX["latest"], INDEX["depth"]
_PROMPT, _TABLE, _FAILURES = INDEX["in_prompt"], INDEX["from_table"], INDEX["failures"]
_RUN, _HIT_FAST, _HIT_SLOW = INDEX["run"], INDEX["hit_fast"], INDEX["hit_slow"]


@dataclass(slots=True)
class Score:
    """How the first proposal fared at the committed positions of one text.

    A position without a proposal ends the run and leaves both averages alone.
    """

    run: int = 0
    hit_fast: float = 0.5
    hit_slow: float = 0.5
    failures: dict[Hashable, int] = field(default_factory=dict)

    def skip(self) -> None:
        self.run = 0

    def add(self, source: Hashable, hit: bool) -> None:
        self.hit_fast += FAST * (hit - self.hit_fast)
        self.hit_slow += SLOW * (hit - self.hit_slow)
        if hit:
            self.run += 1
        else:
            self.run = 0
            self.failures[source] = self.failures.get(source, 0) + 1


@dataclass(slots=True)
class Finding:
    """The first proposed token and where it comes from.

    ``source`` names it so that its failures can be counted: an index into the text, or a run of table tokens.
    """

    token: int
    source: Hashable


@dataclass(slots=True)
class Evidence:
    """What speaks for a finding: the signals that concern the source (see ``metasd.core.signals``)."""

    match_length: int
    proposal_length: int
    share: float
    latest: float
    depth: float
    in_prompt: bool
    from_table: bool


class TextDrafterBase(TextDrafter):
    """A drafter that copies tokens it has seen.

    Subclasses write ``find`` (the first proposed token), ``evidence``, ``offered`` and ``propose``; all four read
    ``self.index`` and change nothing. Scoring starts with the answer: prompt tokens are indexed, not scored.

    Several of them may read one index that somebody else keeps up (``share``): at every token that one lets all of them
    ``score`` it, adds it to the index, and lets all of them know (``took``).
    """

    draft_length: int
    index: ContextIndex
    _scored: list[float]
    _known: tuple[Finding | None] | None  # cache of find(), emptied by every commit

    def _set_up(self, draft_length: int, index: ContextIndex) -> None:
        """Called by the subclass's ``__init__``; not one itself, since a SPEC's keys are the arguments of those."""
        if draft_length < 1:
            raise UsageError(f"draft_length {draft_length} is too small; a text drafter needs at least 1")
        self.draft_length = draft_length
        self.index = index
        self.opened(0)

    # -- the protocol -------------------------------------------------------------------------------------------

    @property
    def remembers(self) -> bool:
        return False

    def begin(self, prompt: Sequence[int], key: np.uint64 | None = None) -> None:
        self.closed()
        self.index.begin(int(t) for t in prompt)
        self.opened(len(prompt))

    def extend(self, tokens: Sequence[int]) -> None:
        self._scored = [self._commit(token) for token in tokens]

    def agreement(self) -> Floats:
        """[m] per token of the last ``extend``: 1 if it was the first proposal there, 0 if not, NaN without one."""
        return np.array(self._scored, np.float64)

    def look(self) -> Look:
        return Look(self.ready(), rounded(np.array(self.shown(), np.float32)))

    def draft(self, length: int) -> Draft:
        """At most min(length, draft_length) tokens; a shorter draft is always the beginning of a longer one."""
        found = self._found()
        if found is None or length < 1:
            return Draft([], [])
        return self.propose(found, min(length, self.draft_length))

    # -- on an index that somebody else keeps up ------------------------------------------------------------------

    def share(self, index: ContextIndex) -> None:
        """Read ``index`` from now on."""
        self.index = index

    def closed(self) -> None:
        """The text in the index is over; a drafter that grows learns its answer."""
        return

    def opened(self, prompt: int) -> None:
        """A text has begun, of which the first ``prompt`` tokens are in the index."""
        self.prompt_length = prompt
        self._score = Score()
        self._scored = []
        self._known = None

    def score(self, token: int) -> float:
        """How the first proposal fares against ``token``, which comes next: 1, 0, or NaN without one."""
        found = self._found()
        if found is None:
            self._score.skip()
            return _NAN
        hit = found.token == token
        self._score.add(found.source, hit)
        return float(hit)

    def took(self, token: int) -> None:
        """``token`` has joined the index."""
        self._known = None

    def ready(self) -> bool:
        """Whether it has a proposal now."""
        return self._found() is not None

    def shown(self) -> list[float]:
        """[F] the signals, before rounding."""
        score, signals = self._score, [_NAN] * F
        signals[_RUN], signals[_HIT_FAST], signals[_HIT_SLOW] = score.run, score.hit_fast, score.hit_slow
        found = self._found()
        if found is None:
            signals[_MATCH] = signals[_LENGTH] = 0
            return signals
        seen = self.evidence(found)
        signals[_MATCH], signals[_LENGTH] = seen.match_length, seen.proposal_length
        signals[_SHARE], signals[_LATEST], signals[_DEPTH] = seen.share, seen.latest, seen.depth
        signals[_PROMPT], signals[_TABLE] = seen.in_prompt, seen.from_table
        signals[_FAILURES] = score.failures.get(found.source, 0)
        return signals

    def offer(self, length: int) -> list[int]:
        """The tokens of ``draft(length)``, without confidences."""
        found = self._found()
        return [] if found is None or length < 1 else self.offered(found, min(length, self.draft_length))

    # -- what a drafter writes ----------------------------------------------------------------------------------

    @abstractmethod
    def find(self) -> Finding | None:
        """The first token to propose after the text so far, None without one."""

    @abstractmethod
    def evidence(self, found: Finding) -> Evidence:
        """The signals of ``found``."""

    @abstractmethod
    def offered(self, found: Finding, length: int) -> list[int]:
        """The tokens that ``propose`` would say."""

    @abstractmethod
    def propose(self, found: Finding, length: int) -> Draft:
        """At most ``length`` tokens, the first being ``found.token``."""

    # -- helpers ------------------------------------------------------------------------------------------------

    def _found(self) -> Finding | None:
        if self._known is None:
            self._known = (self.find(),)
        return self._known[0]

    def _commit(self, token: int) -> float:
        """Score the first proposal against ``token``, then take it into the text."""
        token = int(token)
        scored = self.score(token)
        self.index.append(token)
        self.took(token)
        return scored
