"""Linear layers whose float32 weights lie as oneDNN multiplies with them: the path on a CPU.

PyTorch multiplies a few rows with a weight [out, in] that lies row by row, and takes for 4 rows twice what it takes
for 1. oneDNN can lay a weight out anew in blocks once, and then streams it at full bandwidth for 1 row as for 9.
Query, key and value, and gate and up, read the same input: each such group becomes one product.

The weights are moved, not copied: a layer's own tensor is let go before the next is laid out, and ``weight`` lays it
back when somebody asks for it. A head that shares its weight with the embeddings is the exception: rows of tokens
cannot be read out of blocks, so it gets a copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Children that decoder layers call with the same input, one after the other."""
ROWS = 8
"""Rows the layout is made for: a width of verification. It then multiplies any number."""
_OPS: Any = torch.ops.mkldnn


class PackedLinear(nn.Module):
    """x W^T + b [..., in] -> [..., out]; W [out, in] and b [out] in float32."""

    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("packed", _OPS._reorder_linear_weight(weight, ROWS), persistent=False)
        made = bias if bias is None or isinstance(bias, nn.Parameter) else nn.Parameter(bias, requires_grad=False)
        self.register_parameter("bias", made)
        self._product = torch.ops.mkldnn._linear_pointwise.default

    @property
    def weight(self) -> Tensor:
        """[out, in], laid back: a new tensor every time."""
        packed: Any = self.packed
        back: Tensor = packed.to_dense()
        return back

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self._product(x, self._buffers["packed"], self._parameters["bias"], "none", [], "")
        return made

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.weight


class _Group(nn.Module):
    """Several linear layers as one product, whose parts are fetched one after the other for the same input.

    An input is the same when it is the same object. What was made for it is let go with the last part.
    """

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        biases = [m.bias for m in linears if m.bias is not None]
        bias = torch.cat(tuple(biases)) if biases else None
        self.sizes = [m.out_features for m in linears]
        self.linear = PackedLinear(torch.cat(tuple(m.weight for m in linears)), bias)
        self._held: tuple[Tensor, dict[int, Tensor]] | None = None

    def part(self, index: int, x: Tensor) -> Tensor:
        held = self._held
        if held is None or held[0] is not x or index not in held[1]:
            held = self._held = (x, dict(enumerate(torch.split(self.linear(x), self.sizes, dim=-1))))
        made = held[1].pop(index)
        if not held[1]:
            self._held = None
        return made


class PackedPart(nn.Module):
    """One of the layers of a group, in its place: [..., in] -> [..., out], a view of the group's product."""

    def __init__(self, group: _Group, index: int) -> None:
        super().__init__()
        self.group, self.index = group, index
        self.in_features, self.out_features = group.linear.in_features, group.sizes[index]

    def forward(self, x: Tensor) -> Tensor:
        return self.group.part(self.index, x)

    @property
    def weight(self) -> Tensor:
        """[out, in], laid back: a new tensor every time."""
        return torch.split(self.group.linear.weight, self.group.sizes)[self.index]

    @property
    def bias(self) -> Tensor | None:
        """[out]."""
        bias = self.group.linear.bias
        return None if bias is None else torch.split(bias, self.group.sizes)[self.index]

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """The layer's own weight and bias, under the names they had before they were packed."""
        found = {} if destination is None else destination
        found[prefix + "weight"] = self.weight
        if self.bias is not None:
            found[prefix + "bias"] = self.bias
        return found


@torch.inference_mode(False)
@torch.no_grad()
def pack(model: nn.Module) -> int:
    """Lay out the weights of every ``nn.Linear`` of ``model`` anew, in place; how many products they became.

    Never more than one layer's weights are held twice, but for a head that shares its weight with the embeddings.
    """
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    parents = [m for m in model.modules() if type(m) is not nn.Linear]  # a list of layers would keep them all
    return sum(_pack_children(parent, owners) for parent in parents)


def _pack_children(parent: nn.Module, owners: Counter[int]) -> int:
    products = 0
    for names in GROUPS:
        group = [parent._modules.get(name) for name in names]
        if _joinable(group, owners):
            joined = _Group(group)  # type: ignore[arg-type]
            for index, name in enumerate(names):
                parent._modules[name] = PackedPart(joined, index)
            products += 1
        del group
    for name in list(parent._modules):
        child = parent._modules[name]
        if type(child) is nn.Linear and _plain(child):
            parent._modules[name] = PackedLinear(child.weight, child.bias)
            products += 1
    return products


def installed(model: nn.Module) -> bool:
    """Whether ``model`` has packed layers."""
    return any(isinstance(module, PackedLinear) for module in model.modules())


def _plain(linear: nn.Module) -> bool:
    """Whether nothing hangs on the layer besides its weights: no hooks, no parametrization."""
    return not (linear._forward_hooks or linear._forward_pre_hooks) and set(linear._parameters) == {"weight", "bias"}


def _joinable(group: Sequence[nn.Module | None], owners: Counter[int]) -> bool:
    """Whether all are linear layers of one input with weights of their own, all with a bias or none."""
    if not all(type(m) is nn.Linear and _plain(m) for m in group):
        return False
    linears: Any = group
    own = all(owners[id(m.weight)] == 1 for m in linears)
    return own and len({m.in_features for m in linears}) == 1 and len({m.bias is None for m in linears}) == 1
