"""Tokens join texts, whole batches at a time: everybody is scored, proposals are judged, the text goes on. Kernels.

The twin of ``metasd.serve.text.Text.commit`` and of ``metasd.core.reveal.LiveRevealer``.
"""

from __future__ import annotations

from typing import Any

from metasd.serve.fast import automaton, grams, look, tables
from metasd.serve.fast.compile import compiled

FAST, SLOW = 0.2, 0.05  # as in metasd.drafters.text
OPEN, RESOLVED, OVER = 1, 2, 3  # what became of a proposal: not known, known since this round, told


@compiled
def begin(m: Any, f: Any, t: int, b: int, old: int, suffix: int, slots: int) -> None:
    """A text whose head and tokens are written, from its prompt on; or one that goes on from a smaller block ``old``.

    Args:
        suffix: longest end that a suffix drafter looks for, 0 without one. slots: of its automaton.
    """
    count, own = int(m[t + grams.LENGTH]), t + int(m[t + grams.OWN])
    if suffix:
        automaton.begin(m, own, int(m[t + grams.CAP]), suffix, slots - 1)
    grams.wipe(m, t)
    m[t + grams.LENGTH] = 0
    for i in range(count):
        token = int(m[t + int(m[t + grams.TOKENS]) + i])
        grams.append(m, t, token)
        if suffix:
            automaton.append(m, own, token)
    if old < 0:
        m[t + grams.SEEN], m[t + grams.LOOKED] = -1, -1
        for d in range(int(m[t + grams.DRAFTERS])):
            f[b + 3 * d], f[b + 3 * d + 1], f[b + 3 * d + 2] = 0.0, 0.5, 0.5
        return
    for name in (grams.DRAFTS, grams.KEYS):
        size = int(m[t + name + 1]) - int(m[t + name])
        there, here = old + int(m[old + name]), t + int(m[t + name])
        m[here : here + size] = m[there : there + size]
    first = old + int(m[old + grams.FAILED])
    for s in range(first, first + 4 * (int(m[old + grams.LOST]) + 1), 4):
        if m[s] >= 0:
            grams.failures(m, t, int(m[s]), int(m[s + 1]), int(m[s + 2]), int(m[s + 3]))


@compiled
def _score(m: Any, f: Any, t: int, b: int, d: int, row: int, token: int) -> float:
    """``TextDrafterBase.score``."""
    s = b + 3 * d
    if m[row + look.OFFERED] == 0:
        f[s] = 0.0
        return look.NAN
    hit = 1.0 if m[row + look.FIRST] == token else 0.0
    f[s + 1] += FAST * (hit - f[s + 1])
    f[s + 2] += SLOW * (hit - f[s + 2])
    if hit > 0:
        f[s] += 1.0
    else:
        f[s] = 0.0
        key = t + int(m[t + grams.KEYS]) + 2 * d
        grams.failures(m, t, d, int(m[key]), int(m[key + 1]), 1)
    return hit


@compiled
def _judge(m: Any, t: int, position: int, token: int) -> None:
    """``Proposal.judge`` for all that are open: a draft that stood is resolved by the token behind it."""
    longest, drafters = int(m[t + grams.LONGEST]), int(m[t + grams.DRAFTERS])
    for start in range(max(position - longest, 0), position + 1):
        for d in range(drafters):
            row = look.row_of(m, t, start, d)
            if m[row + look.STATE] != OPEN:
                continue
            accepted = int(m[row + look.ACCEPTED])
            if accepted < m[row + look.OFFERED] and m[row + look.FIRST + accepted] == token:
                m[row + look.ACCEPTED] = accepted + 1
            else:
                m[row + look.STATE] = RESOLVED


@compiled
def _tell(m: Any, f: Any, t: int, b: int, lane: int, begin: int, cut: bool, rows: Any, shown: Any, n: int) -> int:
    """Rows of what has been resolved since ``begin``, and with ``cut`` of what is open, from row ``n`` on."""
    drafters = int(m[t + grams.DRAFTERS])
    stop = int(m[t + grams.LENGTH]) - int(m[t + grams.PROMPT])
    for start in range(max(begin - int(m[t + grams.LONGEST]), 0), stop):
        q = b + look.signals_of(m, t, start)
        for d in range(drafters):
            row = look.row_of(m, t, start, d)
            state = int(m[row + look.STATE])
            if state == RESOLVED or (cut and state == OPEN):
                rows[n, 0], rows[n, 1], rows[n, 2] = lane, start, d
                rows[n, 3], rows[n, 4] = m[row + look.OFFERED], m[row + look.ACCEPTED]
                rows[n, 5] = state == OPEN
                for i in range(drafters * look.F):
                    shown[n, i] = f[q + i]
                n += 1
            if state == RESOLVED:
                m[row + look.STATE] = OVER
    return n


