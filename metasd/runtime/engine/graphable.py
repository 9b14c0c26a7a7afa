"""Whether the passes of a model can be captured: what its config allows, and what a trial shows.

A captured pass does again what was done on the device. What the host decided on the way, from values that it read,
stays as it was: such a model decodes without graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metasd.runtime.engine import graphs
from metasd.runtime.engine.capture import Called, Capturer
from metasd.runtime.engine.engine import Engine
from metasd.runtime.engine.fixed import Shape
from metasd.runtime.engine.masks import additive
from metasd.runtime.engine.positions import PositionLayer
from metasd.runtime.engine.support import apart, packable, rotary_switch, spread_over, windows

T = TypeVar("T")
READS = (
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_consecutive",
)
"""Operations whose result, or its size, the host waits for; in inference mode ``item`` is not taken apart."""


class HostReadError(Exception):
    """A pass reads a value off the device."""


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # its base has no types
    """Raises HostReadError where the host reads what the device holds."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = func.overloadpacket.__name__
        by_truth = kind in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_truth or kind in READS:
            raise HostReadError(kind.strip("_"))
        return func(*args, **(kwargs or {}))


class _Watched(Called):
    """Calls, under watch."""

    def capture(self, work: Callable[[], T]) -> Callable[[], T]:
        def replay() -> T:
            with _Watch():  # type: ignore[no-untyped-call]
                return work()

        return replay


def against(model: Any) -> str | None:
    """Why passes of ``model`` cannot be captured, as far as its config tells; None where nothing speaks against it."""
    if spread_over(model) > 1:
        return f"its weights are spread over {spread_over(model)} processes"
    if len({p.device for p in model.parameters()}) > 1:
        return "its weights lie on several devices"
    if not packable(model):
        return "its attention takes no mask, or its config does not tell what its layers see"
    if rotary_switch(model.config) is not None:
        return "its rotary factors follow the longest position of a pass, which the host would have to read"
    return None


def install(model: Any, capturer: Capturer) -> str | None:
    """Capture passes of ``model`` from now on; why not, where a trial fails or says something else than before.

    The trial reads a text in parts with a tree in it. Raises torch.OutOfMemoryError.
    """
    graphs.install(model, None)
    try:
        shapes, before = _shapes(model), _trial(model)
        for one in (_Watched(), capturer):
            seen = windows(model) or {}
            graphs.install(model, graphs.Graphs(one, shapes, seen, model.dtype, torch.device(model.device)))
            if apart(_trial(model), before, model.dtype):
                raise ValueError("captured passes say something else than others")
    except torch.OutOfMemoryError:
        graphs.install(model, None)
        raise
    except HostReadError as read:
        why = f"a pass reads values off the device ({read}), which a captured one cannot"
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, NotImplementedError) as error:
        why = (" ".join(str(error).split()) or type(error).__name__)[:200]
    else:
        return None
    graphs.install(model, None)
    return why


def _shapes(model: Any) -> list[Shape]:
    """Of the rows that every layer keeps. Raises ValueError where they lie elsewhere than in layers of ours."""
    engine = Engine(model)
    engine.step(torch.tensor([[0, 1]], device=engine.device), 1)
    made = []
    for layer in engine.layers:
        if type(layer) is not PositionLayer or not layer.is_initialized:
            raise ValueError(f"its cache has a {type(layer).__name__}, whose rows cannot be laid out beforehand")
        made.append(Shape(layer.keys.shape[1], layer.keys.shape[-1], layer.values.shape[-1]))
    return made


@torch.inference_mode()
def _trial(model: Any) -> Tensor:
    """Logits of a text read in parts, of two branches behind it, and of what follows the second."""
    vocabulary, engine = int(model.config.get_text_config().vocab_size), Engine(model)
    ids = torch.tensor([[(7 * i + 3) % vocabulary for i in range(14)]], device=engine.device)
    made = [engine.step(part, part.shape[1])[0] for part in torch.split(ids[:, :9], [4, 1, 3, 1], dim=1)]
    seen = torch.ones(3, 12, dtype=torch.bool)
    seen[:, 9:] = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]]).bool()
    at = torch.tensor([9, 10, 10])
    own, behind = at.to(engine.device), torch.cat([torch.arange(9), at]).to(engine.device)
    mask = additive(seen.to(engine.device), own, behind, windows(model) or {}, model.dtype)
    made.append(engine.step(ids[:, 9:12], 3, mask=mask, positions=own[None])[0])
    engine.move(10, [11])
    engine.crop(11)
    made.append(engine.step(ids[:, 12:], 2)[0])
    return torch.cat(made)
