"""A text in a block of an arena: its tokens, where every short run of them occurred, and how drafters fared on it.

The twin of ``metasd.drafters.index`` and of ``metasd.drafters.text.Score``. ``m`` is the arena's whole numbers, ``t``
where the text's block begins; sections are named by where they begin in the block.
"""

from __future__ import annotations

from typing import Any

from metasd.serve.fast import automaton, tables
from metasd.serve.fast.compile import compiled

MATCH_CAP, RECENT = 64, 24  # as in metasd.drafters.index

(CAP, LENGTH, PROMPT, LEAST, MOST, RUNS, LOST, RING, DRAFTERS, LONGEST, SEEN, LOOKED) = range(12)
PLACES = 12  # four numbers: class and length of the text's end in the younger and the older half of the outputs
(TOKENS, BEFORE, OCCURRED, FAILED, DRAFTS, KEYS, OWN) = range(16, 23)
SCORES = 23  # in the floats: of each drafter its run and two averages, then of each position in the ring the signals
HEAD = 24


def layout(cap: int, drafters: int, longest: int, ring: int, least: int, most: int) -> tuple[list[int], int]:
    """The head of a block, and its size. ``least`` > ``most``: no runs are looked up."""
    orders = max(most - least + 1, 0)
    runs, lost = 1 << (2 * cap).bit_length(), 1 << (2 * drafters * cap).bit_length()
    head = [0] * HEAD
    head[CAP], head[LEAST], head[MOST], head[RUNS], head[LOST] = cap, least, most, runs - 1, lost - 1
    head[RING], head[DRAFTERS], head[LONGEST] = ring, drafters, longest
    at = HEAD
    for name, size in (
        (TOKENS, cap + longest + 1),
        (BEFORE, orders * cap),
        (OCCURRED, orders * runs * 2),
        (FAILED, lost * 4),
        (DRAFTS, ring * drafters * (longest + 3)),
        (KEYS, drafters * 2),
        (OWN, automaton.size(cap)),
    ):
        head[name] = at
        at += size
    return head, at


@compiled
def wipe(m: Any, t: int) -> None:
    """Empty what the head, written by the caller, tells of; the automaton is not touched."""
    m[t + int(m[t + OCCURRED]) : t + int(m[t + OWN])] = -1
    drafts = t + int(m[t + DRAFTS])
    m[drafts : t + int(m[t + KEYS])] = 0


@compiled
def _slot(m: Any, t: int, run: int, at: int, order: int) -> int:
    """Where the run's occurrences, the ``order`` tokens that end before ``at``, are noted or would be."""
    mask, tokens = int(m[t + RUNS]), t + int(m[t + TOKENS])
    first = t + int(m[t + OCCURRED]) + 2 * (order - int(m[t + LEAST])) * (mask + 1)
    slot = (run ^ (run >> 13)) & mask
    while True:
        here = int(m[first + 2 * slot])
        if here < 0:
            return first + 2 * slot
        i = 1
        while i <= order and m[tokens + here - i] == m[at - i]:
            i += 1
        if i > order:
            return first + 2 * slot
        slot = (slot + 1) & mask


@compiled
def append(m: Any, t: int, token: int) -> None:
    """``ContextIndex.append``: the token joins the text."""
    here, tokens, least = int(m[t + LENGTH]), t + int(m[t + TOKENS]), int(m[t + LEAST])
    run = 17
    for order in range(1, min(int(m[t + MOST]), here) + 1):
        run = tables.longer(run, int(m[tokens + here - order]))
        if order >= least:
            slot = _slot(m, t, run, tokens + here, order)
            before = t + int(m[t + BEFORE]) + (order - least) * int(m[t + CAP]) + here
            m[before] = m[slot]
            m[slot] = here
            if m[slot + 1] < 0:
                m[slot + 1] = here
    m[tokens + here] = token
    m[t + LENGTH] = here + 1


@compiled
def longest(m: Any, t: int, ahead: int, least: int, most: int) -> tuple[int, int, int]:
    """Of text and ``ahead`` tokens behind it: the longest end that occurred, its latest and its first occurrence.

    ``ContextIndex.longest``: where a run occurred, all its ends did, so it is looked for from the short ones on. Its
    length is 0 where none did.
    """
    at = t + int(m[t + TOKENS]) + int(m[t + LENGTH]) + ahead
    run, best, latest, first = 17, 0, -1, -1
    for order in range(1, min(most, int(m[t + LENGTH]) + ahead) + 1):
        run = tables.longer(run, int(m[at - order]))
        if order >= least:
            slot = _slot(m, t, run, at, order)
            if m[slot] < 0:
                break
            best, latest, first = order, int(m[slot]), int(m[slot + 1])
    return best, latest, first


@compiled
def before(m: Any, t: int, order: int, here: int) -> int:
    """The occurrence of the run before ``here``, -1 without one."""
    return int(m[t + int(m[t + BEFORE]) + (order - int(m[t + LEAST])) * int(m[t + CAP]) + here])


@compiled
def support(m: Any, t: int, order: int, latest: int, token: int, source: int) -> float:
    """Share of the ``RECENT`` newest occurrences, and of ``source`` if it is older, that ``token`` stands at."""
    tokens = t + int(m[t + TOKENS])
    asked, agreeing, here, oldest = 0, 0, latest, latest
    while here >= 0 and asked < RECENT:
        asked += 1
        agreeing += int(m[tokens + here] == token)
        oldest = here
        here = before(m, t, order, here)
    if source < oldest:
        asked += 1
        agreeing += int(m[tokens + source] == token)
    return agreeing / asked


@compiled
def other_than(m: Any, t: int, order: int, latest: int, source: int) -> int:
    """The most recent occurrence that is not ``source``; ``source`` when it is the only one."""
    if latest != source:
        return latest
    other = before(m, t, order, latest)
    return latest if other < 0 else other


@compiled
def backward_match(m: Any, t: int, source: int) -> int:
    """``ContextIndex.backward_match``."""
    tokens, last = t + int(m[t + TOKENS]), int(m[t + LENGTH]) - 1
    most, matched = min(MATCH_CAP, source), 0
    while matched < most and m[tokens + source - 1 - matched] == m[tokens + last - matched]:
        matched += 1
    return matched


@compiled
def failures(m: Any, t: int, drafter: int, kind: int, at: int, more: int) -> int:
    """How often a source, named by ``kind`` and ``at``, has failed its drafter, with ``more`` times added."""
    first, mask = t + int(m[t + FAILED]), int(m[t + LOST])
    slot = ((at * 0x9E3779B1 + kind * 0x85EBCA6B + drafter) >> 5) & mask
    while True:
        s = first + 4 * slot
        if m[s] < 0:
            if more:
                m[s], m[s + 1], m[s + 2], m[s + 3] = drafter, kind, at, more
            return more
        if m[s] == drafter and m[s + 1] == kind and m[s + 2] == at:
            m[s + 3] += more
            return int(m[s + 3])
        slot = (slot + 1) & mask
