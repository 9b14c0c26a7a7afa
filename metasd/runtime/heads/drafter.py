"""A head as a drafter: its one cache of entries, caught up from the target's kept states, drafting on its own.

Entries 0..N-2 of a text of N tokens are true: made of tokens 1..N-1 and the target's states at 0..N-2, which exist as
soon as the text is committed. The last of them says what follows, so a draft of m tokens takes m - 1 passes; what
these append is dropped when the draft is made (cache rule COMMITTED).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metasd.core import noise
from metasd.core.cache_rule import behind
from metasd.core.errors import TooLongError
from metasd.core.pool import DrafterInfo
from metasd.core.records import Ints
from metasd.drafters.base import Draft, Drafter, Look
from metasd.runtime.engine.features import Features
from metasd.runtime.heads.everywhere import WIDEST, Everywhere
from metasd.runtime.heads.module import Head
from metasd.runtime.sampling import Sampling, pick

STRIDE = 1 << 16
"""Noise counters between two starts: more than any draft is long."""


class HeadDrafter(Drafter):
    """A head beside the target whose states it ``watch``es; see ``models.ModelDrafter`` for what is alike.

    A text of one token has no entry yet, so the head proposes nothing there.
    """

    def __init__(
        self,
        info: DrafterInfo,
        head: Head,
        *,
        sampling: Sampling | None = None,
        seed: int = 0,
        notes: Sequence[str] = (),
    ) -> None:
        self.info, self.head = info, head
        self.sampling = sampling or Sampling()
        self._seed, self._notes, self._seconds = seed, list(notes), 0.0
        self._features: Features | None = None
        self.begin(())

    @property
    def notes(self) -> list[str]:
        return self._notes

    @property
    def seconds(self) -> float:
        return self._seconds

    @property
    def lag(self) -> int:
        return int(behind(self._length, self._cache.length))

    def watch(self, features: Features) -> None:
        self._features = features

    def check_fits(self, prompt_id: str, prompt: int, budget: int) -> None:
        limit = self.head.config.max_positions
        if self.head.config.rope["rope_type"] == "dynamic" and prompt + budget > limit:
            raise TooLongError(
                f"prompt {prompt_id!r} with its budget has {prompt + budget} tokens, but the rotary factors of head "
                f"{self.info.name!r} change at {limit}; shorten it or leave that drafter out"
            )

    def begin(self, prompt: Sequence[int], key: np.uint64 | None = None) -> None:
        self._cache = self.head.cache()
        self._text = np.zeros(len(prompt) + 1024, np.int64)
        self._length = 0
        self._last: tuple[Tensor, Tensor] | None = None  # logits [1, Vd] and feature [1, H] of the last true entry
        self.extend(prompt)
        self._key = np.array([noise.key(self._seed, self.info.name, *prompt) if key is None else key])

    def extend(self, tokens: Sequence[int]) -> None:
        end = self._length + len(tokens)
        if end > len(self._text):
            self._text = np.concatenate([self._text, np.zeros(end, np.int64)])
        self._text[self._length : end] = tokens
        self._length = end

    def look(self) -> Look:
        return Look(available=self._length > 1)

    @torch.inference_mode()
    def draft(self, length: int) -> Draft:
        """Exactly ``length`` >= 1 tokens of a text of two tokens or more; ``confidence`` as ``ModelDrafter``'s."""
        start = time.perf_counter()
        caught = self.lag
        self._catch_up()
        self._wait()
        caught_up = time.perf_counter() - start
        logits, drafted, q = self._chain(length)
        shown = q if q is not None else self.sampling.probs(logits)
        of_q = shown.gather(1, drafted[:, None])[:, 0]
        values = torch.cat([drafted.double(), of_q.double()]).tolist()
        self._wait()
        self._seconds += time.perf_counter() - start
        tokens = [int(v) for v in values[:length]]
        return Draft(tokens, values[length:], q, logits, caught, caught_up if caught else 0.0)

    @torch.inference_mode()
    def judged(self, count: int) -> Tensor:
        """As ``Drafter.judged``; a row of NaN for a token that no entry is before (the second of a text)."""
        start, last = time.perf_counter(), self._last
        first, rows = self._cache.length, self._catch_up()
        if last is not None:
            first, rows = first - 1, [last[0], *rows]
        made = torch.cat(rows)[: self._length - 2 - first]  # the last entry is about a token that is not there yet
        missing = max(count - len(made), 0)
        made = torch.cat([made.new_full((missing, made.shape[1]), torch.nan), made])[-count:]
        self._wait()
        self._seconds += time.perf_counter() - start
        wide = self.head.scattered(made)
        return wide.masked_fill(made.isnan().any(-1, keepdim=True), torch.nan)

    @torch.inference_mode()
    def everywhere(self, prompt: Sequence[int], answer: Sequence[int], length: int) -> Everywhere:
        """See ``Drafter.everywhere``."""
        assert self._features is not None, "a head drafts beside a target only"
        tokens = torch.tensor([*prompt, *answer], device=self.head.device)
        states = self._features.rows(self.info.needs, 0, max(len(tokens) - 2, 0)).to(self.head.device)
        return Everywhere(self.head, tokens, states, len(prompt), length)

    def _catch_up(self) -> list[Tensor]:
        """Read the true entries that are missing; the logits of each pass."""
        rows: list[Tensor] = []
        assert self._features is not None, "a head drafts beside a target only"
        for first in range(self._cache.length, self._length - 1, WIDEST):
            stop = min(first + WIDEST, self._length - 1)
            tokens = torch.from_numpy(self._text[first + 1 : stop + 1]).to(self.head.device)
            states = self._features.rows(self.info.needs, first, stop).to(self.head.device)
            positions = torch.arange(first, stop, device=self.head.device)
            logits, own = self.head(tokens, self.head.fuse(states), positions, self._cache)
            self._last = logits[-1:], own[-1:]
            rows.append(logits)
        return rows

    def _chain(self, length: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits [m, V], tokens [m] and, when sampling, distributions [m, V] of a draft."""
        assert self._last is not None, "a head has nothing to say of a text of one token"
        uniforms = self._uniforms(length)
        mark = self._cache.length
        row, feature = self._last
        rows, chosen, probs = [], [], []
        try:
            for i in range(length):
                wide = self.head.scattered(row)
                if uniforms is None:
                    token = self.head.tokens(row.argmax(-1))
                else:
                    probs.append(self.sampling.probs(wide))
                    token = pick(probs[-1], uniforms[i : i + 1])
                rows.append(wide)
                chosen.append(token)
                if i + 1 < length:
                    at = torch.tensor([mark + i], device=self.head.device)
                    row, feature = self.head(token, feature, at, self._cache)
        finally:
            self._cache.length = mark
        return torch.cat(rows), torch.cat(chosen), torch.cat(probs) if probs else None

    def _uniforms(self, length: int) -> Tensor | None:
        if self.sampling.greedy:
            return None
        counters = np.uint64(self._length * STRIDE) + np.arange(length, dtype=np.uint64)
        return torch.from_numpy(noise.uniform_at(self._key, counters)).to(self.head.device)

    def _wait(self) -> None:
        if self.head.device.type == "cuda":
            torch.cuda.synchronize(self.head.device)

    @property
    def text(self) -> Ints:
        """Prompt and committed tokens."""
        return self._text[: self._length]
