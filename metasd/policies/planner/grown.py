"""A table grown from what the target has said: runs across its texts, bounded, the oldest forgotten first.

Kept as the tokens themselves in a ring; the runs are an index of it that is made anew from the ring when a saved state
is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from metasd.core.plans import Run, Suggestion
from metasd.core.records import Ints

ORDER = 4
RECENT = 24
"""Occurrences of a run, newest first, that are asked."""
BEST = 3
"""Tokens suggested a run."""


class Grown:
    """What one lane's target has said before the present text; a ``metasd.core.plans.Source``.

    Args:
        ring: [R] where tokens are kept, -1 - token for those of prompts, which are only followed, not learned.
        told: [2] tokens written so far, and how many of them runs are known of; both are the caller's to save.

    Attributes:
        version: counts on whenever what is suggested may have changed.
    """

    reach = ORDER
    fixed = False

    def __init__(self, ring: Ints, told: Ints) -> None:
        self._ring, self._told = ring, told
        self.version = 0
        self.reload()

    def reload(self) -> None:
        """Make the index anew from the ring."""
        self._runs: dict[Run, list[int]] = {}
        self._best: dict[Run, list[tuple[int, float]]] = {}
        self._tokens: list[int] = self._ring.tolist()  # the ring again: single numbers are dear in arrays
        self._take_in(0)

    def forget(self) -> None:
        """Empty it."""
        self._told[:] = 0
        self._runs, self._best = {}, {}
        self.version += 1

    def begin(self, tail: Sequence[int]) -> None:
        """A text starts behind ``tail``: what was said before it is known from now on."""
        known = int(self._told[1])
        self._told[1] = self._told[0]
        self._take_in(known)
        for token in [*([0] * ORDER), *tail][-ORDER:]:
            self._write(-1 - token)

    def say(self, tokens: Sequence[int]) -> None:
        """The target has said ``tokens``."""
        for token in tokens:
            self._write(token)

    def suggest(self, context: Run) -> list[Suggestion]:
        """At most ``BEST`` tokens a run, from the longest run down, each token once."""
        seen, suggested, runs = set[int](), list[Suggestion](), self._runs
        found = list[Run]()
        for order in range(1, min(ORDER, len(context)) + 1):
            run = context[-order:]
            if run not in runs:
                break
            found.append(run)
        for run in reversed(found):
            for token, share in self._best.get(run) or self._followers(run):
                if token not in seen:
                    seen.add(token)
                    suggested.append((token, len(run), share, False))
        return suggested

    def knows(self, run: Run) -> bool:
        """Whether ``run``, of at most ``ORDER`` tokens, was said; else only its ends tell what may follow."""
        return run in self._runs

    def _followers(self, run: Run) -> list[tuple[int, float]]:
        """Tokens seen most often behind ``run`` and their shares; worked out once until the run occurs again."""
        said, size, at = self._tokens, len(self._tokens), self._runs[run]
        counts: dict[int, int] = {}
        for here in reversed(at):
            token = said[here % size]
            counts[token] = counts.get(token, 0) + 1
        best = counts.items() if len(counts) <= BEST else sorted(counts.items(), key=lambda c: -c[1])[:BEST]
        made = self._best[run] = [(token, count / len(at)) for token, count in best]
        return made

    def _take_in(self, first: int) -> None:
        """Index the tokens from number ``first`` on whose run is in the ring."""
        self.version += 1
        oldest = max(int(self._told[0]) - len(self._ring), 0) + ORDER
        for at in range(max(first, oldest), int(self._told[1])):
            self._index(at)

    def _write(self, token: int) -> None:
        written, size = int(self._told[0]), len(self._ring)
        if written >= size:
            self._drop(written - size + ORDER)
        self._ring[written % size] = self._tokens[written % size] = token
        self._told[0] = written + 1

    def _context(self, at: int) -> Run:
        """The ``ORDER`` tokens before the one written as number ``at``."""
        said, size = self._tokens, len(self._tokens)
        told = [said[i % size] for i in range(at - ORDER, at)]
        return tuple(t if t >= 0 else -1 - t for t in told)

    def _index(self, at: int) -> None:
        if self._tokens[at % len(self._tokens)] < 0:
            return
        context = self._context(at)
        for order in range(1, ORDER + 1):
            run = context[-order:]
            known = self._runs.setdefault(run, [])
            known.append(at)
            self._best.pop(run, None)
            if len(known) > RECENT:
                del known[0]

    def _drop(self, at: int) -> None:
        """Forget the oldest token whose run is still in the ring."""
        if at >= int(self._told[1]) or self._tokens[at % len(self._tokens)] < 0:
            return
        self.version += 1
        context = self._context(at)
        for order in range(1, ORDER + 1):
            run = context[-order:]
            known = self._runs.get(run)
            if known is not None and known[0] == at:
                del known[0]
                self._best.pop(run, None)
                if not known:
                    del self._runs[run]
