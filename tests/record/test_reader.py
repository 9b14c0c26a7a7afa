"""Packed passes give what one pass per prefix gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metasd.record.reader import ROOT, PackedReader, StepReader, can_pack


def _tree(rng: np.random.Generator, text: int, nodes: int, first: int, vocabulary: int):
    seen, parents = [], []
    for node in range(nodes):
        parent = int(rng.integers(-1, node))
        parents.append(parent if node else ROOT)
        seen.append(int(rng.integers(first, text + 1)) if parents[-1] == ROOT else seen[parents[-1]])
    return rng.integers(0, vocabulary, nodes).tolist(), seen, parents


def _same(packed, step):
    """Logits to 1e-10 in float64; in float32, where they are large here, the distributions to 1e-5."""
    if packed.dtype == torch.float64:
        torch.testing.assert_close(packed, step, rtol=0, atol=1e-10)
    else:
        torch.testing.assert_close(packed.softmax(-1), step.softmax(-1), rtol=0, atol=1e-5)


# Eager attention takes its softmax in float32 whatever the model's dtype.
@pytest.mark.parametrize(
    ("dtype", "attention"), [(torch.float64, "sdpa"), (torch.float32, "sdpa"), (torch.float32, "eager")]
)
def test_packed_reading_equals_step_by_step(tiny, dtype, attention):
    model = tiny(dtype=dtype, attention=attention)
    rng = np.random.default_rng(1)
    packed, step = PackedReader(model), StepReader(model)
    for prompt, answer, width in ((5, 20, 7), (1, 9, 4), (6, 0, 3)):
        text = rng.integers(0, model.config.vocab_size, prompt + answer).tolist()
        rows = [torch.cat([x for _, x in reader.read(text, prompt, width)]) for reader in (packed, step)]
        assert rows[0].shape == (answer + 1, model.config.vocab_size)
        assert [s for s, _ in packed.read(text, prompt, width)] == [s for s, _ in step.read(text, prompt, width)]
        _same(*rows)
        for nodes in (1, 17, 40):
            tokens, seen, parents = _tree(rng, len(text), nodes, prompt, model.config.vocab_size)
            cut = nodes // 3  # two calls: later nodes hang on earlier ones across passes
            parts = [slice(0, cut), slice(cut, nodes)] if cut else [slice(0, nodes)]
            got = [torch.cat([reader.grow(tokens[p], seen[p], parents[p]) for p in parts]) for reader in (packed, step)]
            _same(*got)
            packed.drop()
            step.drop()


def test_a_node_cannot_hang_on_one_of_another_branch(tiny):
    reader = PackedReader(tiny())
    list(reader.read([1, 2, 3], 2, 8))
    with pytest.raises(ValueError, match="another branch"):
        reader.grow([1, 2], [2, 3], [ROOT, 0])


def test_models_that_ignore_mask_or_positions_are_told_apart(tiny):
    model = tiny()
    assert can_pack(model)
    for argument in ("attention_mask", "position_ids"):
        ignoring = tiny()
        forward = ignoring.forward

        def without(*args, forward=forward, argument=argument, **kwargs):
            return forward(*args, **(kwargs | {argument: None}))

        ignoring.forward = without
        assert not can_pack(ignoring)


def test_half_precision_can_be_packed(tiny):
    """Rounding is no reason for the slow way."""
    assert can_pack(tiny(dtype=torch.bfloat16, initializer_range=0.1))
