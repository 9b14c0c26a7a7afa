"""Nothing stays on the CPU that a model on a GPU needs: every way of decoding and recording, on a played device."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
from far import FAR, FarDevice, far

from metasd.core.plans import ROOT, Plan
from metasd.core.pool import DrafterInfo, Pool
from metasd.distill.answers import batch_answers
from metasd.drafters import LookupDrafter, TableDrafter
from metasd.drafters.base import Drafter
from metasd.record.reader import StepReader
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime.load import Target, as_target
from metasd.runtime.models import ModelDrafter, SkipDrafter
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession
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


@pytest.mark.parametrize(
    ("read", "count"),
    [
        (lambda t: t.tolist(), 1),
        (lambda t: int(t[0]), 1),
        (lambda t: t.cpu(), 1),
        (lambda t: t.to(torch.device("cpu")), 1),
        (lambda t: t[t[1]], 1),  # an index in brackets is read
        (lambda t: t[t > 0], 1),
        (lambda t: [t[0] if t.sum() > 2 else t[1], t.argmax().item()], 2),
        (lambda t: t.index_select(0, t[1][None]) + t.gather(0, t), 0),
        (lambda t: t.to(FAR).double()[:2], 0),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_played_device_counts_what_is_read(read: Any, count: int, mode: Any) -> None:
    with FarDevice() as device, mode():
        there = torch.arange(3, device=FAR)
        here = torch.arange(3)
        before = device.reads
        read(there)
        assert device.reads - before == count
        read(here.to(FAR))
        assert device.reads - before == 2 * count
        here.tolist()
        assert device.reads - before == 2 * count


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_round_reads_the_device_once_and_a_model_drafter_once_more(sampling: Sampling) -> None:
    with FarDevice() as device:
        target, drafters, pool = world(sampling, far)
        texts = [(name, tokens) for name, _, tokens in TEXTS]
        pool = pool.with_plain()
        session = LiveSession(target, drafters, pool, texts, max_new_tokens=40, sampling=sampling, overlap=True)
        reads: dict[str, set[int]] = {}
        for arm in itertools.cycle(range(len(pool))):
            if session.done:
                break
            drafts = session.context.remaining[0] > 4  # and the prompt is read
            before, waited = device.reads, device.waits
            session.play(np.array([arm]))
            name = "plain" if pool.plain[arm] else pool.drafters[pool.drafter_of[arm]].name
            if drafts:
                reads.setdefault(name, set()).add(device.reads - before)
            assert device.waits == waited, "nobody waits for the device besides"
        assert session.forward_seconds > 0
    assert reads == {"plain": {1}, "lookup": {1}, "table": {1}, "near": {2}, "skip": {2}}


def test_a_tree_is_read_once() -> None:
    with FarDevice() as device:
        target, drafters, pool = world(GREEDY, far)
        session = LiveSession(target, drafters, pool.with_plain(), [("a", TEXTS[0][2])], max_new_tokens=30, plans=True)
        for nodes in ((), (3,), (4, 5, 6), (7, 8)):
            assert session.context.branches
            before, waited = device.reads, device.waits
            session.play_plans([Plan(nodes, (ROOT, ROOT, 0)[: len(nodes)])])
            assert (device.reads - before, device.waits) == (1, waited)


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
    wanted = [a.tokens for a in batch_answers(near, prompts, 6, lambda n: None)]
    with FarDevice() as device:
        target, _, _ = world(GREEDY, far)
        before, steps = device.reads, list[int]()
        assert [a.tokens for a in batch_answers(target, prompts, 6, steps.append)] == wanted
        # a step of a batch is one read, and transformers looks at the padding's mask
        assert len(steps) <= device.reads - before <= 2 * len(steps) + 1
        assert [a.tokens for a in batch_answers(target, prompts, 6, lambda n: None)] == wanted
        reader = StepReader(target.model)
        for _, logits in reader.read(prompts[0], 2, 2):
            assert logits.device == FAR
        assert reader.grow([3, 4], [2, 2], [-1, 0]).device == FAR
