"""Packed linear layers: the same numbers, the same weights for whoever asks, no second copy of them."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from metasd.runtime.engine import packed
from tests.support import tiny

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")


class Attention(nn.Module):
    def __init__(self, bias: bool = False, own: int = 6) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(5, n, bias=bias) for n in (8, 4, 4))
        self.o_proj = nn.Linear(8, own, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_every_layer_is_the_linear_layer_it_was_at_every_width(bias: bool) -> None:
    model = Attention(bias).requires_grad_(False)
    before = copy.deepcopy(model)
    assert packed.pack(model) == 2, "q, k and v in one product, o in another"
    for rows in (1, 2, 5, 9, 17):
        for x in (torch.randn(rows, 5), torch.randn(1, rows, 5), torch.randn(2, rows, 7)[..., 1:6]):
            for name in ("q_proj", "k_proj", "v_proj"):
                expected = functional.linear(x, getattr(before, name).weight, getattr(before, name).bias)
                torch.testing.assert_close(getattr(model, name)(x), expected)
            y = torch.randn(1, rows, 8)
            torch.testing.assert_close(model.o_proj(y), before.o_proj(y))


@torch.inference_mode()
def test_parts_are_of_the_input_they_are_asked_for_in_any_order() -> None:
    model = Attention().requires_grad_(False)
    before = copy.deepcopy(model)
    packed.pack(model)
    one, other = torch.randn(1, 3, 5), torch.randn(1, 3, 5)
    calls = [("q_proj", one), ("k_proj", other), ("q_proj", one), ("q_proj", one), ("v_proj", other), ("k_proj", one)]
    for name, x in [*calls, ("v_proj", one), ("k_proj", one), ("v_proj", one), ("q_proj", one)]:
        torch.testing.assert_close(getattr(model, name)(x), getattr(before, name)(x))
    assert model.q_proj.group._held is None, "what was made for an input is let go with its last part"


def test_the_weights_can_be_had_as_they_were() -> None:
    model = Attention(bias=True).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    packed.pack(model)
    assert packed.installed(model)
    after = model.state_dict()
    assert set(after) == set(before)
    for name, value in before.items():
        assert torch.equal(after[name], value)
        assert torch.equal(model.get_submodule(name.split(".")[0]).weight, before[name.split(".")[0] + ".weight"])


def test_never_more_than_a_group_is_held_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(Attention(), Attention(), nn.Linear(6, 5, bias=False)).requires_grad_(False)
    alive = [weakref.ref(m.weight) for m in model.modules() if isinstance(m, nn.Linear)]
    left = list[int]()
    reorder: Any = packed._OPS._reorder_linear_weight

    class Counting:
        def __getattr__(self, name: str) -> Any:
            gc.collect()
            left.append(sum(weight() is not None for weight in alive))
            return reorder if name == "_reorder_linear_weight" else getattr(torch.ops.mkldnn, name)

    monkeypatch.setattr(packed, "_OPS", Counting())
    packed.pack(model)
    gc.collect()
    assert not any(weight() is not None for weight in alive)
    assert left == [9, 8, 5, 4, 1], "the head, then twice a group and its output: each is let go before the next"


def test_a_head_tied_to_the_embeddings_leaves_them_as_they_are() -> None:
    model = tiny.llama(dtype=torch.float32, tie_word_embeddings=True)
    table = model.get_input_embeddings().weight.clone()
    packed.pack(model)
    assert isinstance(model.lm_head, packed.PackedLinear)
    assert torch.equal(model.get_input_embeddings().weight, table)
    assert torch.equal(model.lm_head.weight, table)


@pytest.mark.parametrize("changed", ["hook", "shared", "biases"])
def test_layers_that_are_more_than_their_weights_are_not_joined(changed: str) -> None:
    model = Attention().requires_grad_(False)
    if changed == "hook":
        model.k_proj.register_forward_hook(lambda *_: None)
    elif changed == "shared":
        model.v_proj.weight = model.k_proj.weight
    else:
        model.k_proj.bias = nn.Parameter(torch.ones(4), requires_grad=False)
    before = copy.deepcopy(model)
    packed.pack(model)
    assert not isinstance(model.q_proj, packed.PackedPart)
    x = torch.randn(2, 5)
    for name in ("q_proj", "k_proj", "v_proj"):
        torch.testing.assert_close(getattr(model, name)(x), getattr(before, name)(x))
