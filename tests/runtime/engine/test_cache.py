"""The cache rule: valid up to the longest shared prefix, and what cannot be cropped is refused."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from metasd.core.errors import UsageError
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.positions import PositionLayer
from metasd.runtime.engine.support import croppable_cache
from metasd.runtime.load import Target


def fresh_logits(model: Any, text: list[int], rows: int) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([text])).logits[0, -rows:]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_any_sequence_of_texts_gives_the_logits_of_reading_each_from_the_start(tiny_target: Target, data: Any) -> None:
    cached = CachedModel(tiny_target.model)
    token = st.integers(2, 9)
    text = data.draw(st.lists(token, min_size=1, max_size=12))
    for _ in range(4):
        rows = data.draw(st.integers(1, len(text)))
        if data.draw(st.booleans()):
            shared = cached.shared(text)
            assert cached.read(text) == len(text) - shared
        got = cached.forward(text, rows)
        torch.testing.assert_close(got, fresh_logits(tiny_target.model, text, rows), rtol=0, atol=1e-10)
        assert cached.length == len(text) == cached.shared(text)
        text = text[: data.draw(st.integers(0, len(text)))] + data.draw(st.lists(token, min_size=1, max_size=6))


def test_only_what_is_new_is_read(tiny_target: Target) -> None:
    cached = CachedModel(tiny_target.model)
    assert cached.read([5, 6, 7, 8]) == 4
    assert cached.read([5, 6, 7, 8]) == 0
    assert cached.read([5, 6, 9]) == 1
    assert cached.length == 3
    assert cached.read([5, 6]) == 0
    assert cached.length == 2, "a shorter text must be cropped to, or the next tokens land in the wrong place"
    assert cached.shared([5, 7]) == 1
    cached.reset()
    assert cached.read([5, 6]) == 2


def test_tokens_fed_on_the_device_count_once_labelled(tiny_target: Target) -> None:
    cached = CachedModel(tiny_target.model)
    cached.read([5, 6])
    cached.feed(torch.tensor([7]), 1)
    cached.feed(torch.tensor([8]), 1)
    cached.label([7, 8])
    assert cached.shared([5, 6, 7, 8, 9]) == 4
    expected = fresh_logits(tiny_target.model, [5, 6, 7, 8, 9], 1)
    torch.testing.assert_close(cached.forward([5, 6, 7, 8, 9], 1), expected, rtol=0, atol=1e-10)


def test_text_longer_than_the_first_buffer(tiny_target: Target) -> None:
    cached = CachedModel(tiny_target.model)
    cached.read(list(np.arange(1100) % 60 + 2))
    assert cached.shared(list(np.arange(1100) % 60 + 2)) == 1100


@pytest.mark.parametrize("release", ["removes", "absolute"])
def test_crop_means_the_same_in_every_release(
    tiny_target: Target, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    """Older releases took a positive number as the final length and a negative one as tokens to remove."""
    seen: list[int] = []

    def crop(self: DynamicCache, count: int) -> None:
        seen.append(count)
        keep = self.get_seq_length() - abs(count) if release == "removes" or count < 0 else count
        for layer in self.layers:
            layer.crop(keep - layer.get_seq_length())

    cached = CachedModel(tiny_target.model)  # tried out before
    monkeypatch.setattr(DynamicCache, "crop", crop)
    cached = CachedModel(tiny_target.model)
    cached.read([5, 6, 7, 8, 9])
    got = cached.forward([5, 6, 2, 3], 2)
    torch.testing.assert_close(got, fresh_logits(tiny_target.model, [5, 6, 2, 3], 2), rtol=0, atol=1e-10)
    assert seen == [-3]


SIZES: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS: dict[str, Any] = SIZES | {"num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("Mamba", SIZES | {"state_size": 4}, "MambaForCausalLM keeps a recurrent state"),
        ("Lfm2", HEADS | {"num_key_value_heads": 1, "layer_types": ["conv", "full_attention"]}, "Lfm2ForCausalLM"),
        ("OpenAIGPT", {"vocab_size": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}, "OpenAIGPTLMHeadModel does not use"),
        ("Bert", HEADS, "BertLMHeadModel"),
    ],
)
def test_what_cannot_be_rolled_back_is_refused_by_name(kind: str, settings: dict[str, Any], said: str) -> None:
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**settings)).eval()
    with pytest.raises(UsageError, match=said) as caught:
        CachedModel(model)
    assert "\n" not in str(caught.value)


def test_caches_a_model_asks_for_are_replaced_but_for_lossy_ones(tiny_target: Target) -> None:
    model = copy.copy(tiny_target.model)
    for asked, refused in (("static", False), ("hybrid", False), ("quantized", True)):
        model.generation_config = SimpleNamespace(cache_implementation=asked)
        with pytest.raises(UsageError, match="quantized") if refused else nullcontext():
            croppable_cache(model)


@pytest.mark.parametrize("stage", ["crop", "first pass", "second pass"])
def test_an_interrupted_pass_leaves_nothing_crooked(
    tiny_target: Target, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Raised when the first of four layers is done, so layers differ in length."""
    cached = CachedModel(tiny_target.model)
    cached.forward([5, 6, 7, 8], 1)
    text = [5, 6, 2, 3] if stage != "second pass" else [5, 6, 7, 8, 9]
    original = PositionLayer.crop if stage == "crop" else PositionLayer.update
    calls = []

    def interrupted(self: Any, *given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(PositionLayer, "crop" if stage == "crop" else "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cached.forward(text, 1)
    for again in (text, [5, 6, 7, 8, 9, 9]):
        expected = fresh_logits(tiny_target.model, again, 2)
        torch.testing.assert_close(cached.forward(again, 2), expected, rtol=0, atol=1e-10)
