"""Nothing stays on the CPU that a model on a GPU needs: every way of decoding and recording, on a played device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
from far import FAR, FarDevice, far

from metasd.core.pool import DrafterInfo, Pool
from metasd.distill.answers import greedy_answers
from metasd.drafters import LookupDrafter, TableDrafter
from metasd.drafters.base import Drafter
from metasd.record.reader import StepReader
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime.load import Target, as_target
from metasd.runtime.models import ModelDrafter, SkipDrafter
from metasd.runtime.sampling import Sampling
from metasd.traces import open_trace

GREEDY, SAMPLED = Sampling(), Sampling(temperature=0.8, top_k=12, top_p=0.9)
TEXTS = [("a", "x", [3, 4, 5, 3, 4]), ("b", "y", [7, 8, 9])]
SPECS = ("hedgespec", "metasd-ucb", "random")


def world(sampling: Sampling, move: Any = lambda model: model) -> tuple[Target, list[Drafter], Pool]:
    """A target and a pool with a drafter of every kind, its models moved by ``move``."""
    model, near = tiny.llama(), tiny.near(tiny.llama())
    target = as_target(move(model), tiny.tokenizer(), "tiny")
    info = DrafterInfo("near", "model", free=False, deterministic=False)
    drafters: list[Drafter] = [
        LookupDrafter(draft_length=3),
        TableDrafter(draft_length=3),
        ModelDrafter(info, move(near), vocab_size=tiny.VOCABULARY, sampling=sampling),
        SkipDrafter(target, "1-1", sampling=sampling),
    ]
    return target, drafters, Pool([d.info for d in drafters], [(d, 3) for d in range(4)])


def decoded(sampling: Sampling, move: Any = lambda model: model) -> list[list[list[int]]]:
    texts = []
    for spec in SPECS:
        target, drafters, pool = world(sampling, move)
        (entrant,) = live.contenders([spec], lambda d=drafters, p=pool: (d, p), baseline=False, prior=None)
        live.run(target, [entrant], TEXTS, live.Decoding(max_new_tokens=10, sampling=sampling))
        texts.append(entrant.session.texts)
    return texts


def test_the_played_device_refuses_what_a_gpu_refuses() -> None:
    with FarDevice():
        there, here = torch.arange(3, device=FAR), torch.arange(3)
        assert there.device == (there + 1).device == here.to(FAR).device == FAR
        assert there.cpu().device == here.device == torch.device("cpu")
        with pytest.raises(RuntimeError, match="two devices"):
            there + here
        with pytest.raises(RuntimeError, match="two devices"):
            there.gather(0, here)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with pytest.raises(AssertionError, match="of the CPU"):
            far(tiny.llama())(input_ids=here[None])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_decoding_with_every_kind_of_drafter(sampling: Sampling) -> None:
    near = decoded(sampling)
    with FarDevice() as device:
        assert decoded(sampling, far) == near
    assert device.waits > 0


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_recording_every_kind_of_drafter(sampling: Sampling, tmp_path: Path) -> None:
    target, drafters, pool = world(sampling)
    record(target, drafters, pool, TEXTS, tmp_path / "near", max_new_tokens=10, sampling=sampling)
    with FarDevice():
        target, drafters, pool = world(sampling, far)
        made = record(target, drafters, pool, TEXTS, tmp_path / "far", max_new_tokens=10, sampling=sampling)
    assert made["packed"]["target"]
    near, there = open_trace(tmp_path / "near"), open_trace(tmp_path / "far")
    assert there.tokens.tolist() == near.tokens.tolist()
    assert there.accepted.tolist() == near.accepted.tolist()
    assert there.costs is not None
    assert there.costs.measured["machine"]["gpu"] == "played by the CPU"


def test_reading_step_by_step_and_answering_in_a_batch() -> None:
    near, _, _ = world(GREEDY)
    prompts = [tokens for _, _, tokens in TEXTS]
    wanted = [a.tokens for a in greedy_answers(near, prompts, 6, lambda n: None)]
    with FarDevice():
        target, _, _ = world(GREEDY, far)
        assert [a.tokens for a in greedy_answers(target, prompts, 6, lambda n: None)] == wanted
        reader = StepReader(target.model)
        for _, logits in reader.read(prompts[0], 2, 2):
            assert logits.device == FAR
        assert reader.grow([3, 4], [2, 2], [-1, 0]).device == FAR
