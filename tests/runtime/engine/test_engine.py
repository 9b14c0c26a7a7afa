"""Every pass of the package is a step of the engine, whoever wants it; and the engine's cache follows its words."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import metasd
from metasd.core.pool import DrafterInfo, Pool
from metasd.distill.answers import batch_answers
from metasd.drafters import LookupDrafter
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.engine import Engine
from metasd.runtime.engine.features import Features
from metasd.runtime.engine.tree import TreePass
from metasd.runtime.load import as_target
from metasd.runtime.models import ModelDrafter, SkipDrafter
from metasd.runtime.parting import partings
from tests.support import tiny

ROOM = Path(metasd.__file__).parent
OF_MODELS = {"input_ids", "inputs_embeds", "past_key_values", "use_cache", "logits_to_keep", "position_ids"}
"""Words that only a causal model is told in a call."""
ENGINE = {"runtime/engine/engine.py", "runtime/engine/forward.py"}
TEACHING = {"distill/models.py"}
"""Passes with gradients, which decode nothing."""
FOLLOWING = {"runtime/sharded.py"}
"""Ranks that hold a part of the weights and repeat the pass that rank 0's engine makes."""
TEXTS = [("a", "x", [3, 4, 5, 3, 4]), ("b", "y", [7, 8, 9])]


def calls(tree: ast.AST) -> Iterator[str]:
    """What reads like a call of a causal model, in words."""
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        called, words = ast.unparse(node.func), {k.arg for k in node.keywords}
        if called.endswith(".generate"):
            continue
        if called.split(".")[-1] in ("model", "Forward") or words & OF_MODELS:
            yield f"line {node.lineno}: {called}({', '.join(sorted(w for w in words if w))})"


def test_no_other_module_calls_a_model() -> None:
    found = {
        str(path.relative_to(ROOM)): said
        for path in sorted(ROOM.rglob("*.py"))
        if (said := list(calls(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert set(found) - TEACHING - FOLLOWING == ENGINE, found
    assert list(calls(ast.parse("def f(self, x): return self.target.model(x, use_cache=True)")))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Widths of all passes of a Llama; one that is no step of the engine fails."""
    kind, seen, step = tiny.LlamaForCausalLM, list[int](), Engine.step.__code__
    forward = kind.forward

    @functools.wraps(forward)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame: Any = sys._getframe()
        while frame is not None and frame.f_code is not step:
            frame = frame.f_back
        assert frame is not None, "a pass that is no step of the engine"
        seen.append(kwargs["input_ids"].shape[1])
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", watched)
    return seen


def test_live_rounds_recordings_distilling_timing_and_margins_are_steps(passes: list[int], tmp_path: Path) -> None:
    target = as_target(tiny.llama(), tiny.tokenizer(), "tiny")
    info = DrafterInfo("near", "model", free=False, deterministic=False)
    drafters = [
        LookupDrafter(draft_length=3),
        ModelDrafter(info, tiny.near(target.model), vocab_size=tiny.VOCABULARY),
        SkipDrafter(target, "1-1"),
    ]
    pool = Pool([d.info for d in drafters], [(d, 3) for d in range(3)])
    counts = [len(passes)]
    (entrant,) = live.contenders(["metasd-ucb"], lambda: (drafters, pool), baseline=False, prior=None)
    live.run(target, [entrant], TEXTS, live.Decoding(max_new_tokens=8))
    counts.append(len(passes))
    record(target, drafters, pool, TEXTS, tmp_path / "trace", max_new_tokens=6)
    counts.append(len(passes))
    list(batch_answers(target, [tokens for _, _, tokens in TEXTS], 6, lambda n: None))
    counts.append(len(passes))
    assert partings(target, TEXTS[:1], [[5, 6]], {"other": [[5, 7]]}, 4)
    counts.append(len(passes))
    assert counts == sorted(set(counts)), "each of them made passes"


@torch.inference_mode()
def test_a_batch_goes_on_with_some_of_its_texts() -> None:
    model = tiny.llama()
    engine, alone = Engine(model), Engine(model)
    engine.step(torch.tensor([[3, 4, 5], [7, 8, 9]]), 1)
    alone.step(torch.tensor([[7, 8, 9]]), 1)
    engine.select([1])
    assert engine.length == 3
    torch.testing.assert_close(engine.step(torch.tensor([[6]]), 1), alone.step(torch.tensor([[6]]), 1))
    engine.crop(2)
    alone.crop(2)
    assert engine.length == alone.length == 2
    torch.testing.assert_close(engine.step(torch.tensor([[5]]), 1), alone.step(torch.tensor([[5]]), 1))
    assert engine.seconds > 0


def test_states_go_with_the_path_of_a_tree_that_stands() -> None:
    model = tiny.llama()
    features, alone = Features((0, 2)), Features((0, 2))
    cached = CachedModel(model, features)
    tree = TreePass(cached)
    tree.step([3, 4, 5], [6, 7, 8, 9], [-1, -1, 1, 0])
    tree.keep([1, 2])
    CachedModel(model, alone).read([3, 4, 5, 7, 8])
    assert features.length == cached.length == 5
    torch.testing.assert_close(features.rows((0, 2), 0, 5), alone.rows((0, 2), 0, 5))
