"""The one call of a model, in words that any release of transformers understands; ``Engine`` alone makes it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from metasd.runtime.engine.features import Tap
from metasd.runtime.engine.support import croppable_cache

CACHE_NAMES = ("cache", "past_key_values")
"""What a pass calls its cache: in transformers since 5.24 the first, before and in others' models the second."""

Mask = Tensor | Mapping[str, Tensor]
"""[B, length], additive [B, 1, w, length], or one of the latter for every kind of layer."""


class Forward:
    """Calls ``model``, any causal LM of transformers or anything called like one.

    Which arguments it takes is read off its signatures once: the cache's name, and whether it can be asked for the
    last rows of logits only.

    tap: takes states between layers from every pass; None leaves the passes alone.
    """

    def __init__(self, model: Any, tap: Tap | None = None) -> None:
        self.tap = tap
        self.model = model
        takes = _parameters(model)
        self._cache_name = next((name for name in CACHE_NAMES if name in takes), CACHE_NAMES[-1])
        self._keeps_logits = "logits_to_keep" in takes

    def cache(self) -> Any:
        """A new cache for a text. Raises UsageError where the model has none that can be rolled back."""
        return croppable_cache(self.model)

    def ready(self, ids: Tensor, cache: Any, mask: Mask | None, positions: Tensor | None) -> None:
        """Do what is done once for passes like this one, and is no part of it."""

    def warm(self, room: int, chains: Iterable[int], trees: Iterable[int]) -> None:
        """Do now what is done once for texts of ``room`` tokens and passes of these widths."""

    @torch.inference_mode()
    def __call__(
        self, ids: Tensor, cache: Any, rows: int, *, mask: Mask | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Read ``ids`` [B, w] behind ``cache``, which grows by them; logits [B, rows, V] of the last ``rows``.

        mask: as transformers takes it; None shows every token what is before it, within the layers' windows.
        positions [B, w]: None counts on from the cache.
        """
        given: dict[str, Any] = {self._cache_name: cache}
        if self._keeps_logits:
            given["logits_to_keep"] = rows
        if mask is not None:
            given["attention_mask"] = mask
        if positions is not None:
            given["position_ids"] = positions
        with nullcontext() if self.tap is None else self.tap():
            out = self.model(input_ids=ids, use_cache=True, return_dict=True, **given)
        logits: Tensor = out.logits[:, -rows:]
        return logits.to(ids.device)  # layers may be spread over devices


def _parameters(model: Any) -> set[str]:
    """What ``model`` can be told by name; a forward wrapped in ``**kwargs`` hides what its class takes."""
    said = {*inspect.signature(model.forward).parameters}
    own = getattr(type(model), "forward", None)
    return said if own is None else said | {*inspect.signature(own).parameters}