@compiled
def commit(
    m: Any, f: Any, texts: Any, tokens: Any, drafters: Any, o: Any, watch: int, suffix: bool, told: Any, rows: Any,
    shown: Any,
) -> int:  # fmt: skip
    """Texts take in what they grew by; a text is looked at between its tokens, not behind the last one.

    Args:
        texts: [n, 5] by text its block, its floats, its lane, where its tokens begin and end in ``tokens``.
        watch: 0: nobody asks what became of proposals; 1: of those resolved; 2: of open ones too.
        told: [m, D] how each drafter's first token fared against each token.
        rows, shown: [r, 6] and [r, D F] what is told of proposals; room for all.

    Returns how many rows there are.
    """
    n = 0
    for i in range(len(texts)):
        t, b, own = int(texts[i, 0]), int(texts[i, 1]), int(texts[i, 0]) + int(m[int(texts[i, 0]) + grams.OWN])
        begin = int(m[t + grams.LENGTH]) - int(m[t + grams.PROMPT])
        for j in range(int(texts[i, 3]), int(texts[i, 4])):
            token, position = int(tokens[j]), int(m[t + grams.LENGTH]) - int(m[t + grams.PROMPT])
            look.look(m, f, t, b, drafters, o)
            for d in range(len(drafters)):
                row = look.row_of(m, t, position, d)
                told[j, d] = _score(m, f, t, b, d, row, token)
                m[row + look.STATE] = OPEN if watch and m[row + look.OFFERED] else 0
            if watch:
                _judge(m, t, position, token)
            grams.append(m, t, token)
            if suffix:
                automaton.append(m, own, token)
                for h in range(2 if m[t + grams.SEEN] == o[look.VERSION] else 0):
                    place = t + grams.PLACES + 2 * h
                    m[place], m[place + 1] = automaton.follow(
                        m, int(o[look.YOUNG + h]), int(m[place]), int(m[place + 1]), token
                    )
        if watch:
            n = _tell(m, f, t, b, int(texts[i, 2]), begin, watch == 2, rows, shown, n)
    return n


@compiled
def peek(m: Any, f: Any, texts: Any, drafters: Any, o: Any, offers: Any, shown: Any) -> None:
    """Look at texts [n, 5] as they stand: [n, D, 2] tokens offered and the first of them, [n, D F] signals."""
    for i in range(len(texts)):
        t, b = int(texts[i, 0]), int(texts[i, 1])
        look.look(m, f, t, b, drafters, o)
        position = int(m[t + grams.LENGTH]) - int(m[t + grams.PROMPT])
        for d in range(len(drafters)):
            row = look.row_of(m, t, position, d)
            offers[i, d, 0] = m[row + look.OFFERED]
            offers[i, d, 1] = m[row + look.FIRST] if m[row + look.OFFERED] else -1
        q = b + look.signals_of(m, t, position)
        for k in range(len(drafters) * look.F):
            shown[i, k] = f[q + k]


@compiled
def learn(m: Any, t: int, grown: int, order: int, room: int, half: int, most: int) -> None:
    """A text is over: its answer joins the table that grows, and the younger half of the outputs (-1: there is none).

    Args:
        room: tokens that the table still takes. most: tokens of the answer that the outputs take.
    """
    tokens, prompt = t + int(m[t + grams.TOKENS]), int(m[t + grams.PROMPT])
    stop = int(m[t + grams.LENGTH])
    if grown >= 0:
        first = max(prompt - order, 0)
        tables.count(m, grown, tokens + first, tokens + prompt, tokens + min(stop, prompt + room), order)
    if half >= 0 and stop > prompt:
        for i in range(prompt, min(stop, prompt + most)):
            automaton.append(m, half, int(m[tokens + i]))
        automaton.append(m, half, look.END)
