"""A CUDA device played by the CPU: its tensors refuse to meet the CPU's as a GPU's do, and the models stay tiny.

``far`` puts a model on it, ``FarDevice`` is active around the code under test. A tensor is far when it was made with
``device=FAR``, moved there, or computed from far ones. It must not be mixed with tensors of the CPU that have a
dimension (an index may lie on the CPU), nor be read by numpy before it was brought back. What a GPU's host waits for
is counted: every value that it reads, and every synchronisation.
"""

from __future__ import annotations

import contextlib
import functools
import time
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode

FAR = torch.device("cuda", 0)
NUMBERS = ("item", "__int__", "__bool__", "__float__", "__index__")
"""What makes a number of a tensor."""


class Far(torch.Tensor):
    """A tensor on the played device."""


def _plain(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.as_subclass(torch.Tensor) if isinstance(value, Far) else value


def _far(value: Any) -> Any:
    return value.as_subclass(Far) if isinstance(value, torch.Tensor) else value


def _scalars(index: Any) -> int:
    """Numbers on the played device in an index, which Python's brackets read one by one."""
    leaves = tree.tree_leaves(index)
    return sum(isinstance(v, Far) and v.dim() == 0 and v.dtype != torch.bool for v in leaves)


class _Event:
    """An event of the played device, which does at once what it is told."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at: float | None = None

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        assert self.at is not None

    def elapsed_time(self, last: _Event) -> float:
        assert self.at is not None
        assert last.at is not None
        return 1000 * (last.at - self.at)


class _Inside(TorchDispatchMode):
    """Counts what operations on far tensors read on their way, and models in their passes."""

    READ = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero")

    def __init__(self, device: FarDevice) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = func.overloadpacket.__name__
        by_truth = kind in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if self.device.busy and (by_truth or kind in self.READ):
            self.device.reads += 1
        return func(*args, **(kwargs or {}))


class FarDevice(TorchFunctionMode):
    """See the module docstring. ``waits`` counts synchronisations, ``reads`` the times that values came to the host."""

    active: FarDevice | None = None

    def __init__(self) -> None:
        super().__init__()
        self.waits = self.reads = self.busy = 0
        self._inside = _Inside(self)

    def __enter__(self) -> FarDevice:
        self._kept = torch.cuda.synchronize, torch.cuda.get_device_name, torch.cuda.Event, torch.cuda.device
        torch.cuda.synchronize = self._wait
        torch.cuda.get_device_name = lambda device=None: "played by the CPU"
        if torch.cuda.Event.__module__.startswith("torch"):  # a test may have put its own there
            torch.cuda.Event, torch.cuda.device = _Event, lambda device: contextlib.nullcontext(device == FAR)
        FarDevice.active = self
        self._inside.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._inside.__exit__(*error)
        FarDevice.active = None
        torch.cuda.synchronize, torch.cuda.get_device_name, torch.cuda.Event, torch.cuda.device = self._kept

    @contextlib.contextmanager
    def at_work(self) -> Any:
        """Inside, whatever is read is read off the played device."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

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
        read = _scalars(args[1]) if far and name in ("__getitem__", "__setitem__") else int(far and name in NUMBERS)
        args, kwargs = tree.tree_map(_plain, (args, kwargs))
        ends_far = moved[-1].type == "cuda" if moved else far and name != "cpu"
        before = self.reads
        with self.at_work() if far else contextlib.nullcontext():
            result = func(*args, **kwargs)
        self.reads = max(self.reads, before + read)  # of which no operation tells under inference mode
        self.reads += far and (name == "tolist" or not ends_far)
        return tree.tree_map(_far, result) if ends_far else result


def far(model: Any) -> Any:
    """``model``, in place, as if it lay on ``FAR``: it takes far tensors alone and gives far logits."""
    kind = type(model)

    @functools.wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        assert given
        assert all(isinstance(v, Far) for v in given), "the model was given a tensor of the CPU"
        device = FarDevice.active
        with torch._C.DisableTorchFunction(), device.at_work() if device else contextlib.nullcontext():
            out = kind.forward(self, *map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})
            out.logits = out.logits.as_subclass(Far)
        return out

    model.__class__ = type(kind.__name__, (kind,), {"forward": forward, "device": property(lambda self: FAR)})
    return model
