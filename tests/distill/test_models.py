"""Small models made by distilling: what they learn, how they are judged, that they draft."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from metasd.distill.answers import Answer
from metasd.distill.models import ModelLearner, begun
from metasd.distill.states import sampled
from metasd.distill.train import judge, split
from metasd.runtime.models import ModelDrafter
from metasd.runtime.registry import build_drafters

_spec = importlib.util.spec_from_file_location("killed", Path(__file__).with_name("killed.py"))
assert _spec is not None
assert _spec.loader is not None
killed: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(killed)
HOW = replace(killed.TRAINING, epochs=10)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "pool"
    killed.make(out, kind="model", training=HOW)
    return out


def test_a_trained_model_is_better_than_an_untrained_and_drafts_as_judged(pool: Path) -> None:
    target, manifest = killed.target(), json.loads((pool / "manifest.json").read_text())
    rows = {r["domain"]: r for r in manifest["models"]}
    assert {*rows} == {"even", "odd", "all"}
    drafters, arms = build_drafters([str(pool)], target, draft_length=HOW.unroll)
    assert [d.info.name for d in drafters] == ["model-even", "model-odd"]
    for drafter, domain in zip(drafters, ("even", "odd"), strict=True):
        file = next(r["file"] for r in manifest["answers"] if r["domain"] == domain)
        own = [Answer(**a) for a in json.loads((pool / file).read_text())["answers"]]
        held = split(sampled(target, own, (), torch.arange(target.vocab_size)), HOW.held_out)[1]
        fresh, found = judge(ModelLearner(begun(target, 0)), held, HOW), rows[domain]["acceptance"][domain]
        assert found["loss"] < 0.8 * fresh.loss
        assert found["tokens_per_round"] > 1.3 * fresh.tokens_per_round
        assert isinstance(drafter, ModelDrafter)
        hits = []
        for sample in held:
            tokens = sample.tokens.tolist()
            for at in range(sample.first, len(tokens)):
                drafter.begin(tokens[:at])
                drafted = drafter.draft(HOW.unroll).tokens
                agrees = [a == b for a, b in zip(drafted, tokens[at:], strict=False)]
                hits.append(agrees.index(False) if False in agrees else len(agrees))
        stands = [float((np.array(hits) > depth).mean()) for depth in range(HOW.unroll)]
        np.testing.assert_allclose(found["stands"], stands, atol=0.02)
    assert len(arms) == 3
