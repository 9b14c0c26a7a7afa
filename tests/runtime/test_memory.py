"""What ``run --dry-run`` predicts, against the tensors that loading and decoding really make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from metasd.cli import main
from metasd.runtime import memory, weights
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.packed import PackedLinear
from metasd.runtime.load import load_target


def held(model: Any) -> tuple[int, int]:
    """Bytes of the parameters that are left, shared ones once, and of packed weights."""
    packed = [m.packed for m in model.modules() if isinstance(m, PackedLinear)]
    return sum(p.nbytes for p in model.parameters()), sum(p.numel() * 4 for p in packed)


@pytest.fixture(scope="module", params=[False, True], ids=["own head", "shared head"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = {"tie_word_embeddings": request.param, "hidden_size": 64, "intermediate_size": 96}
    model = tiny.llama(3, layers=2, dtype=torch.float32, max_position_embeddings=900, **shared)
    return tiny.save(model, tiny.tokenizer(), tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("engine", ["eager", "packed"])
def test_weights_are_those_that_are_held(folder: Path, engine: str) -> None:
    made = memory.sized(str(folder), device="cpu", dtype="float32")
    parts = {p.what: p.bytes for p in memory.parts_of(made, engine=engine, prompt=5, total=9, rows=4)}
    before = load_target(str(folder), dtype="float32", engine="eager").model
    assert parts["weights"] == held(before)[0]
    after = load_target(str(folder), dtype="float32", engine=engine).model
    assert parts.get("packed weights", 0) == held(after)[1]
    assert made.mapped
    assert made.packed == (load_target(str(folder), dtype="float32").engine.name == "packed")


def test_a_converted_checkpoint_is_held_once_but_for_a_shared_head(folder: Path) -> None:
    made = memory.sized(str(folder), device="cpu", dtype="float64")
    assert not made.mapped
    assert made.bytes == 2 * memory.sized(str(folder), device="cpu", dtype="float32").bytes
    (packed,) = (
        p for p in memory.parts_of(made, engine="packed", prompt=5, total=9, rows=4) if p.what == "packed weights"
    )
    config = made.model.config
    assert packed.bytes == (config.vocab_size * config.hidden_size * 8 if config.tie_word_embeddings else 0)


@pytest.mark.parametrize(("prompt", "total"), [(5, 30), (250, 258), (300, 700)])
def test_the_cache_is_as_large_as_what_a_text_fills(folder: Path, prompt: int, total: int) -> None:
    model = load_target(str(folder), dtype="float32").model
    cached, text = CachedModel(model), [2 + i % 20 for i in range(total)]
    cached.read(text[:prompt])
    for end in range(prompt + 1, total + 1):
        cached.forward(text[:end], 1)
    layers = cached._cache.layers
    real = sum(layer.keys.untyped_storage().nbytes() + layer.values.untyped_storage().nbytes() for layer in layers)
    made = memory.sized(str(folder), device="cpu", dtype="float32")
    assert memory.cache_bytes(made.model, prompt, total) == real


def test_a_dry_run_reads_no_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "read", lambda *given, **how: pytest.fail("weights were read"))
    given = ["run", "--target", str(folder), "--prompt", "w2 w3 w4", "--max-new-tokens", "6", "--dry-run", "--raw"]
    given += ["--drafter", f"model:path={folder},name=twin", "--drafter", "skip:layers=1", "--drafter", "lookup"]
    assert main([*given, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["memory"]
    assert made["prompt_tokens"] == 3
    assert [p["what"] for p in made["parts"]] == ["weights", "cache", "passes"] * 2 + ["cache"]
    assert made["bytes"] == sum(p["bytes"] for p in made["parts"])
    cache = next(p["bytes"] for p in made["parts"] if p["what"] == "cache")
    assert main([*given, "--baseline", "--json"]) == 0
    beside = json.loads(capsys.readouterr().out)["memory"]
    assert beside["entrants"] == 5  # plain, three arms, the policy
    assert next(p["bytes"] for p in beside["parts"] if p["what"] == "cache") == 5 * cache
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "memory of a run" in said
    assert "longest prompt 3 tokens, float32" in said
    assert main(["run", "--target", str(tmp_path), "--prompt", "x", "--dry-run"]) == 2
