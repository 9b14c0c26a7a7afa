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

from metasd.distill import models
from metasd.distill.answers import Answer
from metasd.distill.models import ModelLearner, ModelMaker, begun
from metasd.distill.states import Sample, sampled
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


def answers_of(pool: Path, manifest: dict[str, Any]) -> dict[str, list[Answer]]:
    found = {r["domain"]: json.loads((pool / r["file"]).read_text())["answers"] for r in manifest["answers"]}
    return {domain: [Answer(**a) for a in own] for domain, own in found.items()}


def test_a_trained_model_is_better_than_an_untrained_and_drafts_as_judged(pool: Path) -> None:
    target, manifest = killed.target(), json.loads((pool / "manifest.json").read_text())
    rows = {r["domain"]: r for r in manifest["models"]}
    assert {*rows} == {"even", "odd", "all"}
    drafters, arms = build_drafters([str(pool)], target, draft_length=HOW.unroll)
    assert [d.info.name for d in drafters] == ["model-even", "model-odd"]
    maker = ModelMaker(target, answers_of(pool, manifest), HOW)
    assert len(maker.vocabulary) < target.vocab_size, "the softmax of training is over a part"
    for drafter, domain in zip(drafters, ("even", "odd"), strict=True):
        file = next(r["file"] for r in manifest["answers"] if r["domain"] == domain)
        own = [Answer(**a) for a in json.loads((pool / file).read_text())["answers"]]
        held = split(sampled(target, own, [maker])[0], HOW.held_out)[1]
        fresh, found = judge(maker.begun(), held, HOW), rows[domain]["acceptance"][domain]
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


@torch.no_grad()
def test_the_loss_over_a_part_is_that_over_all_where_all_others_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every other token drawn once, the sampled softmax is the whole one: the target's share of its own tokens."""
    target = killed.target()
    model = begun(target, 0)
    total = target.vocab_size
    vocabulary = torch.arange(3, 19)
    sample = Sample(
        torch.tensor([3, 1, 4, 7, 9, 4]),
        3,
        torch.zeros(4, 0),
        torch.tensor([[4, 0], [6, 1], [1, 2]]),
        torch.tensor([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]]),
        torch.ones(3, dtype=torch.bool),
    )
    learner = ModelLearner(model, vocabulary)
    monkeypatch.setattr(models, "OTHERS", total)
    every = torch.arange(total - 16)
    monkeypatch.setattr(models.torch, "randint", lambda *_, **__: every)
    said = model(input_ids=sample.tokens[None]).logits[0].log_softmax(-1)
    own = -(sample.shares * said[2:5].gather(1, vocabulary[sample.ids])).sum(-1).mean()
    read = -said[1, 4]  # of the prompt's tokens behind the first, 1 and 4, the first is no draft token
    assert float(learner.loss([sample], 3)) == pytest.approx(float(own + models.PROMPTS * read), rel=1e-5)


@torch.no_grad()
def test_others_are_weighed_as_if_they_were_all() -> None:
    """The denominator of the sampled softmax is the whole one's, on average over draws."""
    target = killed.target()
    model = begun(target, 0)
    rows, state = model.get_output_embeddings().weight.detach(), torch.randn(rows_width(model))
    vocabulary = torch.arange(3, 19)
    whole = float((rows @ state).exp().sum())
    learner, draws = ModelLearner(model, vocabulary), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "OTHERS", 6)
        for seed in range(400):
            sample = Sample(torch.tensor([seed, 1, 1]), 1, *[torch.zeros(0)] * 4)  # the batch decides the draw
            matrix, weigh = learner._rows([sample])
            assert len(matrix) == 16 + 6
            draws.append(float(((matrix.detach() @ state) + weigh).exp().sum()))
    assert np.mean(draws) == pytest.approx(whole, rel=0.02)
    assert len({round(d, 4) for d in draws}) > 50


def rows_width(model: Any) -> int:
    return int(model.config.hidden_size)
