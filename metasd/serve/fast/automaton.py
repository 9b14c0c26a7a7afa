"""``metasd.drafters.automaton`` as kernels on a block of an arena: the same classes, counts and followers.

``m`` is the arena's whole numbers, ``a`` where the automaton's block begins. Edges are found by hashing class and
token, and linked by class, so that a class can be split.
"""

from __future__ import annotations

from typing import Any

from metasd.serve.fast.compile import compiled

NONE = -2
ROOT = 0

CAP, COUNT, STATES, EDGES, WHOLE, END, SIZE, REACH, MASK = range(9)
HEAD = 16
LINK, LENGTH, SEEN, LATEST, BEFORE, BEST, FIRST = range(7)  # of a class; SEEN: its count; FIRST: its newest edge
PER_STATE, PER_EDGE = 7, 4  # an edge: class, token, class it leads to, next edge of its class


def slots(cap: int) -> int:
    """Slots of the edges' hash table, for ``cap`` tokens."""
    return 1 << (6 * cap).bit_length()


def size(cap: int) -> int:
    """Numbers of a block for ``cap`` tokens."""
    return HEAD + (2 * PER_STATE + 3 * PER_EDGE) * cap + slots(cap) + cap


@compiled
def begin(m: Any, a: int, cap: int, reach: int, mask: int) -> None:
    """An empty automaton."""
    m[a : a + HEAD] = 0
    m[a + CAP], m[a + REACH], m[a + MASK] = cap, reach, mask
    first = a + HEAD + 26 * cap
    m[first : first + mask + 1] = -1
    _state(m, a, 0)
    m[a + HEAD + LINK] = -1


@compiled
def text(m: Any, a: int) -> int:
    """Where its tokens begin."""
    return a + HEAD + 26 * int(m[a + CAP]) + int(m[a + MASK]) + 1


@compiled
def field(m: Any, a: int, state: int, name: int) -> int:
    """What is kept of a class under one of the names above."""
    return int(m[a + HEAD + PER_STATE * state + name])


@compiled
def _put(m: Any, a: int, state: int, name: int, value: int) -> None:
    m[a + HEAD + PER_STATE * state + name] = value


@compiled
def _state(m: Any, a: int, length: int) -> int:
    made = int(m[a + STATES])
    m[a + STATES] = made + 1
    at = a + HEAD + PER_STATE * made
    m[at : at + PER_STATE] = 0
    m[at + LENGTH], m[at + BEST], m[at + FIRST] = length, NONE, -1
    return made


@compiled
def _slot(m: Any, a: int, state: int, follower: int) -> int:
    """Where the edge is, or would be."""
    cap, mask = int(m[a + CAP]), int(m[a + MASK])
    edges, first = a + HEAD + 14 * cap, a + HEAD + 26 * cap
    slot = ((state * 0x9E3779B1 + follower * 0x85EBCA6B) >> 7) & mask
    while True:
        edge = int(m[first + slot])
        if edge < 0 or (m[edges + 4 * edge] == state and m[edges + 4 * edge + 1] == follower):
            return first + slot
        slot = (slot + 1) & mask


@compiled
def to(m: Any, a: int, state: int, follower: int) -> int:
    """The class that ``follower`` leads to, -1 where it never followed."""
    edge = int(m[_slot(m, a, state, follower)])
    return -1 if edge < 0 else int(m[a + HEAD + 14 * int(m[a + CAP]) + 4 * edge + 2])


@compiled
def _lead(m: Any, a: int, state: int, follower: int, then: int) -> None:
    slot = _slot(m, a, state, follower)
    edge, edges = int(m[slot]), a + HEAD + 14 * int(m[a + CAP])
    if edge < 0:
        edge = int(m[a + EDGES])
        m[a + EDGES], m[slot], at = edge + 1, edge, edges + 4 * edge
        m[at], m[at + 1], m[at + 3] = state, follower, field(m, a, state, FIRST)
        _put(m, a, state, FIRST, edge)
    m[edges + 4 * edge + 2] = then


