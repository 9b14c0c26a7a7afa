"""Heads in a session: the target's own text, catch-up as the cache rule says, and replay round for round."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from metasd.core.cache_rule import COMMITTED
from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import FINAL, Features
from metasd.runtime.heads.choose import open_head
from metasd.runtime.load import Target, as_target
from metasd.runtime.registry import build_drafters
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession

from ..conftest import tiny_model, tiny_tokenizer
from ..sessions import PROMPTS, generated, play_all
from .published import FIXTURES, drafted, nested, weights, write

KINDS = ("eagle3", "eagle1", "speculators-0.8", "one-state")


@pytest.fixture(scope="module")
def deep() -> Target:
    target = as_target(tiny_model(2, layers=6), tiny_tokenizer(), "tiny")
    return dataclasses.replace(target, eos_ids=frozenset({34, 61}))


def folder(tmp_path: Path, name: str, **change: Any) -> str:
    return str(write(tmp_path / name, FIXTURES[name] | change, weights(FIXTURES[name])))


def spec(path: str, name: str) -> str:
    return f"head:path={path}" + (",ids=hf" if name == "gpt-oss-20b" else "")


@pytest.mark.parametrize("name", KINDS)
def test_a_draft_is_what_plain_functions_say_of_the_targets_own_states(name: str, deep: Target, tmp_path: Path) -> None:
    drafter = open_head(deep, folder(tmp_path, name))
    text = [5, 9, 7, 30, 44, 3, 19]
    out = deep.model(torch.tensor([text]), output_hidden_states=True)
    states = torch.cat([out.hidden_states[i][0] for i in drafter.info.needs], -1)
    if 6 in drafter.info.needs:  # before the norm, which transformers does not give
        kept: list[Any] = []
        with deep.model.model.layers[5].register_forward_hook(lambda m, a, o: kept.append(o)):
            deep.model(torch.tensor([text]))
        states[:, -16:] = kept[0][0]
    assert (FINAL in drafter.info.needs) == (name in ("eagle1", "one-state"))
    features = Features(sorted(drafter.info.needs))
    cached = CachedModel(deep.model, features)
    drafter.watch(features)
    drafter.begin(text[:4])
    cached.read(text[:3])
    drafter.draft(4)
    cached.read(text[:-1])
    drafter.extend(text[4:])
    assert drafter.lag == 3
    made = drafter.draft(4)
    embed, unembed = deep.model.get_input_embeddings().weight, deep.model.get_output_embeddings().weight
    expected, _ = drafted(FIXTURES[name], weights(FIXTURES[name]), text, states, 4, embed, unembed)
    assert made.tokens == expected
    assert (made.catch_up, drafter.lag) == (3, 0)
    assert drafter.draft(4).tokens == expected, "a draft leaves nothing behind"


@pytest.mark.parametrize("name", KINDS)
def test_parity_and_catch_up_while_switching(name: str, deep: Target, tmp_path: Path) -> None:
    wanted = [f"head:path={folder(tmp_path, name)},draft_length=1+4", "lookup", "table", "skip:layers=2-3"]
    made, pool = build_drafters(wanted, deep, draft_length=4)
    assert pool.committed.tolist() == [True, False, False, False]
    session = LiveSession(deep, made, pool, PROMPTS, max_new_tokens=40, reads=frozenset({"lag"}))
    rng, entries, charged = np.random.default_rng(3), 0, 0
    while not session.done:
        if len(session.fresh):
            entries = 0
        context, arm = session.context, int(rng.integers(len(pool)))
        n = len(PROMPTS[session.at[0]][1]) + int(context.position[0])
        assert context.lag is not None
        assert context.lag[0, 0] == n - 1 - entries
        rounds = session.play(np.array([arm]))
        if arm < 2 and rounds.drafted[0]:
            assert rounds.catch_up[0] == n - 1 - entries
            charged += int(rounds.catch_up[0])
            entries = n - 1
    assert charged > 20
    assert session.texts == [generated(deep, prompt, 40) for _, prompt in PROMPTS]


def test_a_head_reads_the_states_of_its_own_lane(deep: Target, tmp_path: Path) -> None:
    wanted, drafted = [f"head:path={folder(tmp_path, 'eagle3')},draft_length=3"], []

    def listening(drafter: Any, said: list[list[int]]) -> Any:
        own = drafter.draft
        drafter.draft = lambda length: said.append((made := own(length)).tokens) or made
        return drafter

    for lanes in (1, 3):
        said: list[list[int]] = []
        sets = [build_drafters(wanted, deep, draft_length=3) for _ in range(lanes)]
        (first, *beside), pool = [[listening(d, said) for d in drafters] for drafters, _ in sets], sets[0][1]
        session = LiveSession(deep, first, pool, PROMPTS, beside=beside, max_new_tokens=6)
        while not session.done:
            session.play(np.zeros(lanes, np.int64))
        assert session.texts == [generated(deep, prompt, 6) for _, prompt in PROMPTS]
        drafted.append(sorted(said))
    assert drafted[0] == drafted[1]
    assert len({tuple(tokens) for tokens in drafted[0]}) > 5


def test_everything_is_revealed_of_a_head_and_counted(deep: Target, tmp_path: Path) -> None:
    made, pool = build_drafters([f"head:path={folder(tmp_path, 'eagle3')}", "lookup"], deep, draft_length=3)
    session = LiveSession(deep, made, pool, PROMPTS, max_new_tokens=20, feedback="full", scope="all")
    fresh, said = open_head(deep, folder(tmp_path, "eagle3")), 0
    features = Features(sorted(fresh.info.needs))
    cached = CachedModel(deep.model, features)
    fresh.watch(features)
    while not session.done:
        at, before = session.at[0], len(session.texts[session.at[0]])
        session.play(np.array([session.at[0] % 2]))
        text, revealed = PROMPTS[at][1] + session.texts[at], session.reveal().agreement[:, 0]
        for i, agrees in enumerate(revealed):
            n = len(PROMPTS[at][1]) + before + i
            if n < 2:
                assert np.isnan(agrees)
                continue
            cached.read(text[: n - 1])
            fresh.begin(text[:n])
            assert agrees == (fresh.draft(1).tokens[0] == text[n])
            said += 1
    assert said > 20


def test_a_pool_without_heads_takes_no_states(deep: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a state was taken")

    monkeypatch.setattr("metasd.runtime.engine.features.Tap.__init__", never)
    made, pool = build_drafters(["lookup"], deep)
    session = LiveSession(deep, made, pool, PROMPTS, max_new_tokens=10)
    play_all(session, iter([0] * 99))


def test_taking_states_leaves_the_logits_as_they_are(deep: Target) -> None:
    text, before = [5, 9, 7, 30, 44], [len(m._forward_hooks) for m in deep.model.modules()]
    features = Features([0, 2, 6, FINAL])
    with_states = CachedModel(deep.model, features).forward(text, 3)
    assert torch.equal(with_states, CachedModel(deep.model).forward(text, 3))
    assert features.length == 5
    assert [len(m._forward_hooks) for m in deep.model.modules()] == before
    assert not any(m._forward_pre_hooks for m in deep.model.modules())


def test_where_ids_are_not_explained_both_readings_are_tried(
    deep: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that says what its last state says through the target's own norm and output: counted two ways."""
    trial = " ".join(f"w{2 + (7 * i * i + 3 * i) % 60}" for i in range(120))
    monkeypatch.setattr("metasd.runtime.heads.choose.TRIAL", trial)
    config = FIXTURES["same-vocabulary"] | nested(1, 3, 5)
    tensors = weights(config)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        tensors[f"midlayer.{name}.weight"] *= 0
    tensors["fc.weight"] = torch.cat([torch.zeros(16, 32), torch.eye(16)], 1)
    tensors["norm.weight"] = deep.model.model.norm.weight.float()
    tensors["lm_head.weight"] = deep.model.lm_head.weight.float()
    path = str(write(tmp_path, config, tensors))
    drafter = open_head(deep, path)
    (note,) = drafter.notes
    out = deep.model(torch.tensor([deep.encode(trial, raw=True)]), output_hidden_states=True)
    said, shares = out.logits[0].argmax(-1)[1:], {}
    for ids, logits in (
        ((1, 3, 5), deep.model.lm_head(deep.model.model.norm(out.hidden_states[5]))),
        ((2, 4, 6), out.logits),
    ):
        shares[ids] = float((logits[0, :-1].argmax(-1) == said).double().mean())
        assert f"{'+'.join(map(str, ids))} (config, ids={'hf' if ids[0] == 1 else 'outputs'}) {shares[ids]:.1%}" in note
    assert shares[drafter.info.needs] == max(shares.values())  # type: ignore[index]
    assert "\n" not in note
    assert open_head(deep, path, ids="hf").info.needs == (1, 3, 5)
    assert open_head(deep, path, layers="1+2+3", ids="outputs").info.needs == (2, 3, 4)


