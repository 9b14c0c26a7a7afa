"""A CUDA device played by the CPU: its tensors refuse to meet the CPU's as a GPU's do, and the models stay tiny.

``far`` puts a model on it, ``FarDevice`` is active around the code under test. A tensor is far when it was made with
``device=FAR``, moved there, or computed from far ones. It must not be mixed with tensors of the CPU that have a
dimension (an index may lie on the CPU), nor be read by numpy before it was brought back.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree

FAR = torch.device("cuda", 0)


class Far(torch.Tensor):
    """A tensor on the played device."""


def _plain(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.as_subclass(torch.Tensor) if isinstance(value, Far) else value


def _far(value: Any) -> Any:
    return value.as_subclass(Far) if isinstance(value, torch.Tensor) else value


class FarDevice(TorchFunctionMode):
    """See the module docstring. ``waits`` counts synchronisations."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __enter__(self) -> FarDevice:
        self._kept = torch.cuda.synchronize, torch.cuda.get_device_name
        torch.cuda.synchronize = self._wait
        torch.cuda.get_device_name = lambda device=None: "played by the CPU"
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.cuda.synchronize, torch.cuda.get_device_name = self._kept

    def _wait(self, device: torch.device) -> None:
        assert device == FAR
        self.waits += 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        kwargs = dict(kwargs or {})
        if func is torch.device:
            return func(*args, **kwargs)
        given = [v for v in tree.tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
        far = any(isinstance(v, Far) for v in given)
        if far and func == torch.Tensor.device.__get__:  # type: ignore[attr-defined]
            return FAR
        moved = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.device)]
        if name not in ("__getitem__", "__setitem__", "to", "copy_"):
            near = [v for v in given if not isinstance(v, Far) and v.dim()]
            if far and near:
                raise RuntimeError(f"{name}: tensors on two devices, {FAR} and cpu")
        if far and name in ("numpy", "__array__"):
            raise TypeError(f"{name}: a tensor on {FAR} cannot be read by numpy; bring it to the CPU first")
        args, kwargs = tree.tree_map(_plain, (args, kwargs))
        result = func(*args, **kwargs)
        ends_far = moved[-1].type == "cuda" if moved else far and name != "cpu"
        return tree.tree_map(_far, result) if ends_far else result


def far(model: Any) -> Any:
    """``model``, in place, as if it lay on ``FAR``: it takes far tensors alone and gives far logits."""
    kind = type(model)

    @functools.wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        assert given
        assert all(isinstance(v, Far) for v in given), "the model was given a tensor of the CPU"
        with torch._C.DisableTorchFunction():
            out = kind.forward(self, *map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})
            out.logits = out.logits.as_subclass(Far)
        return out

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward, "device": property(lambda self: FAR)})
    return model
