"""Temperature, top-k, top-p and inversion, against transformers and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from metasd.core.errors import UsageError
from metasd.runtime.sampling import Sampling, pick, warp


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 5, 200])
@pytest.mark.parametrize("top_p", [None, 0.05, 0.6, 0.95, 1.0])
def test_warp_is_what_transformers_samples_from(temperature: float, top_k: int | None, top_p: float | None) -> None:
    logits = torch.randn(6, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2
    chain = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k is not None:
        chain.append(TopKLogitsWarper(top_k))
    if top_p is not None and top_p < 1:
        chain.append(TopPLogitsWarper(top_p))
    expected = torch.softmax(chain(None, logits.clone()), -1)
    torch.testing.assert_close(warp(logits, temperature, top_k, top_p), expected)


def test_low_precision_is_widened() -> None:
    logits = torch.randn(3, 9).to(torch.bfloat16)
    assert warp(logits, 1.0).dtype == torch.float32
    assert warp(logits.double(), 1.0, 2, 0.5).dtype == torch.float64


def test_pick_inverts_the_sum_and_never_draws_a_zero() -> None:
    weights = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0], dtype=torch.float64)
    grid = (np.arange(4000) + 0.5) / 4000
    drawn = pick((weights * 3).expand(4000, 6), torch.from_numpy(grid))
    assert np.bincount(drawn, minlength=6).tolist() == [0, 1000, 0, 2000, 1000, 0]
    ends = torch.tensor([1e-300, 1 - 2**-53], dtype=torch.float64)
    assert pick(weights.expand(2, 6), ends).tolist() == [1, 4]
    past = torch.tensor([1.0], dtype=torch.float64)  # a sum that rounds up reaches as far
    assert pick(torch.ones(1, 3), past).tolist() == [2]


def test_settings_out_of_range_are_named() -> None:
    for settings, word in (((-0.5,), "-0.5"), ((1.0, 0), "top_k 0"), ((1.0, None, 1.5), "top_p 1.5")):
        with pytest.raises(UsageError, match=word):
            Sampling(*settings)
