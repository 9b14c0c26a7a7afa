"""Prompt lookup: the longest run at the text's end that occurred before says what comes next.

Saxena 2023, "Prompt lookup decoding"; with min_match=3, max_match=7, occurrence=earliest, draft_length=20 it is the
n-gram drafter of SpecDecode-Bench's public traces.
"""

from __future__ import annotations

from typing import Literal

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo
from metasd.drafters.base import Draft
from metasd.drafters.index import ContextIndex, other_than, voters
from metasd.drafters.text import Evidence, Finding, TextDrafterBase


class LookupDrafter(TextDrafterBase):
    """Copies what followed an earlier occurrence of the text's last tokens, never past the text's end.

    Args:
        name: how the pool calls it.
        draft_length: most tokens it proposes.
        min_match: shortest run that counts as a match.
        max_match: longest run looked for; longer ones are cut to it.
        occurrence: which occurrence of the longest matching run is copied, ``latest`` or ``earliest``.

    The confidence of a drafted token is the share of the recent occurrences (``index.RECENT``) that agreed with
    the draft so far and agree with this token too; the source itself always counts. The signals ``latest`` and
    ``depth`` compare the proposal with the most recent occurrence other than its source; with one occurrence they
    say that it agrees with itself (1, and the proposal's length).

    Raises UsageError for impossible settings.
    """

    def __init__(
        self,
        name: str = "lookup",
        draft_length: int = 8,
        min_match: int = 1,
        max_match: int = 8,
        occurrence: Literal["latest", "earliest"] = "latest",
    ) -> None:
        if not 1 <= min_match <= max_match:
            raise UsageError(f"min_match {min_match} and max_match {max_match} do not fit; need 1 <= min <= max")
        if occurrence not in ("latest", "earliest"):
            raise UsageError(f"occurrence {occurrence!r} is unknown; use latest or earliest")
        self._set_up(draft_length, ContextIndex(min_match, max_match))
        self._least, self._most = min_match, max_match
        self._pick = -1 if occurrence == "latest" else 0
        settings = {
            "draft_length": draft_length,
            "min_match": min_match,
            "max_match": max_match,
            "occurrence": occurrence,
        }
        self.info = DrafterInfo(name, "lookup", free=True, deterministic=True, settings=settings)

    def find(self) -> Finding | None:
        match = self.index.longest(self._least, self._most)
        if match is None:
            return None
        self._occurrences = match.occurrences
        source = match.occurrences[self._pick]
        return Finding(self.index.tokens[source], source)

    def evidence(self, found: Finding) -> Evidence:
        tokens, source, known = self.index.tokens, self._source(found), self._occurrences
        asked = voters(source, known)
        other = other_than(source, known)
        length = min(self.draft_length, len(tokens) - source)
        depth = 0
        for mine, its in zip(tokens[source : source + length], tokens[other : other + length], strict=False):
            if mine != its:
                break
            depth += 1
        return Evidence(
            match_length=self.index.backward_match(source),
            proposal_length=length,
            share=[tokens[o] for o in asked].count(found.token) / len(asked),
            latest=float(tokens[other] == found.token),
            depth=depth,
            in_prompt=source < self.prompt_length,
            from_table=False,
        )

    def offered(self, found: Finding, length: int) -> list[int]:
        source = self._source(found)
        return self.index.tokens[source : source + length]

    def propose(self, found: Finding, length: int) -> Draft:
        tokens, source = self.index.tokens, self._source(found)
        copied = self.offered(found, length)
        asked = voters(source, self._occurrences)
        confidence = []
        for ahead, token in enumerate(copied):
            asked = [o for o in asked if o + ahead < len(tokens)]
            agreeing = [o for o in asked if tokens[o + ahead] == token]
            confidence.append(len(agreeing) / len(asked))
            asked = agreeing
        return Draft(copied, confidence)

    def _source(self, found: Finding) -> int:
        assert isinstance(found.source, int)
        return found.source
