"""What every drafter proposes behind a text, and the signals it shows: lookup, table and suffix as kernels.

Each is the twin of a class of ``metasd.drafters``; ``tests/serve/test_fast.py`` holds them to it. A drafter's settings
are a row of whole numbers, named here; what it says goes to the ring of the text's positions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from metasd.serve.fast import automaton, grams, tables
from metasd.serve.fast.compile import compiled

LOOKUP, TABLE, SUFFIX = range(3)
(KIND, LENGTH, LEAST, MOST, EARLIEST, BLOCK, ORDER) = range(7)
"""Of a drafter's settings: its kind, draft length, shortest and longest match, and of a table its block and order."""

(VERSION, YOUNG, OLD, YOUNG_NUMBER, OLD_NUMBER) = range(5)
"""Of the earlier outputs: how often they changed, the blocks of their halves, and the halves' numbers."""

OFFERED, ACCEPTED, STATE, FIRST = range(4)
"""Of a drafter in the ring: tokens proposed, accepted so far, what became of it, and the first of its tokens."""

F = 11  # as metasd.core.signals has them
END = -1
IN_TEXT, IN_TABLE, IN_OUTPUTS = range(3)  # kinds of sources; half number n of the outputs is IN_OUTPUTS + n
NAN = float("nan")


@compiled
def row_of(m: Any, t: int, position: int, drafter: int) -> int:
    """Where the ring has the drafter's proposal at a position of the answer."""
    ring, drafters = int(m[t + grams.RING]), int(m[t + grams.DRAFTERS])
    at = (position & (ring - 1)) * drafters + drafter
    return t + int(m[t + grams.DRAFTS]) + at * (int(m[t + grams.LONGEST]) + FIRST)


@compiled
def signals_of(m: Any, t: int, position: int) -> int:
    """Where, from the text's floats on, the signals [D, F] of a position begin."""
    ring, drafters = int(m[t + grams.RING]), int(m[t + grams.DRAFTERS])
    return 3 * drafters + (position & (ring - 1)) * drafters * F


@compiled
def _shown(f: Any, q: int, match: int, length: int, share: float, latest: float, depth: float) -> None:
    f[q], f[q + 1], f[q + 2], f[q + 3], f[q + 4] = match, length, share, latest, depth


@compiled
def _alike(m: Any, row: int, count: int, text: int, end: int) -> int:
    """How many of ``count`` tokens of a proposal stand one after the other at ``text``, before ``end``."""
    depth = 0
    while depth < count and text + depth < end and m[row + FIRST + depth] == m[text + depth]:
        depth += 1
    return depth


@compiled
def _source(m: Any, f: Any, q: int, key: int, kind: int, at: int, in_prompt: bool) -> None:
    m[key], m[key + 1] = kind, at
    f[q + 5], f[q + 6] = 1.0 if in_prompt else 0.0, 1.0 if kind != IN_TEXT else 0.0


@compiled
def _lookup(m: Any, f: Any, t: int, s: Any, row: int, key: int, q: int) -> int:
    order, latest, first = grams.longest(m, t, 0, int(s[LEAST]), int(s[MOST]))
    if order == 0:
        return 0
    source = first if s[EARLIEST] else latest
    tokens, length = t + int(m[t + grams.TOKENS]), int(m[t + grams.LENGTH])
    count = min(int(s[LENGTH]), length - source)
    for i in range(count):
        m[row + FIRST + i] = m[tokens + source + i]
    token, other = int(m[tokens + source]), grams.other_than(m, t, order, latest, source)
    share = grams.support(m, t, order, latest, token, source)
    depth = _alike(m, row, count, tokens + other, tokens + length)
    _shown(f, q, grams.backward_match(m, t, source), count, share, 1.0 if m[tokens + other] == token else 0.0, depth)
    _source(m, f, q, key, IN_TEXT, source, source < m[t + grams.PROMPT])
    return count


@compiled
def _next(m: Any, t: int, s: Any, ahead: int) -> tuple[int, float, int, int, int]:
    """``TableDrafter._next``: token, share, order (0: nothing), and its latest occurrence or else the entry."""
    most, block = int(s[ORDER]), int(s[BLOCK])
    at = t + int(m[t + grams.TOKENS]) + int(m[t + grams.LENGTH]) + ahead
    known, latest, _ = grams.longest(m, t, ahead, 1, most)
    run, entry, found = 17, -1, 0
    for order in range(1, min(most, int(m[t + grams.LENGTH]) + ahead) + 1):
        run = tables.longer(run, int(m[at - order]))
        if order > known:
            there = int(m[tables.slot_of(m, block, run, at, order)])
            if there >= 0:
                entry, found = there, order
    if entry >= 0:
        e = block + tables.HEAD + tables.PER_ENTRY * entry
        return int(m[e + tables.TOKEN]), m[e + tables.TIMES] / m[e + tables.TOTAL], found, -1, entry
    if known == 0:
        return 0, 0.0, 0, -1, -1
    token = int(m[t + int(m[t + grams.TOKENS]) + latest])
    return token, grams.support(m, t, known, latest, token, latest), known, latest, -1


