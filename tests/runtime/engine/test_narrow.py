"""Narrow linear layers: the same numbers, the same weights, and only where they are faster."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from metasd.runtime.engine import narrow


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_a_linear_layer_at_every_width(shape: tuple[int, int], bias: bool) -> None:
    out, inputs = shape
    layer = torch.nn.Linear(inputs, out, bias=bias, dtype=torch.float64)
    layer.__class__ = narrow.NarrowLinear
    for rows in range(1, narrow.WIDEST + 3):
        for x in (torch.randn(rows, inputs, dtype=torch.float64), torch.randn(1, rows, inputs, dtype=torch.float64)):
            got = layer(x)
            torch.testing.assert_close(got, functional.linear(x, layer.weight, layer.bias))
            assert got.is_contiguous()


def model(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    made = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, narrow.LARGE // 8, bias=False)).to(dtype)
    made.device, made.dtype = torch.device("cpu"), dtype
    return made


def test_it_is_installed_by_shape_dtype_and_library_and_shares_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    large = model()
    before = [p.data_ptr() for p in large.parameters()]
    assert not narrow.installed(large)
    assert narrow.install(large)
    assert narrow.installed(large)
    assert [type(m) for m in large] == [narrow.NarrowLinear] * 2
    assert [p.data_ptr() for p in large.parameters()] == before
    assert not narrow.install(model(torch.bfloat16))
    small = torch.nn.Sequential(torch.nn.Linear(8, 8))
    small.device, small.dtype = torch.device("cpu"), torch.float32
    assert not narrow.install(small)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not narrow.install(model())


def test_no_clock_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine was busy with must not choose the arithmetic: resumed recordings and runs must meet it again."""
    monkeypatch.setattr("time.perf_counter", lambda: pytest.fail("looked at the clock"))
    assert narrow.install(model()) == torch.backends.mkl.is_available()
