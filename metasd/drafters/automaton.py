"""A suffix automaton over one growing text: which runs of tokens occurred, how often, and what followed them most.

Blumer et al. 1985, "The smallest automaton recognizing the subwords of a text", built online (amortised constant time a
token). States are classes of runs that end at the same places. Counts are kept up for runs of at most ``reach`` + 1
tokens, by a walk over at most as many classes a token.
"""

from __future__ import annotations

NONE = -2
"""In place of a follower: a run has occurred at the text's very end only."""

ROOT = 0


Place = tuple[int, int]
"""A run: its class and its length."""

START: Place = (ROOT, 0)


class SuffixAutomaton:
    """See the module docstring. By class:

    count: places where its runs end. latest: the last of them, as tokens up to there; before: the one before that.
    best: the token that most often followed; of several, the one that did so last; ``NONE`` without any.
    """

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.tokens: list[int] = []
        self.count, self.latest, self.before, self.best = [0], [0], [0], [NONE]
        self._next: list[dict[int, int]] = [{}]
        self._link, self._length = [-1], [0]
        self._whole = ROOT
        self._end = START  # the last reach + 1 tokens, fewer in a shorter text

    def append(self, token: int) -> None:
        """Take one token in."""
        self._grow(token)
        self.tokens.append(token)
        here, reach, link, count, follow, best = (
            len(self.tokens), self.reach, self._link, self.count, self._next, self.best
        )  # fmt: skip
        latest, before = self.latest, self.before
        was, size = self._settled(*self._end)
        self._end = self._settled(follow[was][token], min(size, reach) + 1)
        state = self._end[0]
        while state != ROOT:
            count[state] += 1
            before[state] = latest[state]
            latest[state] = here
            state = link[state]
        state = self._settled(was, min(size, reach))[0]
        while state != -1:
            known, following = best[state], follow[state]
            if known != token and (known == NONE or count[following[token]] >= count[following[known]]):
                best[state] = token
            state = link[state]

    def follow(self, place: Place, token: int) -> Place:
        """The longest run, of at most ``reach`` tokens, that ends ``place`` and ``token`` and occurs in the text."""
        state, length = self._settled(*place)
        while state != ROOT and token not in self._next[state]:
            state = self._link[state]
            length = self._length[state]
        then = self._next[state].get(token)
        return START if then is None else self._settled(then, min(length + 1, self.reach))

    def find(self, tokens: list[int]) -> Place:
        """The longest end of ``tokens``, of at most ``reach``, that occurs in the text."""
        place = START
        for token in tokens[-self.reach :]:
            place = self.follow(place, token)
        return place

    def end(self) -> Place:
        """The longest end of the text itself, of at most ``reach`` tokens, that something followed before."""
        state, length = self._end
        return self.followed((state, min(length, self.reach)))

    def followed(self, place: Place) -> Place:
        """The longest end of ``place`` that something followed."""
        state, length = self._settled(*place)
        while state != ROOT and self.best[state] == NONE:
            state = self._link[state]
            length = self._length[state]
        return state, length

    def step(self, place: Place) -> tuple[int, Place, float]:
        """Of a run that something followed: the token that did most often, the run with it, its share."""
        state, length = place
        token = self.best[state]
        then = self._next[state][token]
        followed = self.count[state] - (self.latest[state] == len(self.tokens)) if state else len(self.tokens)
        return token, self._settled(then, min(length + 1, self.reach)), self.count[then] / followed

    def last(self, place: Place) -> int:
        """Where the run occurred last with something behind it: the index of that token."""
        at = self.latest[place[0]]
        return at if at < len(self.tokens) else self.before[place[0]]

    # -- helpers ------------------------------------------------------------------------------------------------

    def _settled(self, state: int, size: int) -> Place:
        """The end of ``size`` tokens of a run that was of class ``state``: classes may have been split since."""
        link, length = self._link, self._length
        while state != ROOT and size <= length[link[state]]:
            state = link[state]
        return state, size

    def _state(self, length: int) -> int:
        self._length.append(length)
        self._link.append(ROOT)
        self._next.append({})
        self.count.append(0)
        self.latest.append(0)
        self.before.append(0)
        self.best.append(NONE)
        return len(self._length) - 1

    def _grow(self, token: int) -> None:
        follow, link = self._next, self._link
        state = self._whole
        self._whole = made = self._state(self._length[state] + 1)
        while state != -1 and token not in follow[state]:
            follow[state][token] = made
            state = link[state]
        if state == -1:
            return
        known = follow[state][token]
        if self._length[known] == self._length[state] + 1:
            link[made] = known
            return
        split = self._state(self._length[state] + 1)
        follow[split] = dict(follow[known])
        for values in (self.count, self.latest, self.before, self.best):
            values[split] = values[known]
        link[split] = link[known]
        while state != -1 and follow[state].get(token) == known:
            follow[state][token] = split
            state = link[state]
        link[known] = link[made] = split
