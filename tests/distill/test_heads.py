"""Heads made by distilling: what is learned, what is written, what a kill leaves, what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from metasd.cli import main
from metasd.core import poolfolder
from metasd.core.errors import UsageError
from metasd.distill import train as module
from metasd.distill.answers import Answer
from metasd.distill.begin import begun, layers_of
from metasd.distill.states import Sample, draft_vocabulary, sampled
from metasd.distill.train import Training, judge, split
from metasd.distill.unroll import HeadLearner, accepted, joined, loss_of, unrolled
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import Features
from metasd.runtime.heads.choose import open_head
from metasd.runtime.load import Target
from metasd.runtime.registry import build_drafters
from metasd.runtime.session import LiveSession

PROGRAM = Path(__file__).with_name("killed.py")
_spec = importlib.util.spec_from_file_location("killed", PROGRAM)
assert _spec is not None
assert _spec.loader is not None
killed: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(killed)
HOW: Training = killed.TRAINING


@dataclass
class Reads:
    """What is asked of ``sampled``."""

    layers: tuple[int, ...]
    vocabulary: torch.Tensor


@pytest.fixture(scope="module")
def target() -> Target:
    return killed.target()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pools") / "whole"
    killed.make(out, kind="head")
    killed.make(out, kind="table")
    return out


def answers(pool: Path) -> dict[str, list[Answer]]:
    rows = json.loads((pool / "manifest.json").read_text())["answers"]
    found = {r["domain"]: json.loads((pool / r["file"]).read_text())["answers"] for r in rows}
    return {domain: [Answer(**a) for a in own] for domain, own in found.items()}


def samples_of(target: Target, pool: Path) -> list[Sample]:
    own = [a for part in answers(pool).values() for a in part]
    vocabulary = draft_vocabulary([a.prompt + a.tokens for a in own], HOW.draft_vocabulary, target.vocab_size)
    return sampled(target, own, [Reads(layers_of(target), vocabulary)])[0]


def test_a_trained_head_drafts_what_the_untrained_does_not(target: Target, pool: Path) -> None:
    """The target repeats itself, so there is something to learn; on answers that neither has seen."""
    rows = {r["domain"]: r for r in json.loads((pool / "manifest.json").read_text())["heads"]}
    assert {*rows} == {"even", "odd", "all"}
    texts = [a.prompt + a.tokens for own in answers(pool).values() for a in own]
    vocabulary = draft_vocabulary(texts, HOW.draft_vocabulary, target.vocab_size)
    for domain, own in answers(pool).items():
        held = split(sampled(target, own, [Reads(layers_of(target), vocabulary)])[0], HOW.held_out)[1]
        assert len(held) == rows[domain]["held_out"] == 2
        fresh = judge(HeadLearner(begun(target, vocabulary, HOW.unroll, 0)), held, HOW)
        for made in (rows[domain], rows["all"]):
            found = made["acceptance"][domain]
            assert found["loss"] < 0.7 * fresh.loss
            assert found["tokens_per_round"] > 1.3 * fresh.tokens_per_round
            assert found["stands"] == sorted(found["stands"], reverse=True)


def test_the_files_say_what_readers_of_the_format_ask(target: Target, pool: Path) -> None:
    place = pool / "heads" / "odd"
    config, tensors = json.loads((place / "config.json").read_text()), load_file(place / "model.safetensors")
    assert config["speculators_config"]["proposal_methods"][0]["speculative_tokens"] == HOW.unroll
    assert config["speculators_config"]["verifier"]["name_or_path"] == "tiny"
    assert [config[k] for k in ("norm_before_residual", "norm_before_fc", "fc_norm", "norm_output")] == [False] * 4
    assert config["eagle_aux_hidden_state_layer_ids"] == [2, 3, 3]
    assert tensors["lm_head.weight"].shape == (16, 16)
    assert tensors["t2d"].sum() == 16
    ids = tensors["d2t"] + torch.arange(16)
    rows = target.model.lm_head.weight[ids]
    assert torch.allclose(tensors["lm_head.weight"].float(), rows, atol=1e-3), "the target's rows, not trained"
    head = open_head(target, str(place))
    assert head.info.needs == layers_of(target)
    assert head.notes == []
    assert torch.equal(head.head.token_ids, ids)


def test_a_step_behind_a_start_is_the_heads_own_draft(target: Target, pool: Path) -> None:
    """What is judged in training is what a drafter proposes live, several samples side by side."""
    head = open_head(target, str(pool / "heads" / "all"))
    samples = samples_of(target, pool)[:3]
    with torch.no_grad():
        batch = joined(samples, HOW.unroll, head.head.device, torch.float32)
        found = np.split(accepted(head.head, unrolled(head.head, batch, HOW.unroll), batch), np.cumsum(batch.lengths))
    features, hits = Features(sorted({*head.info.needs})), 0
    cached = CachedModel(target.model, features)
    head.watch(features)
    for sample, own in zip(samples, found, strict=False):
        tokens = sample.tokens.tolist()
        cached.reset()
        cached.read(tokens[:-1])
        for t, count in enumerate(own):
            head.begin(tokens[: sample.first + t])
            drafted, rest = head.draft(HOW.unroll).tokens, tokens[sample.first + t :]
            agrees = [a == b for a, b in zip(drafted, rest, strict=False)]
            assert count == (agrees.index(False) if False in agrees else len(agrees))
            hits += count
    assert hits > 20


def test_the_loss_is_the_cross_entropy_to_the_targets_opinion(target: Target, pool: Path) -> None:
    """One sample, step by step in plain sums; only where the target's choice can be drafted."""
    own = [a for part in answers(pool).values() for a in part]
    ((sample,),) = sampled(target, own[-1:], [Reads(layers_of(target), torch.arange(2, 18))])
    head = begun(target, torch.arange(2, 18), HOW.unroll, 0)
    batch = joined([sample], 2, head.device, torch.float32)
    logits = [torch.randn(sample.answer, 16, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    total = []
    for step in (0, 1):
        each = []
        for t in range(sample.answer - step):
            if sample.inside[t + step]:
                q = logits[step][t].log_softmax(-1)
                shares = zip(sample.ids[t + step].tolist(), sample.shares[t + step].tolist(), strict=True)
                each.append(-sum(share * float(q[i]) for i, share in shares))
        total.append(sum(each) / len(each))
    assert not sample.inside.all(), "some of the target's choices are outside"
    assert float(loss_of(logits, batch)) == pytest.approx((total[0] + 0.8 * total[1]) / 1.8, rel=1e-5)


def test_samples_hold_the_targets_states_and_choices(target: Target, pool: Path) -> None:
    answer = answers(pool)["odd"][0]
    everything = Reads((), torch.arange(target.vocab_size))
    (sample,), (bare,) = sampled(target, [answer], [Reads(layers_of(target), torch.arange(3, 19)), everything])
    tokens = answer.prompt + answer.tokens
    out = target.model(torch.tensor([tokens]), output_hidden_states=True)
    states = torch.cat([out.hidden_states[i][0] for i in layers_of(target)], -1)[:-2]
    assert torch.allclose(sample.states.float(), states, atol=1e-2, rtol=1e-3)
    logits = out.logits[0, len(answer.prompt) - 1 : -1]
    assert logits.argmax(-1).tolist() == answer.tokens
    assert sample.inside.tolist() == [3 <= t < 19 for t in answer.tokens]
    shares = torch.zeros(len(answer.tokens), 16).scatter(1, sample.ids, sample.shares.float())
    assert torch.allclose(shares, logits[:, 3:19].softmax(-1), atol=1e-3)
    assert bare.states.shape == (len(tokens) - 2, 0)
    assert bare.inside.all()
    assert bare.ids[:, 0].tolist() == answer.tokens


def test_a_vocabulary_is_what_is_used_most_filled_with_low_ids() -> None:
    assert draft_vocabulary([[5, 5, 9, 9, 9], [7]], 2, 12).tolist() == [5, 9]
    assert draft_vocabulary([[5, 5, 9, 9, 9], [7]], 5, 12).tolist() == [0, 1, 5, 7, 9]
    assert draft_vocabulary([[5]], 99, 4).tolist()[-1] == 5


def test_a_training_that_was_killed_goes_on_and_ends_alike(pool: Path, tmp_path: Path) -> None:
    out, environment = tmp_path / "pool", os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, PROGRAM, out], env=environment, stderr=subprocess.DEVNULL)
    work, deadline = out / "work" / "head-odd.safetensors", time.monotonic() + 120
    while not work.exists() or step_of(work) < 5:
        assert time.monotonic() < deadline
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    begun_at, first = step_of(work), load_file(out / "heads" / "even" / "model.safetensors")
    steps: list[int] = []
    forward = module._Run.forward

    def counted(run: Any) -> None:
        steps.append(run.step)
        forward(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Run, "forward", counted)
        killed.make(out)
    assert steps[0] == begun_at >= 5, "it went on from the checkpoint, and the head before it was not made again"
    assert not work.exists()
    for name in ("even", "odd", "all"):
        whole, again = (load_file(p / "heads" / name / "model.safetensors") for p in (pool, out))
        for key in whole:
            assert torch.allclose(whole[key].float(), again[key].float(), atol=2e-3), (name, key)
    assert all(torch.equal(first[k], v) for k, v in load_file(out / "heads" / "even" / "model.safetensors").items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metasd.distill.trained.train", None)
        killed.make(out)


def step_of(work: Path) -> int:
    with safe_open(work, "pt") as file:
        return int(json.loads(file.metadata()["state"])["step"])


def test_training_stops_where_it_gets_no_better(target: Target, pool: Path, tmp_path: Path) -> None:
    samples, said = samples_of(target, pool), list[str]()
    how = replace(HOW, epochs=40, patience=1, rate=0.2)
    vocabulary = draft_vocabulary([s.tokens.tolist() for s in samples], 16, target.vocab_size)
    head = begun(target, vocabulary, 3, 0)
    found = module.train(
        HeadLearner(head), samples[:-2], samples[-2:], how, tmp_path / "w.safetensors", said.append, "h"
    )
    assert 20 < len(said) < 40
    losses = [float(line.split("held out ")[1].split(",")[0]) for line in said]
    assert found.loss == pytest.approx(min(losses), abs=2e-3), "the best is kept, not the last"
    assert losses[-1] > min(losses)


def test_a_pool_drafts_and_is_refused_for_another_target(target: Target, pool: Path) -> None:
    made, arms = build_drafters([str(pool)], target)
    assert [d.info.name for d in made] == ["table-even", "table-odd", "head-even", "head-odd"]
    assert [d.info.settings["domain"] for d in made] == ["even", "odd"] * 2
    over_all, _ = build_drafters([f"head:path={pool / 'heads' / 'all'}"], target)
    assert over_all[0].info.settings["domain"] == "all"
    text = target.encode("w5 w9 w7")
    session = LiveSession(target, made, arms, [("p", text)], max_new_tokens=20)
    rng, drafted = np.random.default_rng(1), 0
    while not session.done:
        rounds = session.play(np.array([int(rng.integers(len(arms)))]))
        drafted += int(rounds.drafted[0])
    assert drafted > 5
    logits = target.model(torch.tensor([[*text, *session.texts[0]]])).logits[0]
    assert logits[len(text) - 1 : -1].argmax(-1).tolist() == session.texts[0]
    with pytest.raises(UsageError, match=r"made for target tiny \(seed7\), not for tiny \(seed8\)") as raised:
        build_drafters([str(pool)], killed.target(8))
    assert "\n" not in str(raised.value)
    tables = json.loads((pool / "manifest.json").read_text())
    assert poolfolder.members(pool)[0].kind == "table"
    assert tables["complete"] is True
    assert all(r["sha256"] for r in tables["answers"])


def test_refusals(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another configuration"):
        killed.make(pool, training=replace(HOW, unroll=2))
    with pytest.raises(UsageError, match="unknown kind 'heads'"):
        killed.make(tmp_path, kind="heads")
    for change in ({"unroll": 0}, {"held_out": 1}, {"rate": 0.0}, {"entries": 0}):
        with pytest.raises(UsageError, match=next(iter(change))):
            replace(HOW, **change)
    assert split([1], 8) == ([1], [])
    assert split([1, 2], 8) == ([1], [2])
    assert split(list(range(9)), 4) == ([0, 1, 2, 4, 5, 6, 8], [3, 7])


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.save(killed.target().model, tiny.tokenizer(), tmp_path / "target")
    tiny.save(killed.target(8).model, tiny.tokenizer(), tmp_path / "other")
    lines = [{"id": p.id, "domain": p.domain, "prompt": p.turns[0]} for p in killed.prompts()[:6]]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = ["--prompts", str(tmp_path / "p.jsonl"), "--max-new-tokens", "12"]
    out = ["--out", str(tmp_path / "pool"), "--kind", "head", "--epochs", "2", "--draft-vocabulary", "9", "--json"]
    assert main(["distill", "--target", str(tmp_path / "target"), *given, *out]) == 0
    told, err = capsys.readouterr()
    found = json.loads(told)
    assert found["tables"] == []
    assert [h["domain"] for h in found["heads"]] == ["even", "odd", "all"]
    assert "head even: epoch 1/2, loss " in err
    pool = ["--drafter", str(tmp_path / "pool"), "--policy", "random", "--quiet"]
    assert main(["run", "--target", str(tmp_path / "target"), *given, *pool]) == 0
    assert main(["run", "--target", str(tmp_path / "other"), *given, *pool]) == 2
    assert "was made for target" in capsys.readouterr().err.strip().splitlines()[-1]
