"""An engine of several texts: every row is what an engine of its own would be, alone and in company."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from metasd.runtime.engine.cache import CachedModel, forward_together
from metasd.runtime.engine.features import FINAL, Features
from metasd.runtime.engine.positions import ROOM
from metasd.runtime.engine.together import TogetherEngine
from metasd.runtime.engine.tree import TreePass
from tests.support import tiny

TEXTS = [[5, 9, 7, 3, 3, 8], [4, 2], [6, 11, 6, 11, 6, 11, 6, 11, 2, 9]]


@pytest.fixture(autouse=True)
def garbage() -> Iterator[None]:
    """Memory that nobody wrote to is full of NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.llama(7, 3, torch.float32, max_position_embeddings=2 * ROOM)


def rows_of(model: Any, kept: list[Features | None] | None = None) -> list[CachedModel]:
    engine = TogetherEngine(model, kept or [None] * len(TEXTS))
    return [CachedModel(model, row=row) for row in engine.rows]


def alone(model: Any, text: list[int], rows: int) -> torch.Tensor:
    return CachedModel(model).forward(text, rows)


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_rows_of_different_lengths_say_what_each_says_alone(model: Any) -> None:
    cached = rows_of(model)
    for c, text in zip(cached, TEXTS, strict=True):
        c.read(text[:-1])
    texts, rows = [text + [2 + i, 9, 4][:i] for i, text in enumerate(TEXTS)], [1, 2, 3]
    for said, text, n in zip(forward_together(cached, texts, rows), texts, rows, strict=True):
        close(said, alone(model, text, n))
    assert [c.length for c in cached] == [len(text) for text in texts]
    texts = [[*TEXTS[0], 8, 8], [*TEXTS[1], 3, 20], [*TEXTS[2], 4]]  # two drafts fell, one stood in part
    for said, text in zip(forward_together(cached, texts, [2, 2, 1]), texts, strict=True):
        close(said, alone(model, text, len(said)))


def test_who_leaves_gives_up_its_place(model: Any) -> None:
    cached = rows_of(model)
    for c, text in zip(cached, TEXTS, strict=True):
        c.read(text)
    cached[0].leave()
    left, texts = cached[1:], [[*text, 9] for text in TEXTS[1:]]
    for said, text in zip(forward_together(left, texts, [1, 1]), texts, strict=True):
        close(said, alone(model, text, 1))
    cached[1].leave()
    close(forward_together(cached[2:], [[*texts[1], 7]], [1])[0], alone(model, [*texts[1], 7], 1))
    with pytest.raises(RuntimeError, match="do not lie together"):
        forward_together([cached[2], cached[0]], [[*texts[1], 7, 7], [4]], [1, 1])


def test_texts_outgrow_the_first_buffer(model: Any) -> None:
    rng = np.random.default_rng(1)
    texts = [rng.integers(2, 24, n).tolist() for n in (ROOM + 20, 3, ROOM - 1)]
    cached = rows_of(model)
    for c, text in zip(cached, texts, strict=True):
        c.read(text)
    longer = [[*text, 5, 6] for text in texts]
    for said, text in zip(forward_together(cached, longer, [2, 1, 2]), longer, strict=True):
        close(said, alone(model, text, len(said)))


def test_padding_stays_within_the_positions_that_a_model_has() -> None:
    torch.manual_seed(4)
    shape: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 10, "initializer_range": 0.5}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=24, bos_token_id=None, eos_token_id=1, **shape)).eval()
    cached, texts = rows_of(model), [[5, 9, 7, 3, 3, 8, 2, 4, 6, 9], [4, 2], [6, 11]]
    for c, text in zip(cached, texts, strict=True):
        c.read(text[:-1])
    longer = [texts[0], [*texts[1], 8, 3, 5], texts[2]]
    for said, text in zip(forward_together(cached, longer, [1, 4, 1]), longer, strict=True):
        close(said, alone(model, text, len(said)))


def test_states_are_kept_for_their_own_text(model: Any) -> None:
    kept: list[Features | None] = [Features([1, FINAL]) for _ in TEXTS]
    cached = rows_of(model, kept)
    for c, text in zip(cached, TEXTS, strict=True):
        c.read(text[:-1])
    texts = [text + [2, 9, 4][:i] for i, text in enumerate(TEXTS)]
    forward_together(cached, texts, [1, 1, 1])
    cached[2].crop(len(TEXTS[2]))
    for features, text, n in zip(kept, texts, (6, 3, 10), strict=True):
        own = Features([1, FINAL])
        CachedModel(model, own).read(text)
        assert features is not None
        assert features.length == n
        close(features.rows([1, FINAL], 0, n), own.rows([1, FINAL], 0, n))


def test_a_row_checks_trees_as_an_engine_of_its_own(model: Any) -> None:
    cached = rows_of(model)
    for c, text in zip(cached, TEXTS, strict=True):
        c.read(text)
    tree, single = TreePass(cached[2]), TreePass(CachedModel(model))
    nodes = ([3, 6, 6, 8], [-1, -1, 0, 1])
    close(tree.step(TEXTS[2], *nodes), single.step(TEXTS[2], *nodes))
    tree.keep([1, 3])
    texts = [[*TEXTS[0], 4], [*TEXTS[1], 4], [*TEXTS[2], 6, 8, 5]]
    for said, text in zip(forward_together(cached, texts, [1, 1, 1]), texts, strict=True):
        close(said, alone(model, text, 1))
