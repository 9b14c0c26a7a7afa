"""How a model's passes are run, chosen once, from facts and by no stopwatch, and recorded with what was made.

The last bits of a text, and so a resumed recording, must not depend on what else a machine did at the time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from metasd.core.errors import UsageError
from metasd.runtime.engine import capture, graphable, graphs, packed, slim
from metasd.runtime.engine.support import spread_over

AUTO, EAGER, PACKED, GRAPHS = PATHS = ("auto", "eager", "packed", "graphs")
LARGE = 1 << 22
"""Elements of linear layers from which weights come from memory: 16 MB. Below, no layout is clearly faster."""

ONEDNN: Any = torch.backends.mkldnn  # its functions have no types
_log = logging.getLogger("metasd.engine")


@dataclass(frozen=True, slots=True)
class EnginePath:
    """name: eager, packed or graphs. reason: why, in words."""

    name: str = EAGER
    reason: str = "the model is used as it was given"


AS_GIVEN = EnginePath()


def check_path(asked: str) -> None:
    """Raises UsageError for a path that does not exist."""
    if asked not in PATHS:
        raise UsageError(f"unknown engine {asked!r}; use {', '.join(PATHS[:-1])} or {PATHS[-1]}")


def install(model: Any, asked: str = AUTO) -> EnginePath:
    """Choose how passes of ``model`` are run, bring it into that form, in place, and say so in one line.

    Raises UsageError for a path that was asked for and cannot be had here.
    """
    check_path(asked)
    path = _chosen(model, asked)
    if path.name == GRAPHS and (why := graphable.install(model, capture.CudaGraphs(torch.device(model.device)))):
        path = _refused(asked, why)
    if path.name != GRAPHS:
        graphs.install(model, None)
    if path.name == PACKED and not packed.installed(model):
        packed.pack(model)
        slim.install(model)
    _log.info("engine: %s (%s)", path.name, path.reason)
    return path


def _chosen(model: Any, asked: str) -> EnginePath:
    if asked == EAGER:
        return EnginePath(EAGER, "asked for")
    on_cuda = torch.device(model.device).type == "cuda"
    if asked == GRAPHS or (asked == AUTO and on_cuda):
        why = graphable.against(model) if on_cuda else f"graphs need a CUDA device, and the model is on {model.device}"
        reason = "asked for" if asked == GRAPHS else "one captured CUDA graph a width"
        return EnginePath(GRAPHS, reason) if why is None else _refused(asked, why)
    against = _against_packing(model)
    if asked == PACKED:
        if against is not None:
            raise UsageError(f"engine packed cannot be had: {against}; use auto or eager")
        return EnginePath(PACKED, "asked for")
    if against is not None:
        return EnginePath(EAGER, against)
    if _elements(model) < LARGE:
        return EnginePath(EAGER, "the model is so small that its layout in memory does not matter")
    return EnginePath(PACKED, "float32 on a CPU with oneDNN")


def _refused(asked: str, why: str) -> EnginePath:
    """Eager instead of graphs, where nobody asked for these. Raises UsageError where somebody did."""
    if asked == GRAPHS:
        raise UsageError(f"engine graphs cannot be had: {why}; use auto or eager")
    return EnginePath(EAGER, why)


def _against_packing(model: Any) -> str | None:
    """Why the model's linear layers cannot be packed; None where they can."""
    if spread_over(model) > 1:
        return f"its weights are spread over {spread_over(model)} processes"
    places = {p.device.type for p in model.parameters()}
    if places != {"cpu"}:
        return f"weights are packed on a CPU, and the model is on {', '.join(sorted(places)) or 'no device'}"
    if model.dtype != torch.float32:
        return f"weights are packed in float32, and the model is in {str(model.dtype).removeprefix('torch.')}"
    if not ONEDNN.is_available():
        return "this build of PyTorch has no oneDNN"
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")):
        return "this release of PyTorch does not pack weights"
    if not (_elements(model) or packed.installed(model)):
        return "the model has no linear layers of PyTorch's own"
    return None


def _elements(model: Any) -> int:
    """Numbers in the weights of linear layers, packed ones included."""
    kinds = (packed.PackedLinear,)
    plain = sum(m.weight.numel() for m in model.modules() if type(m) is nn.Linear)
    return plain + sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, kinds))