def test_a_pool_with_heads_as_json() -> None:
    info = DrafterInfo("h", "head", free=False, deterministic=False, needs=(2, 3, 4), cache_rule=COMMITTED)
    pool = Pool([info, DrafterInfo("m", "model", free=False, deterministic=False)], [(0, 3), (1, 3)])
    told = pool.to_json()
    assert Pool.from_json(told).drafters == pool.drafters
    assert "cache_rule" not in told["drafters"][1], "as in traces written before there were heads"
    with pytest.raises(UsageError, match="cache rule 'x'"):
        DrafterInfo("h", "head", free=False, deterministic=False, cache_rule="x")


def test_a_sampled_draft_has_the_law_it_says(deep: Target, tmp_path: Path) -> None:
    """``probs`` are zero outside the draft vocabulary, sum to one, and are what the tokens are drawn from."""
    drafter = open_head(deep, folder(tmp_path, "eagle3"), sampling=Sampling(1.0))
    features = Features(sorted(drafter.info.needs))
    CachedModel(deep.model, features).read(PROMPTS[2][1])
    drafter.watch(features)
    counts, q = np.zeros(64), None
    for key in range(2000):
        drafter.begin(PROMPTS[2][1], np.uint64(key))
        made = drafter.draft(2)
        counts[made.tokens[0]] += 1
        q = made.probs
    assert q is not None
    outside = np.flatnonzero(~weights(FIXTURES["eagle3"])["t2d"].numpy())
    assert float(q[:, outside].sum()) == 0
    assert torch.allclose(q.sum(-1), torch.ones(2, dtype=q.dtype))
    # a count is off by more than 6 deviations once in 5e8; there are 64
    p = q[0].numpy()
    assert (abs(counts - 2000 * p) <= 6 * np.sqrt(2000 * p * (1 - p)) + 1).all()
