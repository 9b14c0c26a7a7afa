"""A cache addressed by position holds what transformers' own holds, and copies nothing to append or to crop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.cache_utils import DynamicLayer

from metasd.runtime.engine import positions
from metasd.runtime.engine.forward import Forward
from metasd.runtime.engine.positions import PositionLayer
from metasd.runtime.engine.support import croppable_cache
from tests.support import tiny


def rows(number: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, number, 4)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6)), min_size=1, max_size=8), st.booleans())
def test_it_holds_what_the_layer_of_transformers_holds(steps: list[tuple[int, int]], halved: bool) -> None:
    kept, positions.ROOM = positions.ROOM, 4
    try:
        ours, theirs = PositionLayer(), DynamicLayer()
        assert ours.get_seq_length() == 0
        ours.crop(-1)  # nothing to crop yet
        for added, removed in steps:
            keys, values = rows(added), rows(added)
            for got, expected in zip(ours.update(keys, values), theirs.update(keys, values), strict=True):
                assert torch.equal(got, expected)
            removed = min(removed, ours.get_seq_length() - 1)
            ours.crop(-removed)
            theirs.crop(-removed)
            assert ours.get_seq_length() == theirs.get_seq_length()
            assert ours.get_mask_sizes(3) == theirs.get_mask_sizes(3)
        if halved:
            ours.batch_select_indices(torch.tensor([1]))
            theirs.batch_select_indices(torch.tensor([1]))
            keys = rows(2, 1)
            ours.update(keys, keys)
            theirs.update(keys, keys)
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)
    finally:
        positions.ROOM = kept


def test_a_positive_count_is_refused() -> None:
    layer = PositionLayer()
    layer.update(rows(3), rows(3))
    with pytest.raises(ValueError, match="negative number, not 2"):
        layer.crop(2)


def test_after_reset_another_batch_may_come() -> None:
    layer = PositionLayer()
    layer.update(rows(3), rows(3))
    layer.reset()
    assert layer.get_seq_length() == 0
    assert layer.update(rows(2, 1), rows(2, 1))[0].shape == (1, 3, 2, 4)


class Largest(TorchDispatchMode):
    """The most numbers in a tensor that a copying operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.cat, torch.ops.aten.clone, torch.ops.aten.copy_):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_a_pass_copies_as_much_behind_a_long_text_as_behind_a_short_one() -> None:
    model = tiny.llama()
    forward, cache = Forward(model), croppable_cache(model)
    copied = []
    for length in (20, 100):
        forward(torch.full((1, length - cache.get_seq_length()), 5), cache, 1)
        pointers = [layer.keys.data_ptr() for layer in cache.layers]
        with Largest() as largest:
            forward(torch.tensor([[7]]), cache, 1)
        copied.append(largest.numbers)
        assert [layer.keys.data_ptr() for layer in cache.layers] == pointers
        cache.crop(-1)
        assert [layer.keys.data_ptr() for layer in cache.layers] == pointers
    assert copied[0] == copied[1] > 0
