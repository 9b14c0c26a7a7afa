"""Heads in recordings: the packed diagonal form against step-by-step drafting, and a run against its replay."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch

from metasd.cli import main
from metasd.core.cache_rule import COMMITTED
from metasd.record.run import record
from metasd.runtime import contenders as live
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import Features
from metasd.runtime.heads import everywhere
from metasd.runtime.heads.choose import open_head
from metasd.runtime.heads.drafter import HeadDrafter
from metasd.runtime.load import Target, as_target
from metasd.runtime.registry import build_drafters
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession
from metasd.sim.replay.fidelity import check
from metasd.sim.replay.session import TraceSession
from metasd.traces import Trace, open_trace
from metasd.traces.validate import validate

from ..conftest import tiny_model, tiny_tokenizer
from ..sessions import PROMPTS, generated
from .published import FIXTURES, facts, weights, write

KINDS = ("eagle3", "eagle1", "speculators-0.8", "speculators-qwen3-two", "wide-target", "qwen3-30b-3.1")
LENGTH, BUDGET = 4, 30
TEXTS = [(name, "even" if i % 2 else "odd", tokens) for i, (name, tokens) in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def deep() -> Target:
    target = as_target(tiny_model(2, layers=6), tiny_tokenizer(), "tiny")
    return dataclasses.replace(target, eos_ids=frozenset({34, 61}))


def opened(target: Target, folder: Path, name: str, sampling: Sampling | None = None) -> tuple[HeadDrafter, Features]:
    path = str(write(folder / name, FIXTURES[name], weights(FIXTURES[name])))
    head = open_head(target, path, sampling=sampling, ids=None if facts(FIXTURES[name])["final"] else "hf")
    features = Features(sorted(head.info.needs))
    head.watch(features)
    return head, features


def stepped(head: HeadDrafter, text: list[int], length: int, forced: list[int] | None = None) -> torch.Tensor:
    """[length, V] logits of a draft behind ``text``, one entry after the other; ``forced``: tokens in place of its."""
    inner, cache = head.head, head.head.cache()
    assert head._features is not None
    rows, n = [], len(text) - 1
    with torch.inference_mode():
        states = inner.fuse(head._features.rows(head.info.needs, 0, n))
        logits, own = inner(torch.tensor(text[1:]), states, torch.arange(n), cache)
        logits, own = logits[-1:], own[-1:]
        for j in range(length):
            rows.append(inner.scattered(logits)[0])
            token = inner.tokens(logits.argmax(-1)) if forced is None else torch.tensor(forced[j : j + 1])
            if j + 1 < length:
                logits, own = inner(token, own, torch.tensor([n + j]), cache)
    return torch.stack(rows)


@pytest.mark.parametrize("name", KINDS)
def test_drafts_everywhere_are_the_drafts_step_by_step(
    name: str, deep: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everywhere, "STARTS", 7)
    monkeypatch.setattr(everywhere, "WIDEST", 9)
    head, features = opened(deep, tmp_path, name)
    cached = CachedModel(deep.model, features)
    for prompt in ([30], [8, 8, 8, 12, 50]):
        answer = generated(deep, prompt, BUDGET)
        cached.reset()
        cached.read([*prompt, *answer[:-1]])
        made = head.everywhere(prompt, answer, LENGTH)
        assert made.starts.tolist() == list(range(len(prompt) == 1, len(answer)))
        made.follow(made.greedy)
        for row, t in enumerate(made.starts.tolist()):
            text = [*prompt, *answer[:t]]
            said = stepped(head, text, LENGTH)
            at = torch.full((LENGTH,), t), torch.arange(LENGTH)
            assert torch.allclose(made.logits(*at), said, atol=1e-4, rtol=0)
            assert made.tokens[row].tolist() == said.argmax(-1).tolist()
    head.begin([8, 8, 8, 12, 50])
    assert head.draft(LENGTH).tokens == made.tokens[0].tolist()


def build(target: Target, path: Path, length: int | None = None, sampling: Sampling | None = None) -> Any:
    wanted = [f"head:path={path},name=head,draft_length=2+4", "lookup", "table", "skip:layers=2-3"]
    made, pool = build_drafters(wanted, target, draft_length=LENGTH, sampling=sampling)
    return made, pool if length is None else pool.cut(length)


def near(target: Target, folder: Path) -> Path:
    """A head that says what its last state says through the target's norm and output: right every so often."""
    config, norm = FIXTURES["same-vocabulary"] | {"norm_before_residual": False}, target.model.model.norm.weight
    tensors = weights(config)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        tensors[f"midlayer.{name}.weight"] *= 0.6
    tensors["fc.weight"] = torch.cat([torch.zeros(16, 32), torch.eye(16)], 1)
    tensors["norm.weight"], tensors["lm_head.weight"] = norm.float(), target.model.lm_head.weight.float()
    return write(folder / "near", config, tensors)