@compiled
def _grow(m: Any, a: int, new: int) -> None:
    state = int(m[a + WHOLE])
    made = _state(m, a, field(m, a, state, LENGTH) + 1)
    m[a + WHOLE] = made
    while state != -1 and to(m, a, state, new) < 0:
        _lead(m, a, state, new, made)
        state = field(m, a, state, LINK)
    if state == -1:
        return
    known, length = to(m, a, state, new), field(m, a, state, LENGTH) + 1
    if field(m, a, known, LENGTH) == length:
        _put(m, a, made, LINK, known)
        return
    split = _state(m, a, length)
    for name in (LINK, SEEN, LATEST, BEFORE, BEST):
        _put(m, a, split, name, field(m, a, known, name))
    edge, edges = field(m, a, known, FIRST), a + HEAD + 14 * int(m[a + CAP])
    while edge >= 0:
        at = edges + 4 * edge
        _lead(m, a, split, int(m[at + 1]), int(m[at + 2]))
        edge = int(m[at + 3])
    while state != -1 and to(m, a, state, new) == known:
        _lead(m, a, state, new, split)
        state = field(m, a, state, LINK)
    _put(m, a, known, LINK, split)
    _put(m, a, made, LINK, split)


@compiled
def _settled(m: Any, a: int, state: int, length: int) -> int:
    while state != ROOT and length <= field(m, a, field(m, a, state, LINK), LENGTH):
        state = field(m, a, state, LINK)
    return state


@compiled
def append(m: Any, a: int, new: int) -> None:
    """``SuffixAutomaton.append``. The block must have room."""
    _grow(m, a, new)
    count, reach = int(m[a + COUNT]), int(m[a + REACH])
    m[text(m, a) + count] = new
    m[a + COUNT] = count + 1
    length = int(m[a + SIZE])
    was = _settled(m, a, int(m[a + END]), length)
    within = min(length, reach)
    state = _settled(m, a, to(m, a, was, new), within + 1)
    m[a + END], m[a + SIZE] = state, within + 1
    while state != ROOT:
        at = a + HEAD + PER_STATE * state
        m[at + SEEN] += 1
        m[at + BEFORE] = m[at + LATEST]
        m[at + LATEST] = count + 1
        state = int(m[at + LINK])
    state = _settled(m, a, was, within)
    while state != -1:
        known = field(m, a, state, BEST)
        if known != new and (
            known == NONE or field(m, a, to(m, a, state, new), SEEN) >= field(m, a, to(m, a, state, known), SEEN)
        ):
            _put(m, a, state, BEST, new)
        state = field(m, a, state, LINK)


@compiled
def follow(m: Any, a: int, state: int, length: int, new: int) -> tuple[int, int]:
    """``SuffixAutomaton.follow``."""
    state = _settled(m, a, state, length)
    then = to(m, a, state, new)
    while state != ROOT and then < 0:
        state = field(m, a, state, LINK)
        length = field(m, a, state, LENGTH)
        then = to(m, a, state, new)
    if then < 0:
        return ROOT, 0
    length = min(length + 1, int(m[a + REACH]))
    return _settled(m, a, then, length), length


@compiled
def followed(m: Any, a: int, state: int, length: int) -> tuple[int, int]:
    """``SuffixAutomaton.followed``."""
    state = _settled(m, a, state, length)
    while state != ROOT and field(m, a, state, BEST) == NONE:
        state = field(m, a, state, LINK)
        length = field(m, a, state, LENGTH)
    return state, length


@compiled
def end(m: Any, a: int) -> tuple[int, int]:
    """``SuffixAutomaton.end``."""
    return followed(m, a, int(m[a + END]), min(int(m[a + SIZE]), int(m[a + REACH])))


@compiled
def step(m: Any, a: int, state: int, length: int) -> tuple[int, int, int, float]:
    """``SuffixAutomaton.step``: the token, the class and length of the run with it, its share."""
    best = field(m, a, state, BEST)
    then = to(m, a, state, best)
    total = int(m[a + COUNT])
    if state:
        total = field(m, a, state, SEEN) - int(field(m, a, state, LATEST) == total)
    length = min(length + 1, int(m[a + REACH]))
    return best, _settled(m, a, then, length), length, field(m, a, then, SEEN) / total


@compiled
def last(m: Any, a: int, state: int) -> int:
    """``SuffixAutomaton.last``."""
    at = field(m, a, state, LATEST)
    return at if at < int(m[a + COUNT]) else field(m, a, state, BEFORE)