@compiled
def _table(m: Any, f: Any, t: int, s: Any, row: int, key: int, q: int) -> int:
    first, share, order, source, entry = _next(m, t, s, 0)
    if order == 0:
        return 0
    tokens, length = t + int(m[t + grams.TOKENS]), int(m[t + grams.LENGTH])
    count, token, known = 0, first, order
    while known and count < s[LENGTH]:
        m[tokens + length + count] = token  # a draft token stands behind the text while the next is looked for
        m[row + FIRST + count] = token
        count += 1
        if count < s[LENGTH]:
            token, _, known, _, _ = _next(m, t, s, count)
    if source < 0:
        _shown(f, q, order, count, share, NAN, NAN)
        _source(m, f, q, key, IN_TABLE, entry, False)
        return count
    other = grams.other_than(m, t, order, source, source)
    depth = _alike(m, row, count, tokens + other, tokens + length)
    _shown(f, q, grams.backward_match(m, t, source), count, share, 1.0 if m[tokens + other] == first else 0.0, depth)
    _source(m, f, q, key, IN_TEXT, source, source < m[t + grams.PROMPT])
    return count


@compiled
def _places(m: Any, t: int, o: Any) -> None:
    """Find the text's end in the halves of the outputs, where they have changed."""
    if m[t + grams.SEEN] == o[VERSION]:
        return
    own, length = t + int(m[t + grams.OWN]), int(m[t + grams.LENGTH])
    for h in range(2):
        half, state, long = int(o[YOUNG + h]), automaton.ROOT, 0
        for i in range(max(length - int(m[own + automaton.REACH]), 0), length):
            state, long = automaton.follow(m, half, state, long, int(m[t + int(m[t + grams.TOKENS]) + i]))
        m[t + grams.PLACES + 2 * h], m[t + grams.PLACES + 2 * h + 1] = state, long
    m[t + grams.SEEN] = o[VERSION]


@compiled
def _suffix(m: Any, f: Any, t: int, s: Any, row: int, key: int, q: int, o: Any) -> int:
    _places(m, t, o)
    a, kind = t + int(m[t + grams.OWN]), IN_TEXT
    state, match = automaton.end(m, a)
    for h in range(2):
        if m[t + grams.PLACES + 2 * h + 1] > match:
            a, kind = int(o[YOUNG + h]), IN_OUTPUTS + int(o[YOUNG_NUMBER + h])
            state, match = int(m[t + grams.PLACES + 2 * h]), int(m[t + grams.PLACES + 2 * h + 1])
    if match < s[LEAST]:
        return 0
    first, then, long, share = automaton.step(m, a, state, match)
    if first == END:
        return 0
    source = automaton.field(m, a, then, automaton.LATEST) - 1
    count, token = 0, first
    while token != END and count < s[LENGTH]:
        m[row + FIRST + count] = token
        count += 1
        place, reached = automaton.followed(m, a, then, long)
        if reached < s[LEAST]:
            break
        token, then, long, _ = automaton.step(m, a, place, reached)
    begin, last = automaton.text(m, a), automaton.last(m, a, state)
    depth = _alike(m, row, count, begin + last, begin + int(m[a + automaton.COUNT]))
    _shown(f, q, match, count, share, 1.0 if m[begin + last] == first else 0.0, depth)
    _source(m, f, q, key, kind, source, kind == IN_TEXT and source < m[t + grams.PROMPT])
    return count


@compiled
def _half(x: float) -> float:
    """``core.signals.rounded``: what float32, and then float16, hold of it."""
    x = float(np.float32(x))
    if x == 0 or math.isnan(x):
        return x
    exponent = max(math.frexp(x)[1] - 11, -24)
    kept = float(np.rint(math.ldexp(x, -exponent))) * math.ldexp(1.0, exponent)
    return kept if abs(kept) <= 65504 else math.copysign(math.inf, x)


@compiled
def look(m: Any, f: Any, t: int, b: int, drafters: Any, o: Any) -> None:
    """Settle what everybody proposes and shows here, once. ``b``: where the text's floats begin."""
    if m[t + grams.LOOKED] == m[t + grams.LENGTH]:
        return
    m[t + grams.LOOKED] = m[t + grams.LENGTH]
    position = int(m[t + grams.LENGTH]) - int(m[t + grams.PROMPT])
    for d in range(len(drafters)):
        s, row, key = drafters[d], row_of(m, t, position, d), t + int(m[t + grams.KEYS]) + 2 * d
        q = b + signals_of(m, t, position) + F * d
        if s[KIND] == LOOKUP:
            count = _lookup(m, f, t, s, row, key, q)
        elif s[KIND] == TABLE:
            count = _table(m, f, t, s, row, key, q)
        else:
            count = _suffix(m, f, t, s, row, key, q, o)
        if count == 0:
            _shown(f, q, 0, 0, NAN, NAN, NAN)
            f[q + 5 : q + 8] = NAN
        else:
            f[q + 7] = grams.failures(m, t, d, int(m[key]), int(m[key + 1]), 0)
        f[q + 8], f[q + 9], f[q + 10] = f[b + 3 * d], f[b + 3 * d + 1], f[b + 3 * d + 2]
        for i in range(F):
            f[q + i] = _half(f[q + i])
        m[row + OFFERED], m[row + ACCEPTED], m[row + STATE] = count, 0, 0
