"""N-gram tables as kernels on a block of an arena: a shipped table, or counts that grow (``metasd.drafters.ngrams``).

An entry is a run of tokens, the token that mostly followed, and how often it did of how many times: of a shipped table
its share in steps of 1/255. Blocks are named as in ``automaton``.
"""

from __future__ import annotations

from typing import Any

from metasd.serve.fast.compile import compiled

WIDTH = 8
"""Longest run that an entry can hold."""

CAP, ENTRIES, PAIRS, MASK, TOKENS = range(5)
HEAD = 8
ORDER, TOKEN, TIMES, TOTAL = range(WIDTH, WIDTH + 4)
PER_ENTRY, PER_PAIR = WIDTH + 4, 3  # a pair: entry, token, how often


def mask(cap: int) -> int:
    """Slots of a hash table of ``cap`` entries, less one."""
    return (1 << (2 * cap).bit_length()) - 1


def size(cap: int) -> int:
    """Numbers of a block of ``cap`` entries, and as many pairs."""
    return HEAD + (PER_ENTRY + PER_PAIR) * cap + 2 * (mask(cap) + 1)


@compiled
def begin(m: Any, b: int, cap: int, slots: int) -> None:
    """An empty table; ``slots``: its ``mask``."""
    m[b : b + HEAD] = 0
    m[b + CAP], m[b + MASK] = cap, slots
    first = b + HEAD + (PER_ENTRY + PER_PAIR) * cap
    m[first : first + 2 * (slots + 1)] = -1


@compiled
def longer(run: int, token: int) -> int:
    """The hash of a run that ``token`` stands in front of, from that of the run."""
    return (run * 1000003 + token + 3) & 0x7FFFFFFF


@compiled
def slot_of(m: Any, b: int, run: int, at: int, order: int) -> int:
    """Where the entry of the ``order`` tokens that end before ``at``, of hash ``run``, is or would be."""
    cap, slots = int(m[b + CAP]), int(m[b + MASK])
    first = b + HEAD + (PER_ENTRY + PER_PAIR) * cap
    slot = (run ^ (run >> 13)) & slots
    while True:
        entry = int(m[first + slot])
        if entry < 0:
            return first + slot
        e = b + HEAD + PER_ENTRY * entry
        if m[e + ORDER] == order:
            i = 0
            while i < order and m[e + i] == m[at - order + i]:
                i += 1
            if i == order:
                return first + slot
        slot = (slot + 1) & slots


@compiled
def put(m: Any, b: int, slot: int, at: int, order: int) -> int:
    """A new entry at ``slot``; its fields are for the caller to fill."""
    entry = int(m[b + ENTRIES])
    m[b + ENTRIES], m[slot] = entry + 1, entry
    e = b + HEAD + PER_ENTRY * entry
    for i in range(order):
        m[e + i] = m[at - order + i]
    m[e + ORDER] = order
    return e


@compiled
def fill(m: Any, b: int, source: int, count: int) -> None:
    """Enter ``count`` entries, as they stand one after the other at ``source``."""
    for n in range(count):
        s = source + PER_ENTRY * n
        order, run = int(m[s + ORDER]), 17
        for i in range(order - 1, -1, -1):
            run = longer(run, int(m[s + i]))
        e = put(m, b, slot_of(m, b, run, s + order, order), s + order, order)
        m[e + TOKEN], m[e + TIMES], m[e + TOTAL] = m[s + TOKEN], m[s + TIMES], m[s + TOTAL]


@compiled
def move(m: Any, old: int, new: int) -> None:
    """Take all entries and pairs of another block over, in their order; both have the same number of tokens then."""
    fill(m, new, old + HEAD, int(m[old + ENTRIES]))
    pairs = old + HEAD + PER_ENTRY * int(m[old + CAP])
    for n in range(int(m[old + PAIRS])):
        p = pairs + PER_PAIR * n
        _more(m, new, int(m[p]), int(m[p + 1]), int(m[p + 2]))
    m[new + TOKENS] = m[old + TOKENS]


@compiled
def _more(m: Any, b: int, entry: int, token: int, times: int) -> int:
    """``token`` followed an entry ``times`` more; how often it has now."""
    cap, slots = int(m[b + CAP]), int(m[b + MASK])
    pairs = b + HEAD + PER_ENTRY * cap
    first = pairs + PER_PAIR * cap + slots + 1
    slot = ((entry * 0x9E3779B1 + token * 0x85EBCA6B) >> 7) & slots
    while True:
        pair = int(m[first + slot])
        p = pairs + PER_PAIR * pair
        if pair < 0:
            pair = int(m[b + PAIRS])
            m[b + PAIRS], m[first + slot] = pair + 1, pair
            p = pairs + PER_PAIR * pair
            m[p], m[p + 1], m[p + 2] = entry, token, times
            return times
        if m[p] == entry and m[p + 1] == token:
            m[p + 2] += times
            return int(m[p + 2])
        slot = (slot + 1) & slots


@compiled
def count(m: Any, b: int, first: int, start: int, stop: int, most: int) -> None:
    """``NgramCounts.add``: what stands from ``start`` to ``stop``, behind up to ``most`` tokens from ``first`` on."""
    for here in range(start, stop):
        token, run = int(m[here]), 17
        for order in range(1, min(most, here - first) + 1):
            run = longer(run, int(m[here - order]))
            slot = slot_of(m, b, run, here, order)
            entry = int(m[slot])
            if entry < 0:
                entry = int(m[b + ENTRIES])
                e = put(m, b, slot, here, order)
                m[e + TOKEN], m[e + TIMES], m[e + TOTAL] = token, 0, 0
            e = b + HEAD + PER_ENTRY * entry
            times = _more(m, b, entry, token, 1)
            m[e + TOTAL] += 1
            if m[e + TOKEN] == token or times > m[e + TIMES]:
                m[e + TOKEN], m[e + TIMES] = token, times
    m[b + TOKENS] += max(stop - start, 0)
