"""A text, and the branches that leave it merged into one tree. Knows token ids; nothing of models or drafters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise
from metasd.record.reader import ROOT

Asked = tuple[int, int, int]


@dataclass(slots=True)
class RecordedText:
    """One prompt with the target's answer.

    limit: tokens that all models can read; branches are not followed beyond it. Live, no budget leads there.
    key: noise of sampled drafts.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    limit: int
    key: int = 0

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.answer]

    def key_of(self, d: int) -> NDArray[np.uint64]:
        """[1] noise of drafter ``d``."""
        return noise.mix(np.array([self.key], np.uint64) + np.uint64(d + 1))  # an array: scalars warn of wrapping

    @property
    def room(self) -> int:
        """Positions behind the prompt that can be read."""
        return self.limit - len(self.prompt)


@dataclass(slots=True)
class Trie:
    """Branches of several drafters, equal beginnings once, and who wants to know what follows which node.

    The three lists are the arguments of ``Reader.grow``.
    """

    tokens: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    model: dict[int, list[Asked]] = field(default_factory=dict)  # by model drafter: (node, s, i)
    text: dict[int, list[Asked]] = field(default_factory=dict)  # by text drafter: (node, t, depth)
    _known: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, seen: int, chain: Sequence[int]) -> Iterator[int]:
        """The node of each token of ``chain``, which leaves the text after ``seen`` tokens."""
        parent = ROOT
        for token in chain:
            at = (parent, seen, token)
            if at not in self._known:
                self._known[at] = len(self.tokens)
                self.tokens.append(token)
                self.seen.append(seen)
                self.parents.append(parent)
            parent = self._known[at]
            yield parent
