"""Which request a row of the engine's batch belongs to, told by its text: the hook of vLLM gives no ids.

A request is its prompt and what it has grown so far. Rows move, requests are preempted and read anew, several may have
the same text; none of that changes which text continues which. Two requests with equal texts are the same to every
drafter and are given the same draft, so that it does not matter which is which. One case is left that no text can
tell: of two with equal texts one is preempted, and comes back in the very step, and row, in which the other is gone.

vLLM widens the pass of a request whose text it finds in its prefix cache but for one token (a resumed one, or a new
one) by ``most`` placeholders, -1, and counts them as a draft. They stay behind the text in its row and are seen there,
all but the first, which the sampled token overwrites: with ``most`` 1 they cannot be seen. It asks nobody while a
text is too near the longest one allowed; what the texts grew by meanwhile is taken in afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]

ABSENT = 8
"""Requests out of the batch that are remembered at least; otherwise twice as many as are in it."""
_TAIL = 8  # tokens of a text's end by which it is looked up


@dataclass(slots=True, eq=False)
class Request:
    """One request. ``text`` is what was seen of it, prompt first.

    draft: what was proposed for it last. seen: the step in which it was last in the batch.
    """

    number: int
    prompt_length: int
    text: Tokens
    row: int
    seen: int
    draft: list[int] = field(default_factory=list)
    key: tuple[int, bytes] = (0, b"")
    """Equal for equal texts, and nearly only for those."""

    def __post_init__(self) -> None:
        self.key = _end(self.text)

    def grow(self, text: Tokens) -> None:
        self.text, self.key = text, _end(text)


@dataclass(slots=True)
class Match:
    """A row with new tokens, and whose they are.

    tokens: what the text grew by. new: first seen. ran: its last draft was judged, as several tokens prove, and being
    in the batch in the step before makes certain enough; a preempted request's is dropped. agreed: how many of the
    draft's tokens the target took; the token behind them ends the round. padded: the engine counted placeholders as
    its draft.
    """

    row: int
    request: Request
    tokens: list[int]
    new: bool
    ran: bool
    agreed: int
    padded: bool


class Requests:
    """All requests in the batch, and those that left it lately and may come back.

    Args:
        most: draft tokens a round. limit: tokens of the longest text.
    """

    def __init__(self, most: int, limit: int) -> None:
        self._most, self._limit = most, limit
        self._longest = 0  # tokens of the longest text in the batch of the last step
        self.step = 0
        self.started = 0
        self._by_end: dict[tuple[int, bytes], list[Request]] = {}

    def __iter__(self) -> Iterator[Request]:
        return (request for known in self._by_end.values() for request in known)

    def recognise(self, sampled: Sequence[Sequence[int]], lengths: NDArray[np.int32], texts: Tokens) -> list[Match]:
        """Whose the rows are that got tokens in this step, in order of rows.

        Args:
            sampled: new tokens by row; none while a prompt is still being read.
            lengths, texts: row b's text is texts[b, :lengths[b]] and ends with its new tokens.
        """
        self.step += 1
        rows = [b for b, tokens in enumerate(sampled) if tokens]
        owner: dict[int, Request] = {}
        known, ends = {r.row: r for r in self if r.seen == self.step - 1}, lengths.tolist()
        for b in rows:  # nearly all are where they were
            found = known.get(b)
            if found is not None and self._went_on(found, texts[b, : ends[b] - len(sampled[b])], sampled[b]):
                owner[b] = found
                self._forget(found)
        rules = [self._fits, self._any]
        if self._longest + 2 * self._most > self._limit:
            rules.append(self._grown)  # the engine may have asked nobody for some steps
        for rule in rules if len(owner) < len(rows) else ():
            for b in rows:
                if b not in owner:
                    before = texts[b, : ends[b] - len(sampled[b])]
                    found = rule(b, before, sampled[b])
                    if found is not None:
                        owner[b] = found
                        self._forget(found)
        self._longest = max((ends[b] for b in rows), default=0)
        return [self._take(b, owner.get(b), list(map(int, sampled[b])), texts[b], ends[b]) for b in rows]

    def expired(self) -> list[Request]:
        """Requests out of the batch for longest, beyond those worth remembering; they are forgotten."""
        absent = [r for r in self if r.seen < self.step]
        present = sum(1 for _ in self) - len(absent)
        over = len(absent) - max(ABSENT, 2 * present)
        gone = sorted(absent, key=lambda r: (r.seen, r.number))[:over] if over > 0 else []
        for request in gone:
            self._forget(request)
        return gone

    def _take(self, row: int, known: Request | None, tokens: list[int], line: Tokens, length: int) -> Match:
        text = line[:length].copy()
        entered = known is None or known.seen < self.step - 1
        padded = entered and len(tokens) == 1 and self._padded(line[length : length + self._most - 1])
        if known is None:
            request = Request(self.started, length - len(tokens), text, row, self.step)
            self.started += 1
            match = Match(row, request, tokens, new=True, ran=False, agreed=0, padded=padded)
        else:
            request, agreed = known, len(tokens) - 1
            if len(known.text) + len(tokens) < length:  # some steps were not seen
                tokens = text[len(known.text) :].tolist()
                agreed = min(_common(tokens, known.draft), len(tokens) - 1)
            match = Match(row, known, tokens, new=False, ran=not entered or agreed > 0, agreed=agreed, padded=padded)
            known.grow(text)
            known.row, known.seen = row, self.step
        self._by_end.setdefault(request.key, []).append(request)
        return match

    @staticmethod
    def _padded(behind: Tokens) -> bool:
        """Whether placeholders stand there. Nobody reads them; left alone they would be seen behind another text."""
        padded = len(behind) > 0 and bool((behind == -1).all())
        if padded:
            behind[:] = 0
        return padded

    def _forget(self, request: Request) -> None:
        key = request.key
        self._by_end[key].remove(request)
        if not self._by_end[key]:
            del self._by_end[key]

    def _continued(self, before: Tokens) -> Iterator[Request]:
        """Requests not seen in this step whose text is ``before``."""
        for request in self._by_end.get(_end(before), ()):
            if request.seen < self.step and request.text.tobytes() == before.tobytes():
                yield request

    def _judged(self, request: Request, tokens: Sequence[int]) -> bool:
        """Whether ``tokens`` can be what the target made of the request's last draft."""
        kept = len(tokens) - 1
        return list(tokens[:kept]) == request.draft[:kept]

    def _went_on(self, request: Request, before: Tokens, tokens: Sequence[int]) -> bool:
        """Whether a row holds what the target made of its own request's text and draft."""
        same = len(request.text) == len(before) and request.text.tobytes() == before.tobytes()
        return same and self._judged(request, tokens)

    def _fits(self, row: int, before: Tokens, tokens: Sequence[int]) -> Request | None:
        fits = [r for r in self._continued(before) if self._judged(r, tokens)]
        return max(fits, key=lambda r: (r.seen, -r.number), default=None)

    def _any(self, row: int, before: Tokens, tokens: Sequence[int]) -> Request | None:
        return next(self._continued(before), None)

    def _grown(self, row: int, before: Tokens, tokens: Sequence[int]) -> Request | None:
        seen = (r for r in self if r.seen == self.step - 1 and len(r.text) < len(before))
        fits = [r for r in seen if np.array_equal(before[: len(r.text)], r.text)]
        return max(fits, key=lambda r: (len(r.text), r.row == row), default=None)


def _common(text: Sequence[int], draft: Sequence[int]) -> int:
    """Tokens at the beginning of ``text`` that are those of ``draft``."""
    return next((i for i, (a, b) in enumerate(zip(text, draft, strict=False)) if a != b), min(len(text), len(draft)))


def _end(text: Tokens) -> tuple[int, bytes]:
    return len(text), text[-_TAIL:].tobytes()
