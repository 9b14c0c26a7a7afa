"""The suffix drafter: what mostly followed the longest known end of the text, here or in earlier outputs.

After Oliaro et al. 2024, "SuffixDecoding", with suffix automata instead of trees. Draft tokens are what most often
followed, each found anew for the text and the draft so far.
"""

from __future__ import annotations

from collections.abc import Sequence

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo
from metasd.drafters.automaton import START, Place, SuffixAutomaton
from metasd.drafters.base import Draft
from metasd.drafters.index import ContextIndex
from metasd.drafters.text import Evidence, Finding, TextDrafterBase

END = -1
"""What follows an earlier output: no token, and it ends a draft."""


class Outputs:
    """Earlier outputs, of at most ``most`` tokens: two halves, the older of which goes when the younger is full."""

    def __init__(self, reach: int, most: int) -> None:
        self._half = most // 2
        self.halves = [SuffixAutomaton(reach), SuffixAutomaton(reach)]  # younger, older
        self.numbers = [1, 0]  # of the halves, in the order in which they were begun
        self.version = 0

    def __len__(self) -> int:
        return sum(len(half.tokens) for half in self.halves)

    def add(self, tokens: Sequence[int]) -> None:
        """Take an output in, at most its first tokens that fit into a half."""
        tokens = tokens[: self._half - 1]
        if self._half < 2 or not tokens:
            return
        if len(self.halves[0].tokens) + len(tokens) + 1 > self._half:
            self.halves = [SuffixAutomaton(self.halves[0].reach), self.halves[0]]
            self.numbers = [self.numbers[0] + 1, self.numbers[0]]
        for token in (*tokens, END):
            self.halves[0].append(token)
        self.version += 1


class SuffixDrafter(TextDrafterBase):
    """See the module docstring. The text itself wins over earlier outputs with an end of the same length.

    Args:
        name: how the pool calls it.
        draft_length: most tokens it proposes.
        min_match: shortest end that counts.
        max_match: longest end looked for; longer ones are cut to it.
        keeps: tokens of earlier outputs that are kept, the oldest go out; about 1 kB each. ``begin`` takes the answer
            just finished among them, so what is proposed depends on the texts decoded before, in their order.

    The confidence of a drafted token is its share of what followed there. The signal ``from_table`` says that the
    proposal comes from earlier outputs; ``latest`` and ``depth`` compare it with what followed last.

    Raises UsageError for impossible settings.
    """

    def __init__(
        self,
        name: str = "suffix",
        draft_length: int = 8,
        min_match: int = 1,
        max_match: int = 32,
        keeps: int = 50_000,
    ) -> None:
        if not 1 <= min_match <= max_match:
            raise UsageError(f"min_match {min_match} and max_match {max_match} do not fit; need 1 <= min <= max")
        if keeps < 0:
            raise UsageError(f"keeps {keeps} is below 0; give how many tokens of earlier outputs are kept")
        self._least, self._reach = min_match, max_match
        self.outputs = Outputs(max_match, keeps)
        self._set_up(draft_length, ContextIndex(1, 0))
        settings = {"draft_length": draft_length, "min_match": min_match, "max_match": max_match, "keeps": keeps}
        self.info = DrafterInfo(name, "suffix", free=True, deterministic=True, settings=settings | {"grows": True})

    def closed(self) -> None:
        self.outputs.add(self.index.tokens[self.prompt_length :])

    def opened(self, prompt: int) -> None:
        super().opened(prompt)
        self._own = SuffixAutomaton(self._reach)
        for token in self.index.tokens:
            self._own.append(token)
        self._seen = -1
        self._places = [START, START]

    def took(self, token: int) -> None:
        super().took(token)
        self._own.append(token)
        if self._seen == self.outputs.version:
            self._places = [h.follow(p, token) for h, p in zip(self.outputs.halves, self._places, strict=True)]

    def find(self) -> Finding | None:
        if self._seen != self.outputs.version:
            self._places = [half.find(self.index.tokens) for half in self.outputs.halves]
            self._seen = self.outputs.version
        self._from, self._place, self._number = self._own, self._own.end(), -1
        for half, place, number in zip(self.outputs.halves, self._places, self.outputs.numbers, strict=True):
            if place[1] > self._place[1]:
                self._from, self._place, self._number = half, place, number
        if self._place[1] < self._least:
            return None
        token, then, share = self._from.step(self._place)
        if token == END:
            return None
        self._walked = [(token, share)]
        self._then: Place = then
        at = self._from.latest[then[0]] - 1
        return Finding(token, at if self._number < 0 else (self._number, at))

    def evidence(self, found: Finding) -> Evidence:
        steps = self._walk(self.draft_length)
        known, last = self._from.tokens, self._from.last(self._place)
        depth = 0
        for (mine, _), its in zip(steps, known[last : last + len(steps)], strict=False):
            if mine != its:
                break
            depth += 1
        return Evidence(
            match_length=self._place[1],
            proposal_length=len(steps),
            share=steps[0][1],
            latest=float(known[last] == found.token),
            depth=depth,
            in_prompt=isinstance(found.source, int) and found.source < self.prompt_length,
            from_table=self._number >= 0,
        )

    def offered(self, found: Finding, length: int) -> list[int]:
        return [token for token, _ in self._walk(length)[:length]]

    def propose(self, found: Finding, length: int) -> Draft:
        steps = self._walk(length)[:length]
        return Draft([token for token, _ in steps], [share for _, share in steps])

    def _walk(self, length: int) -> list[tuple[int, float]]:
        """The first ``length`` tokens and their shares, fewer where an output ended; walked once per commit."""
        while len(self._walked) < length:
            place = self._from.followed(self._then)
            if place[1] < self._least:
                break
            token, then, share = self._from.step(place)
            if token == END:
                break
            self._walked.append((token, share))
            self._then = then
        return self._walked
