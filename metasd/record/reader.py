"""Reading a text, and many alternative continuations of it, in few wide passes.

A *reader* holds one text. ``read`` goes through it once and gives the model's logits after every prefix; ``grow`` adds
*nodes*, tokens that hang on a prefix of the text or on another node, and gives the logits after each; ``drop`` takes
the nodes away again. ``PackedReader`` does it in passes of hundreds of tokens under an attention mask that shows
every node its own ancestors only; ``StepReader`` token by token, for models that cannot be told what to attend to.

Knows causal models of transformers; knows nothing of drafters, acceptance or traces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.engine import Engine
from metasd.runtime.engine.forward import Mask
from metasd.runtime.engine.masks import additive
from metasd.runtime.engine.support import apart, packable, stated_limit, windows
from metasd.runtime.engine.vocabulary import Fit

ROOT = -1
"""Parent of a node that hangs on the text itself."""
LONGEST_TRIAL = 512
"""Tokens up to which trying a model out goes beyond its narrowest window."""


class Reader(Protocol):
    """See the module docstring. ``logits`` are [n, V] in the model's own dtype, on its device."""

    def read(self, tokens: Sequence[int], first: int, width: int) -> Iterator[tuple[int, Tensor]]:
        """Read ``tokens`` and yield (seen, logits) in order: logits[i] follows the first ``seen + i`` tokens.

        Covers seen = first (>= 1) to len(tokens), at most ``width`` rows at a time.
        """
        ...

    def grow(self, tokens: Sequence[int], seen: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Add nodes; give the logits after each, [n, V].

        Args:
            tokens: the token of each new node.
            seen: tokens of the text that lie before the node's branch.
            parents: index of the node it hangs on, counted from the last ``drop`` and below its own; or ROOT.
        """
        ...

    def drop(self) -> None:
        """Forget all nodes, keep the text."""
        ...


class _Nodes:
    """The nodes grown since the last drop: where each hangs, how deep it is."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.seen: list[int] = []
        self.depth: list[int] = []
        self.parents: list[int] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, token: int, seen: int, parent: int) -> None:
        if parent >= len(self) or (parent >= 0 and self.seen[parent] != seen):
            raise ValueError(f"node {len(self)} cannot hang on node {parent}: not grown yet, or of another branch")
        self.depth.append(0 if parent < 0 else self.depth[parent] + 1)
        self.tokens.append(token)
        self.seen.append(seen)
        self.parents.append(parent)

    def path(self, node: int) -> list[int]:
        """The nodes from the root's child down to ``node``."""
        found = [node]
        while self.parents[found[-1]] >= 0:
            found.append(self.parents[found[-1]])
        return found[::-1]


class PackedReader:
    """Few wide passes. The model must honour a 4D attention mask and explicit positions: see ``can_pack``.

    A given mask replaces the model's own, so it applies the windows of the model's layers as well, by positions in
    the text: where a node lies in the cache says nothing of how far it is from another.

    Args:
        model: a causal LM of transformers, or anything called like one.
        fit: between the model's vocabulary and the target's.

    Raises ValueError when the model's config does not tell what its layers see.
    """

    def __init__(self, model: Any, fit: Fit | None = None) -> None:
        self.model, self._fit = model, fit
        self._engine = Engine(model)
        seen = windows(model)
        if seen is None:
            raise ValueError(f"the config of {type(model).__name__} does not tell what its layers see")
        self._windows = seen
        self._length = 0
        self._nodes = _Nodes()

    def read(self, tokens: Sequence[int], first: int, width: int) -> Iterator[tuple[int, Tensor]]:
        self._engine.reset()
        self._length, self._nodes = 0, _Nodes()
        # The prompt goes with the first rows: one pass when the answer is short.
        starts = [0, *range(first + width - 1, len(tokens), width)]
        for start, stop in zip(starts, [*starts[1:], len(tokens)], strict=True):
            skip = max(first - 1 - start, 0)
            logits = self._pass(list(tokens[start:stop]), list(range(start, stop)), None, stop - start - skip)
            self._length = stop
            yield start + skip + 1, logits

    def grow(self, tokens: Sequence[int], seen: Sequence[int], parents: Sequence[int]) -> Tensor:
        nodes, old = self._nodes, len(self._nodes)
        for node in zip(tokens, seen, parents, strict=True):
            nodes.add(*node)
        positions = [nodes.seen[i] + nodes.depth[i] for i in range(old, len(nodes))]
        return self._pass(list(tokens), positions, self._mask(old), len(tokens))

    def drop(self) -> None:
        if len(self._nodes):
            self._engine.crop(self._length)
            self._nodes = _Nodes()

    def _mask(self, old: int) -> Mask:
        """What new nodes may look at: one mask for all layers, or one by kind of layer where kinds differ."""
        nodes, device = self._nodes, self.model.device
        columns = torch.arange(self._length, device=device)
        seen = torch.tensor(nodes.seen[old:], device=device)
        ancestors = torch.zeros(len(nodes) - old, len(nodes), dtype=torch.bool)
        for row, node in enumerate(range(old, len(nodes))):
            ancestors[row, nodes.path(node)] = True
        visible = torch.cat([columns[None, :] < seen[:, None], ancestors.to(device)], dim=1)
        at = torch.tensor([n + deep for n, deep in zip(nodes.seen, nodes.depth, strict=True)], device=device)
        return additive(visible, at[old:], torch.cat([columns, at]), self._windows, self.model.dtype)

    def _pass(self, tokens: list[int], positions: list[int], mask: Mask | None, keep: int) -> Tensor:
        known = tokens if self._fit is None else self._fit.tokens(tokens).tolist()
        ids, at = torch.tensor([[known], [positions]], device=self.model.device)
        logits = self._engine.step(ids, keep, mask=mask, positions=at)[0]
        return self._fit(logits) if self._fit else logits


