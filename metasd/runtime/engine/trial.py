"""Trying a model out before it is relied on: does it say of a text read in parts what it says of the whole?

Some models ignore the cache they are given, read both ways, or keep a state that nobody can roll back, and their
config does not always tell. A few passes of a few tokens do.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from metasd.core.errors import UsageError
from metasd.runtime.engine.engine import Engine
from metasd.runtime.engine.support import apart, croppable_cache

LENGTH, KEPT, WRONG = 8, 5, 2

_tried: WeakSet[Any] = WeakSet()


def check(model: Any) -> None:
    """Raises UsageError unless ``model`` can be decoded from a cache that is rolled back; tried once a model."""
    if model in _tried:
        return
    name = type(model).__name__
    croppable_cache(model)
    try:
        parts, whole, before, other = _readings(model)
    except UsageError:
        raise
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models fail at this in many ways; the user needs to know which and why
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{name} cannot be decoded with a cache that is rolled back ({reason[:200]})") from error
    if whole.isnan().any():
        narrow = "" if model.dtype in (torch.float32, torch.float64) else f", or {model.dtype} is too narrow for it"
        mend = "try --dtype float32" if narrow else "get the checkpoint whole"
        raise UsageError(f"the logits of {name} are no numbers (NaN): its weights are damaged{narrow}; {mend}")
    if apart(before, other, model.dtype, exact=1e-5):
        raise UsageError(f"{name} reads a text both ways, so it cannot continue one; use a causal language model")
    if apart(parts, whole, model.dtype):
        raise UsageError(
            f"{name} says of a text read in parts something else than of the whole, so it cannot be decoded with a "
            "cache; use a causal language model"
        )
    _tried.add(model)


@torch.inference_mode()
def _readings(model: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last rows of a text read in parts, behind a wrong turn that was rolled back, and read whole; then the first
    rows of that text and of one with another end.
    """
    vocabulary, device = int(model.config.get_text_config().vocab_size), torch.device(model.device)
    text = torch.tensor([[(7 * i + 3) % vocabulary for i in range(LENGTH)]], device=device)
    wrong = torch.tensor([[(5 * i + 1) % vocabulary for i in range(LENGTH - KEPT)]], device=device)
    engine, length = Engine(model), 0
    for ids, removed in ((text[:, :KEPT], 0), (wrong[:, :WRONG], WRONG), (text[:, KEPT:], 0)):
        parts = engine.step(ids, ids.shape[1])
        length += ids.shape[1]
        if engine.length != length:
            raise UsageError(f"{type(model).__name__} does not use the cache it is given; use a model that keeps one")
        if removed:
            length -= removed
            engine.crop(length)
    whole = Engine(model).step(text, LENGTH)[0]
    other = Engine(model).step(torch.cat([text[:, :KEPT], wrong], dim=1), LENGTH)[0]
    return parts[0], whole[KEPT:], whole[:KEPT], other[:KEPT]
