"""The mask of a pass over tokens that do not follow one another: who may look at whom, as models take it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metasd.runtime.engine.forward import Mask
from metasd.runtime.engine.support import Window


def additive(
    visible: Tensor, at: Tensor, behind: Tensor, windows: Mapping[str, Window | None], dtype: torch.dtype
) -> Mask:
    """One mask for all layers, or one by kind of layer where kinds differ; [1, 1, new, all] each.

    Args:
        visible: [new, all] bool, which tokens each new one may look at were there no windows.
        at, behind: [new], [all] their positions.
        windows: by kind of layer, as ``support.windows`` has them; empty: none.
    """

    def within(window: Window | None) -> Tensor:
        shown = visible if window is None else visible & window.shows(at, behind)
        hidden = torch.full(shown.shape, torch.finfo(dtype).min, dtype=dtype, device=shown.device)
        return hidden.masked_fill_(shown, 0.0)[None, None]

    made = {kind: within(window) for kind, window in windows.items()}
    return made if len(made) > 1 else next(iter(made.values()), within(None))