class StepReader:
    """One pass per prefix and no mask: slow, for any causal model, and the reference ``PackedReader`` is held to."""

    def __init__(self, model: Any, fit: Fit | None = None) -> None:
        self._cached, self._fit = CachedModel(model), fit
        self._text: list[int] = []
        self._nodes = _Nodes()

    def read(self, tokens: Sequence[int], first: int, width: int) -> Iterator[tuple[int, Tensor]]:
        self._text, self._nodes = list(tokens), _Nodes()
        for start in range(first, len(tokens) + 1, width):
            stop = min(start + width, len(tokens) + 1)
            yield start, torch.stack([self._after(self._text[:seen]) for seen in range(start, stop)])

    def grow(self, tokens: Sequence[int], seen: Sequence[int], parents: Sequence[int]) -> Tensor:
        nodes, old = self._nodes, len(self._nodes)
        for node in zip(tokens, seen, parents, strict=True):
            nodes.add(*node)
        paths = [[nodes.tokens[i] for i in nodes.path(node)] for node in range(old, len(nodes))]
        return torch.stack([self._after(self._text[:n] + path) for n, path in zip(seen, paths, strict=True)])

    def drop(self) -> None:
        self._nodes = _Nodes()

    def _after(self, tokens: list[int]) -> Tensor:
        """[V] logits after ``tokens``."""
        logits = self._cached.forward(tokens if self._fit is None else self._fit.tokens(tokens), 1)
        return (self._fit(logits) if self._fit else logits)[0]


def reader_for(model: Any, fit: Fit | None = None) -> PackedReader | StepReader:
    """The fastest reader that gives this model's own logits."""
    return PackedReader(model, fit) if can_pack(model) else StepReader(model, fit)


def can_pack(model: Any) -> bool:
    """Whether the model attends as a 4D mask and explicit positions tell it.

    Its config says whether this may be tried (``support.packable``), and a trial whether it does as told: two branches
    of three tokens against what the model says of each alone, behind a text longer than the narrowest window where
    that takes no more than ``LONGEST_TRIAL`` tokens.

    Raises UsageError when the model's cache cannot be rolled back.
    """
    if not packable(model):
        return False
    vocabulary = int(model.config.get_text_config().vocab_size)
    sizes = [w.size for w in (windows(model) or {}).values() if w is not None and w.size <= LONGEST_TRIAL]
    length = min(min(sizes, default=0) + 6, (stated_limit(model.config) or LONGEST_TRIAL) - 3)
    text = [(7 * i + 3) % vocabulary for i in range(length)]
    tokens = [(5 * i + 1) % vocabulary for i in range(6)]
    early = max(length - 3, 1)
    seen, parents = [length] * 3 + [early] * 3, [ROOT, 0, 1, ROOT, 3, 4]
    alone = _trial(StepReader(model), text, tokens, seen, parents)
    try:
        packed = _trial(PackedReader(model), text, tokens, seen, parents)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError, KeyError):
        return False  # it takes no such mask, or no positions
    return not apart(packed, alone, model.dtype)


def _trial(reader: Reader, text: list[int], tokens: list[int], seen: list[int], parents: list[int]) -> Tensor:
    for _ in reader.read(text, len(text), 1):
        pass
    return reader.grow(tokens, seen, parents)
