"""A head's drafts behind every start of a text at once: the diagonal form of drafting.

Where a draft goes on, an entry sees the true entries up to its start and of the draft's own entries those of that
start alone. So pass j holds the j-th own entry of every start, and its mask is the causal one beside j diagonals
(training-time test of Li et al. 2025, EAGLE-3, arXiv 2503.01840). m tokens at T starts take m - 1 passes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metasd.runtime.heads.module import Head, HeadCache

WIDEST = 1024
"""Entries in one pass over a text: bounds its mask."""
STARTS = 256
"""Starts that draft together: bounds the mask of their passes."""

Choose = Callable[[Tensor, int, Tensor], Tensor]
"""(starts [n], depth, logits [n, Vd]) -> [n] tokens of the target's vocabulary."""


class Everywhere:
    """Drafts of ``length`` tokens at the starts of an answer of T tokens: start t is behind ``first`` + t tokens.

    A text of one token has no entry, so there is no draft at its start.

    Args:
        tokens: [n] prompt and answer. first: tokens of the prompt.
        states: [n - 2, A * Ht] the target's, of all but the last two tokens: no start needs those.

    Attributes:
        starts: [S] those with a draft. tokens: [S, length] what ``follow`` chose.
    """

    def __init__(self, head: Head, tokens: Tensor, states: Tensor, first: int, length: int) -> None:
        self.head, self.length = head, length
        total, lead = len(tokens) - first, max(2 - first, 0)
        self.starts = torch.arange(lead, total, device=head.device)
        self._lead = lead
        self._entry = self.starts + first - 2  # the last true entry of each start
        self._cache = head.cache()
        z, own = read(head, tokens, states, self._cache)
        self._first = z[self._entry], own[self._entry]
        self._z = z.new_zeros(len(self.starts), length, z.shape[1])
        self.tokens = torch.zeros(len(self.starts), length, dtype=torch.long, device=head.device)

    @torch.inference_mode()
    def follow(self, choose: Choose) -> None:
        """Draft at every start, each token chosen by ``choose``."""
        mark, reach = self._cache.length, torch.arange(self._cache.length, device=self.head.device)
        for low in range(0, len(self.starts), STARTS):
            at = slice(low, min(low + STARTS, len(self.starts)))
            z, own, entry = self._first[0][at], self._first[1][at], self._entry[at]
            seen = [reach[None, :] <= entry[:, None]]
            for depth in range(self.length):
                self._z[at, depth] = z
                chosen = choose(self.starts[at], depth, self.head.logits(z))
                self.tokens[at, depth] = chosen
                if depth + 1 < self.length:
                    seen.append(torch.eye(len(z), dtype=torch.bool, device=z.device))
                    z, own = self.head.entries(chosen, own, entry + depth + 1, self._cache, torch.cat(seen, 1))
            self._cache.length = mark

    def greedy(self, starts: Tensor, depth: int, logits: Tensor) -> Tensor:
        """What a greedy draft chooses, for ``follow``."""
        return self.head.tokens(logits.argmax(-1))

    @torch.inference_mode()
    def logits(self, starts: Tensor, depth: Tensor) -> Tensor:
        """[n, V] at pairs of a start and a depth of the drafts that were followed last; -inf outside the vocabulary."""
        return self.head.scattered(self.head.logits(self._z[starts - self._lead, depth]))


def read(head: Head, tokens: Tensor, states: Tensor, cache: HeadCache) -> tuple[Tensor, Tensor]:
    """The true entries of a text, one a row of ``states``: what ``Head.entries`` gives, [n, H] both."""
    zs, owns = [states.new_zeros(0, head.config.hidden)], [states.new_zeros(0, head.config.hidden)]
    for low in range(0, len(states), WIDEST):
        high = min(low + WIDEST, len(states))
        positions = torch.arange(low, high, device=head.device)
        z, own = head.entries(tokens[low + 1 : high + 1], head.fuse(states[low:high]), positions, cache)
        zs.append(z)
        owns.append(own)
    return torch.cat(zs), torch.cat(owns)
