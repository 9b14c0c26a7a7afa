"""One text being decoded: the target with its cache, and every drafter kept up with what is committed.

Knows models and drafters; knows nothing of budgets, ends of text or rounds (``session`` does).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.plans import Tree
from metasd.core.records import Bools, Floats, Ints
from metasd.core.reveal import LiveRevealer
from metasd.core.signals import F
from metasd.drafters.base import Draft, Drafter, Look
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import wanted
from metasd.runtime.engine.together import Row
from metasd.runtime.engine.tree import can_branch
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling
from metasd.runtime.verify import Question, TreeVerdict, TreeVerifier, Verdict, Verifier

TREE = 33
"""Tokens of the widest tree pass that is made ready before a text."""


class Lane:
    """See the module docstring.

    Args:
        revealer: gathers full information, None for bandit feedback.
        catch_all: drafters that are not free read what is committed after every round, because the revealer wants to
            know.
        plans: trees are checked; free drafters are then sources of them, kept up elsewhere, and say nothing here.
        row: of the engine that reads the texts of several lanes; None: the lane has an engine of its own.

    Attributes:
        cached: the target on this text. verifier: judges its drafts, and other lanes' beside them.
    """

    def __init__(
        self,
        target: Target,
        drafters: Sequence[Drafter],
        sampling: Sampling,
        *,
        overlap: bool,
        revealer: LiveRevealer | None,
        catch_all: bool,
        plans: bool = False,
        row: Row | None = None,
    ) -> None:
        self.drafters = list(drafters)
        self._plans = plans
        self._kept = [d for d in self.drafters if not (plans and d.info.free)]
        self.revealer, self._catch_all, self._sampling = revealer, catch_all, sampling
        self.cached = CachedModel(target.model, None if row else wanted([d.info.needs for d in drafters]), row)
        for drafter in self.drafters:
            if drafter.info.needs:
                drafter.watch(self.cached.features)
        self._processors = target.processors()
        self.verifier = Verifier(self.cached, sampling, overlap=overlap)
        self._trees = TreeVerifier(self.cached, sampling)
        self._looks: list[Look] | None = None

    @property
    def text(self) -> Ints:
        """Prompt and committed tokens."""
        return self._text[: self._length]

    @property
    def target(self) -> Any:
        """The target's model."""
        return self.cached.model

    @property
    def drafting(self) -> float:
        """Seconds spent inside drafters' passes so far."""
        return sum(d.seconds for d in self.drafters)

    def warm(self, room: int, longest: int) -> None:
        """Do what is done once for texts of ``room`` tokens and drafts of ``longest``; it is part of no text."""
        branching = self._plans and can_branch(self.target)
        self.cached.warm(room + TREE, range(1, longest + 2), range(3, TREE + 1) if branching else ())
        for drafter in self._kept:
            drafter.warm(room)

    def end(self) -> None:
        """The text is over: let go of the caches, for whoever decodes next."""
        self.cached.reset()
        for drafter in self._kept:
            drafter.rest()

    def open(self, prompt: Sequence[int], room: int, seed: int, name: str) -> None:
        """Start a text of at most ``room`` answer tokens; the target reads the prompt but for its last token.

        ``seed`` and ``name`` key all noise of the text: drafts, acceptance and the target's own tokens.
        """
        self._text = np.zeros(len(prompt) + room, np.int64)
        self._text[: len(prompt)] = prompt
        self._length = self._prompt = len(prompt)
        self._keys = np.array([noise.judge_key(seed, name), noise.key(seed, name, "target")])
        self._looks = None
        self._process = None if self._processors is None else self._processors.text(prompt, room)
        self.cached.reset()
        self.cached.read(self.text[:-1])
        self.cached.wait()

    def begin(self, seed: int, name: str) -> float:
        """Let the drafters, and the revealer, start the text that was opened; the seconds that the drafters took."""
        start = time.perf_counter()
        for drafter in self._kept:
            drafter.begin(self.text.tolist(), noise.key(seed, name, "draft", drafter.info.name))
        seconds = time.perf_counter() - start
        if self.revealer is not None:
            self.revealer.begin()
        return seconds

    def leave(self) -> None:
        """No text comes next: the engine of several lanes goes on with the others'."""
        self.cached.leave()

    # -- what can be said before a round ------------------------------------------------------------------------

    def available(self) -> Bools:
        """[D] drafters that have a proposal now."""
        return np.array([look.available for look in self._look()], bool)

    def signals(self) -> NDArray[np.float32]:
        """[D, F]."""
        return np.array([look.signals for look in self._look()], np.float32).reshape(-1, F)

    def lags(self) -> Ints:
        """[D] tokens each drafter would have to catch up."""
        return np.array([d.lag for d in self.drafters], np.int64)

    def tail(self) -> Ints:
        """[2] the last two tokens, newest last, -1 where there is none."""
        return np.concatenate([np.full(2, -1), self.text[-2:]])[-2:]

    def first_tokens(self) -> Ints:
        """[D] first token of each free drafter's proposal, -1 without one."""
        proposals = [d.draft(1).tokens if d.info.free else [] for d in self.drafters]
        return np.array([p[0] if p else -1 for p in proposals], np.int64)

    def _look(self) -> list[Look]:
        if self._looks is None:
            self._looks = [d.look() for d in self.drafters]
        return self._looks

    # -- a round ------------------------------------------------------------------------------------------------

    def draft(self, drafter: int, length: int) -> Draft:
        """At most ``length`` tokens of ``drafter``, none for length 0 or without a proposal."""
        if length < 1:
            return Draft([], [])
        look = self.drafters[drafter].look() if self._looks is None else self._looks[drafter]
        if not look.available:
            return Draft([], [])
        return self.drafters[drafter].draft(length)

    def question(self, draft: Draft) -> Question:
        """What the target is asked of ``draft``."""
        return Question(self.text, draft, self._uniforms(len(draft.tokens)), self._process)

    def verify_tree(self, tree: Tree) -> TreeVerdict:
        """The target's judgement of a tree."""
        uniforms = self._uniforms(tree.depth)
        return self._trees.verify(self.text, tree, None if uniforms is None else uniforms[1], self._process)

    def commit(self, tokens: Sequence[int], verdict: Verdict | None, *, ends: bool) -> tuple[Ints, float]:
        """Commit ``tokens``, the last of which may end the text.

        Returns [D] tokens that each drafter read for the revealer, and the seconds.
        """
        position = self._length - self._prompt
        end = self._length + len(tokens)
        self._text[self._length : end] = tokens
        self._length = end
        read = np.zeros(len(self.drafters), np.int64)
        if self.revealer is None:
            self._looks = None
            for drafter in self._kept:
                drafter.extend(tokens)
            return read, 0.0
        seen = [self._step(token, position + i) for i, token in enumerate(tokens)]
        start = time.perf_counter()
        for d, drafter in enumerate(self.drafters):
            if drafter.info.free:
                continue
            drafter.extend(tokens)
            if self._catch_all:
                lag = drafter.lag
                logits = drafter.judged(len(tokens))
                if logits is None:
                    continue
                read[d] = lag
                assert verdict is not None, "full information goes with arms"
                chances = self._chances(logits, verdict, tokens)
                for (_, _, row), chance in zip(seen, chances, strict=True):
                    row[d] = chance
        seconds = time.perf_counter() - start if self._catch_all else 0.0
        self.revealer.begin_round()
        for i, (token, (proposals, signals, row)) in enumerate(zip(tokens, seen, strict=True)):
            last = ends and i + 1 == len(tokens)
            self.revealer.commit(position + i, token, last, proposals, row, signals)
        return read, seconds

    def _step(self, token: int, position: int) -> tuple[list[list[int] | None], NDArray[np.float32], Floats]:
        """What all drafters say before ``token``, which text drafters then read: proposals, signals, chances."""
        assert self.revealer is not None
        signals = self.signals()
        chances = np.full(len(self.drafters), np.nan)
        proposals: list[list[int] | None] = []
        for d, drafter in enumerate(self.drafters):
            if not drafter.info.free:
                proposals.append(None)
                continue
            offered = drafter.draft(max(int(self.revealer.longest[d]), 1)).tokens
            proposals.append(offered)
            if offered:
                chances[d] = offered[0] == token
            drafter.extend([token])
        self._looks = None
        return proposals, signals, chances

    def _chances(self, logits: torch.Tensor, verdict: Verdict, tokens: Sequence[int]) -> list[float]:
        """Chance that a model drafter's token is accepted, given each committed one: min(1, q/p), or a match."""
        told = torch.tensor(list(tokens), device=logits.device)
        if self._sampling.greedy:
            unknown = logits.isnan().any(-1)
            same = (logits.argmax(-1) == told).double().masked_fill(unknown, torch.nan)
            return [float(v) for v in same.tolist()]
        q, p = self._sampling.probs(logits), self._sampling.probs(verdict.logits[: len(tokens)])
        ratio = q.gather(1, told[:, None])[:, 0] / p.gather(1, told[:, None])[:, 0]
        return [float(v) for v in ratio.clamp(max=1).tolist()]

    def _uniforms(self, drafted: int) -> NDArray[np.float64] | None:
        """[2, drafted + 1] for the verifier: one a text position, so every position has its own luck."""
        if self._sampling.greedy:
            return None
        position = self._length - self._prompt
        return noise.uniform_at(self._keys[:, None], position + np.arange(drafted + 1))
