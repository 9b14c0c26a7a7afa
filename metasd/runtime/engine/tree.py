"""A tree of tokens in one pass behind a cached text, and the cache of the path that stands.

The pass reads [what is new of the text, the nodes] under a mask that shows every node the text and its own ancestors,
at positions that go by depth. Keys are made for positions, not for places in the cache, so rows of the standing path
may be moved to the front afterwards. A chain needs no mask: the pass is then that of any draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from metasd.runtime.engine.cache import CachedModel, Tokens
from metasd.runtime.engine.forward import Mask
from metasd.runtime.engine.masks import additive
from metasd.runtime.engine.support import apart, packable, stated_limit, windows

LONGEST_TRIAL = 512
"""Tokens up to which the trial goes beyond the narrowest window."""

_tried: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class TreePass:
    """Tree passes of ``cached``; ``keep`` must follow each."""

    def __init__(self, cached: CachedModel) -> None:
        self._cached = cached
        self._windows = windows(cached.model)
        self._base, self._nodes = 0, 0

    def step(self, text: Tokens, tokens: Sequence[int], parents: Sequence[int]) -> Tensor:
        """Logits [n + 1, V] of what follows ``text``, and each of the n nodes behind it.

        parents: index of the node that each hangs on, below its own; -1 for the text itself.
        """
        given, cached = np.asarray(text, np.int64), self._cached
        whole = np.concatenate([given, np.asarray(tokens, np.int64)])
        self._base, self._nodes = len(given), len(tokens)
        if list(parents) == list(range(-1, len(tokens) - 1)):
            return cached.forward(whole, len(tokens) + 1)
        keep = cached.rewind(given, 1)
        ids = torch.from_numpy(whole[keep:].copy()).to(cached.device)
        seen = _ancestors(parents)
        depth = seen.sum(1).numpy()
        positions = np.concatenate([np.arange(keep, len(given)), len(given) - 1 + depth])
        mask = self._mask(keep, len(given), seen, torch.from_numpy(positions))
        logits = cached.feed(ids, len(tokens) + 1, mask=mask, positions=torch.from_numpy(positions).to(cached.device))
        cached.label(whole[keep:])
        return logits

    def keep(self, path: Sequence[int]) -> None:
        """Keep the text and the nodes on ``path``, from the root down; forget the others."""
        cached, base = self._cached, self._base
        if self._nodes and list(path) != list(range(len(path))):
            cached.move(base, [base + node for node in path])
        cached.crop(base + len(path))
        self._nodes = 0

    def _mask(self, keep: int, base: int, seen: Tensor, at: Tensor) -> Mask:
        """What each new row may look at: one mask for all layers, or one by kind of layer where kinds differ."""
        new, nodes = base - keep, len(seen)
        rows = torch.zeros(new + nodes, base + nodes, dtype=torch.bool)
        rows[:new, :base] = torch.arange(base)[None, :] <= torch.arange(keep, base)[:, None]
        rows[new:, :base] = True
        rows[new:, base:] = seen
        device = self._cached.device
        behind = torch.cat([torch.arange(base), at[new:]])
        where = (rows.to(device), at.to(device), behind.to(device))
        return additive(*where, self._windows or {}, self._cached.model.dtype)


def _ancestors(parents: Sequence[int]) -> Tensor:
    """[n, n] bool, row i: node i and the nodes on its path from the root."""
    seen = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    return seen


def can_branch(model: Any) -> bool:
    """Whether ``model`` attends as a mask and positions tell it: its config allows it, and a trial shows it.

    The trial holds two branches of a tree, and a text that goes on behind one of them, to the same read as chains.
    """
    if model not in _tried:
        _tried[model] = packable(model) and _heeds(model)
    return _tried[model]


def _heeds(model: Any) -> bool:
    vocabulary = int(model.config.get_text_config().vocab_size)
    sizes = [w.size for w in (windows(model) or {}).values() if w is not None and w.size <= LONGEST_TRIAL]
    length = min(min(sizes, default=0) + 6, (stated_limit(model.config) or LONGEST_TRIAL) - 4)
    text = [(7 * i + 3) % vocabulary for i in range(length)]
    first, second = [(5 * i + 1) % vocabulary for i in range(2)], [(3 * i + 2) % vocabulary for i in range(3)]
    cached = CachedModel(model)
    tree = TreePass(cached)
    try:
        cached.read(text[:-1])
        branched = tree.step(text, [first[0], second[0], first[1], second[1]], [-1, -1, 0, 1])
        tree.keep([1, 3])
        after = cached.forward([*text, *second], 1)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError, KeyError):
        return False  # it takes no such mask, or no positions
    alone = CachedModel(model)
    one, other = alone.forward([*text, *first], 3), alone.forward([*text, *second], 4)
    wanted = torch.stack([one[0], one[1], other[1], one[2], other[2], other[3]])
    return not apart(torch.cat([branched, after]), wanted, model.dtype)