@pytest.fixture(scope="module")
def recorded(deep: Target, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trace, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("heads")
    path = near(deep, folder)
    made, pool = build(deep, path)
    summary = record(deep, made, pool, TEXTS, folder / "trace", max_new_tokens=BUDGET)
    return path, open_trace(folder / "trace"), summary


def test_columns_are_what_the_head_and_the_target_say(
    deep: Target, recorded: tuple[Path, Trace, dict[str, Any]]
) -> None:
    path, trace, summary = recorded
    assert trace.path is not None
    assert validate(trace.path)
    assert summary["mismatches"] == 0
    assert trace.drafters[0].cache_rule == COMMITTED
    assert trace.pool().committed.tolist() == [True, False, False, False]
    head = open_head(deep, str(path), ids="hf")
    features, lengths = Features(sorted(head.info.needs)), list[int]()
    head.watch(features)
    cached = CachedModel(deep.model, features)
    assert trace.overlap is not None
    assert trace.confidence is not None
    assert trace.draft_tokens is not None
    for p, (_, _, prompt) in enumerate(TEXTS):
        answer = trace.tokens[trace.offsets[p] : trace.offsets[p + 1]].tolist()
        cached.reset()
        cached.read([*prompt, *answer])
        for t in range(len(answer)):
            row, text = int(trace.offsets[p]) + t, [*prompt, *answer[:t]]
            if len(text) < 2:
                assert (trace.proposed[row, 0], trace.accepted[row, 0]) == (0, 0)
                continue
            said = stepped(head, text, LENGTH)
            tokens = said.argmax(-1).tolist()
            assert trace.draft_tokens[row, 0].tolist() == tokens
            agrees = [a == b for a, b in zip(tokens, answer[t:], strict=False)]
            assert trace.accepted[row, 0] == (agrees.index(False) if False in agrees else len(agrees))
            p_rows = deep.model(torch.tensor([[*text, *tokens[:-1]]])).logits[0, -LENGTH:].softmax(-1)
            overlap = torch.minimum(p_rows, said.softmax(-1)).sum(-1)
            np.testing.assert_allclose(trace.overlap[row, 0].astype(float), overlap, atol=1e-3)
            shown = said.softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
            np.testing.assert_allclose(trace.confidence[row, 0].astype(float), shown, atol=1e-3)
            lengths.append(int(trace.accepted[row, 0]))
    assert min(lengths) == 0
    assert max(lengths) >= 2, "a head that is never right would test little"


POLICIES = (
    *("random", "metasd-ucb", "default", "planner", "hedgespec", "fixed:arm=head@4", "fixed:arm=head@2"),
    *("discounted-ucb", "exp3"),
)


@pytest.mark.parametrize("spec", POLICIES)
def test_a_run_is_its_replay(spec: str, deep: Target, recorded: tuple[Path, Trace, dict[str, Any]]) -> None:
    """Heads, tables and lookup in turn: rounds, catch-up and texts, on the clock of the trace."""
    path, trace, _ = recorded
    how = live.Decoding(max_new_tokens=BUDGET, clock="model", costs=trace.costs)
    entrants = live.contenders([spec], partial(build, deep, path), baseline=False, prior=None)
    live.run(deep, entrants, TEXTS, how)
    ids, texts = [name for name, _, _ in TEXTS], entrants[0].session.texts
    found = check(entrants[0].rounds, ids, trace, spec, costs=how.costs, texts=texts, budget=BUDGET)
    assert found.identical
    if spec == "random":
        assert found.switches > 10
        assert sum(int(r.catch_up.sum()) for r in entrants[0].rounds) > 50


def test_everything_revealed_live_is_revealed_in_replay(
    deep: Target, recorded: tuple[Path, Trace, dict[str, Any]]
) -> None:
    """Agreement of a head at every position; no length of it, which live nobody knows."""
    path, trace, _ = recorded
    made, pool = build(deep, path)
    prompts = [(name, tokens) for name, _, tokens in TEXTS]
    alive = LiveSession(deep, made, pool, prompts, max_new_tokens=BUDGET, feedback="full", scope="all")
    again = TraceSession.in_order(trace, pool, orders=[np.arange(4)], seeds=[0], feedback="full", scope="all")
    rng, heads = np.random.default_rng(2), 0
    while not alive.done:
        arm = np.array([int(rng.integers(len(pool)))])
        one, other = alive.play(arm), again.play(arm)
        assert one.counts() == other.counts()
        mine, its = alive.reveal(), again.reveal()
        np.testing.assert_array_equal(mine.agreement, its.agreement)
        for name in ("position", "start", "drafter", "proposed", "accepted", "ended"):
            assert getattr(mine, name).tolist() == getattr(its, name).tolist(), name
        assert 0 not in mine.drafter.tolist()
        heads += int(np.isfinite(mine.agreement[:, 0]).sum())
    assert heads > 50


HOT = Sampling(0.8, top_k=20)


def test_sampled_acceptance_is_the_ratio_of_the_heads_own_draft(deep: Target, tmp_path: Path) -> None:
    """At every start and depth: behind the text's tokens, which the head goes through with its own features."""
    path = write(tmp_path / "h", FIXTURES["eagle3"], weights(FIXTURES["eagle3"]))
    made, pool = build(deep, path, sampling=HOT)
    summary = record(deep, made, pool, TEXTS, tmp_path / "t", max_new_tokens=14, sampling=HOT, seed=3)
    trace, head = open_trace(tmp_path / "t"), open_head(deep, str(path), sampling=HOT)
    assert summary["mismatches"] == 0
    assert validate(tmp_path / "t")
    assert trace.accept is not None
    assert trace.draft_tokens is not None
    assert trace.overlap is not None
    features, seen, apart = Features(sorted(head.info.needs)), 0, 0.0
    head.watch(features)
    cached = CachedModel(deep.model, features)
    for p, (_, _, prompt) in enumerate(TEXTS):
        answer = trace.tokens[trace.offsets[p] : trace.offsets[p + 1]].tolist()
        cached.reset()
        cached.read([*prompt, *answer])
        law = HOT.probs(deep.model(torch.tensor([[*prompt, *answer]])).logits[0])
        for t in range(len(prompt) == 1, len(answer)):
            row, text = int(trace.offsets[p]) + t, [*prompt, *answer[:t]]
            forced = HOT.probs(stepped(head, text, LENGTH, [*answer[t:], *[0] * LENGTH]))
            for depth in range(LENGTH):
                if t + depth >= len(answer):
                    assert trace.accept[row, 0, depth] == 0
                    continue
                y = answer[t + depth]
                ratio = min(1.0, float(forced[depth, y] / law[len(text) + depth - 1, y]))
                assert float(trace.accept[row, 0, depth]) == pytest.approx(ratio, abs=1e-3)
                fresh = float(trace.accept[row + depth, 0, 0])
                seen, apart = seen + (0 < ratio < 1), max(apart, abs(ratio - fresh))
            chain = trace.draft_tokens[row, 0].tolist()
            q = HOT.probs(stepped(head, text, LENGTH, chain))
            mine = law[len(text) - 1]
            assert q[0, chain[0]] > mine[chain[0]], "only such a token can be rejected"
            assert all(q[i, x] > 0 for i, x in enumerate(chain))
            beside = HOT.probs(deep.model(torch.tensor([[*text, *chain[:-1]]])).logits[0, -LENGTH:])
            overlap = torch.minimum(beside, q).sum(-1)
            np.testing.assert_allclose(trace.overlap[row, 0].astype(float), overlap, atol=1e-3)
    assert seen > 20
    assert apart > 0.05, "with true features at every depth the same would be recorded for all starts"


def test_record_validate_replay_and_run_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model(2, layers=6, dtype=torch.float32)
    tiny.save(model, tiny_tokenizer(), tmp_path / "target")
    head = near(as_target(model, tiny_tokenizer(), "tiny"), tmp_path)
    prompts = [{"id": f"p{i}", "domain": "d", "prompt": f"w5 w{i + 9} w5 w{i + 9} w7"} for i in range(3)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    given = ["--target", str(tmp_path / "target"), "--prompts", str(tmp_path / "p.jsonl"), "--max-new-tokens", "20"]
    given += ["--drafter", f"head:path={head},name=head,ids=hf", "--drafter", "lookup", "--draft-length", "3"]
    trace = str(tmp_path / "trace")
    assert main(["record", *given, "--out", trace]) == 0
    assert main(["trace", "validate", trace]) == 0
    capsys.readouterr()
    assert main(["run", *given, "--policy", "random", "--trace", trace, "--json"]) == 0
    ran = json.loads(capsys.readouterr().out)
    assert main(["replay", "--trace", trace, "--policy", "random", "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    assert ran["fidelity"]["identical"] is True
    mine, its = (next(r for r in got["results"] if r["domain"] == "all") for got in (ran, replayed))
    assert mine["catch_up"] == its["catch_up"] > 0
