"""A scheduler in small, as vLLM's hook shows one: rows that move, requests that arrive, stop, and are preempted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

VOCABULARY = 7


def next_token(text: list[int]) -> int:
    """The target: a function of the last tokens that often repeats itself."""
    return (3 * text[-1] + text[-2] + (len(text) % 11 == 0)) % VOCABULARY


@dataclass(eq=False)
class Served:
    """A request as the engine has it."""

    prompt: list[int]
    budget: int
    text: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    read: bool = False  # the prompt, or what a preempted one has to read again, is in the cache
    counted: bool = False  # whether the draft is the drafter's, not the engine's own

    def __post_init__(self) -> None:
        self.text = list(self.prompt)


class Engine:
    """Serves with ``propose`` and counts as vLLM's scheduler does.

    Where all but one token of a text is in the prefix cache, ``most`` placeholders are checked behind it; near the
    longest text nobody is asked, and zeros are checked.
    """

    def __init__(self, propose, *, rows: int, seed: int, max_length: int = 200, most: int = 4) -> None:
        self.propose, self.rows, self.random = propose, rows, random.Random(seed)
        self.max_length, self.most = max_length, most
        self.padded = self.zeros = self.unasked = 0
        self.preempted = False  # in this step: nobody is let in, as in vLLM
        self.waiting: list[Served] = []
        self.running: list[Served] = []
        self.done: list[Served] = []
        self.arrays = np.zeros((rows, max_length), np.int32)
        self.drafts = self.drafted = self.accepted = self.emitted = 0

    def step(self) -> None:
        while not self.preempted and self.waiting and len(self.running) < self.rows:
            self.running.append(self.waiting.pop(0))
        self.preempted = False
        fits = max((len(r.text) + len(r.draft) for r in self.running), default=0) + self.most <= self.max_length
        lengths = np.zeros(self.rows, np.int32)
        sampled = [self._pass(row, r) for row, r in enumerate(self.running)]
        for row, request in enumerate(self.running):
            lengths[row] = len(request.text)
            self.arrays[row, : len(request.text)] = request.text
        if not self.running:
            return
        if fits:
            drafts = self.propose([list(s) for s in sampled], lengths, self.arrays)
        else:
            self.unasked += 1
            drafts = [[0] * min(self.most, self.max_length - len(r.text) - 1) if r.read else [] for r in self.running]
        assert len(drafts) == len(sampled)
        for request, draft, tokens in zip(self.running, drafts, sampled, strict=True):
            assert not (draft and not tokens)
            request.draft, request.counted = list(draft), fits
        for request in [r for r in self.running if self._over(r)]:
            self._leave(request)
            self.done.append(request)

    def _over(self, request: Served) -> bool:
        return len(request.text) - len(request.prompt) >= request.budget or len(request.text) >= self.max_length

    def _pass(self, row: int, request: Served) -> list[int]:
        padded = False
        if not request.read:
            chance = self.random.random()
            request.read = chance < 0.7  # else only a chunk of it
            request.draft = []
            if not request.read:
                return []
            padded = chance < 0.3 and len(request.text) + 1 + self.most < self.max_length
        tokens = [next_token(request.text)]
        checked = [-1] * self.most if padded else request.draft
        self.arrays[row, len(request.text) : len(request.text) + len(checked)] = checked
        for token in checked:
            if token != tokens[-1]:
                break
            tokens.append(next_token(request.text + tokens))
        self.padded += padded
        if request.draft and not request.counted:
            self.zeros += 1
        elif request.draft:
            self.drafts += 1
            self.drafted += len(request.draft)
            self.accepted += len(tokens) - 1
        self.emitted += len(tokens)
        request.text += tokens
        return tokens

    def _leave(self, request: Served) -> None:
        """As vLLM condenses its batch: the last row moves into the gap."""
        at = self.running.index(request)
        last = self.running.pop()
        if last is not request:
            self.running[at] = last

    def abort(self) -> None:
        if self.running:
            self._leave(self.random.choice(self.running))

    def preempt(self) -> None:
        """One makes room for another, so it is never the only one."""
        if len(self.running) > 1:
            self.preempted = True
            request = self.random.choice(self.running)
            self._leave(request)
            request.read, request.draft = False, []
            self.waiting.insert(self.random.randrange(len(self.waiting) + 1), request)

    def shuffle(self) -> None:
        self.random.shuffle(self.running)
