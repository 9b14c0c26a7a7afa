"""Trees decoded live: the text is plain decoding's whatever is checked, and run is replay for the planner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import shipped
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from metasd.core.errors import UsageError
from metasd.core.plans import Plan
from metasd.core.records import StopReason
from metasd.policies import make
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.tree import TreePass, can_branch
from metasd.runtime.load import Target, as_target
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession

from .sessions import drafters_for

PROMPTS = [("a", [5, 9, 7]), ("b", [3]), ("c", [8, 8, 8, 12, 5, 8, 8, 8])]
BUDGET = 24
KIND = {"vocab_size": tiny.VOCABULARY, "bos_token_id": None, "eos_token_id": tiny.EOS, "pad_token_id": 0}


def model_of(kind: str) -> Any:
    torch.manual_seed(4)
    if kind == "gpt2":  # learned positions
        shape: dict[str, Any] = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 160}
        return GPT2LMHeadModel(GPT2Config(**shape, **KIND, initializer_range=0.5)).eval().requires_grad_(False)
    if kind == "window":  # narrower than the texts
        shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
        more = {"num_key_value_heads": 1, "sliding_window": 5, "max_position_embeddings": 160}
        config = MistralConfig(**shape, **more, **KIND, initializer_range=0.3)
        return MistralForCausalLM(config).eval().requires_grad_(False)
    return tiny.llama(7, 3, torch.float32, eos_token_id=12)


@pytest.fixture(scope="module", params=["llama", "gpt2", "window"])
def target(request: pytest.FixtureRequest) -> Target:
    return as_target(model_of(request.param), tiny.tokenizer(), "tiny")


def session_of(target: Target, prompts=PROMPTS, temperature: float = 0.0, **more: Any) -> LiveSession:
    drafters, pool = drafters_for(target, tiny.near(tiny.llama(7, 3, torch.float32)), temperature)
    return LiveSession(
        target, drafters, pool, prompts, max_new_tokens=BUDGET, sampling=Sampling(temperature), plans=True, **more
    )


def plain(target: Target, temperature: float = 0.0) -> list[list[int]]:
    session = session_of(target, temperature=temperature)
    while not session.done:
        session.play_plans([Plan()])
    return session.texts


def random_plan(rng: np.random.Generator, ahead: list[int], models: bool) -> Plan:
    """Some of what comes, and other tokens: often the very ones that stand elsewhere in the tree."""
    tokens, parents, taken, depths = [], [], set(), []
    for node in range(int(rng.integers(0, 12))):
        parent = int(rng.integers(-1, node))
        depth = depths[parent] + 1 if parent >= 0 else 0
        right = depth < len(ahead) and rng.random() < 0.6
        token = ahead[depth] if right else int(rng.choice([*ahead[:3], 3, 4]) if ahead else 3)
        if (parent, token) in taken:
            break
        taken.add((parent, token))
        tokens.append(token)
        parents.append(parent)
        depths.append(depth)
    asked = int(rng.integers(0, 4)) if models else 0
    return Plan(tuple(tokens), tuple(parents), model=int(rng.choice([2, 3])) if asked else -1, depth=asked)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_random_trees_decode_the_text_of_plain_decoding(target: Target, temperature: float) -> None:
    wanted = plain(target, temperature)
    rng, moved, stops, branching = np.random.default_rng(1), 0, set(), 0
    for _ in range(5):
        session = session_of(target, temperature=temperature)
        lane = session._plans
        assert lane is not None
        assert lane.branches
        while not session.done:
            at = session.at[0]
            ahead = wanted[at][len(session.texts[at]) :]
            plan = random_plan(rng, ahead, models=temperature == 0)
            rounds = session.play_plans([plan])
            said = lane.judged[0].tokens
            assert said == ahead[: len(said)]
            stops.add(int(rounds.stop[0]))
            branching += plan.parents != tuple(range(-1, len(plan) - 1))
            moved += int(rounds.accepted[0]) > 0 and plan.tokens[:1] != tuple(ahead[:1])
        assert session.texts == wanted
    assert moved > 3  # paths that did not lie first in the cache
    assert branching > 20
    assert stops >= {StopReason.REJECTED, StopReason.PROPOSAL_ENDED}


def test_a_pass_says_of_every_node_what_a_chain_says(target: Target) -> None:
    text, tokens, parents = [5, 9, 7, 4, 4, 9, 20], [3, 6, 6, 3, 8, 3], [-1, -1, 0, 1, 3, 2]
    cached, alone = CachedModel(target.model), CachedModel(target.model)
    tree = TreePass(cached)
    cached.read(text[:3])  # part of the text is still to be read
    logits = tree.step(text, tokens, parents)
    for node in range(-1, len(tokens)):
        path, at = [], node
        while at >= 0:
            path, at = [tokens[at], *path], parents[at]
        torch.testing.assert_close(logits[node + 1], alone.forward([*text, *path], 1)[0], rtol=1e-4, atol=1e-4)
    tree.keep([1, 3, 4])
    assert cached.length == len(text) + 3
    kept = [*text, 6, 3, 8]
    assert cached.shared([*kept, 2]) == len(kept)
    torch.testing.assert_close(cached.forward([*kept, 2], 1), alone.forward([*kept, 2], 1), rtol=1e-4, atol=1e-4)


def test_a_target_that_cannot_be_masked_checks_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    assert can_branch(model)
    deaf = model_of("llama")
    monkeypatch.setattr("metasd.runtime.engine.tree.packable", lambda _: False)
    target = as_target(deaf, tiny.tokenizer(), "tiny")
    wanted, session = plain(target), session_of(target)
    assert not session.context.branches
    with pytest.raises(UsageError, match="checks chains only"):
        session.play_plans([Plan((3, 4), (-1, -1))])
    policy = make("planner:objective=rounds")
    policy.bind(session.pool, 1)
    longest = 0
    while not session.done:
        if len(session.fresh):
            policy.begin(session.fresh, session.keys)
        (plan,) = policy.plan(session.context, session.suggest)
        assert plan.parents == tuple(range(-1, len(plan) - 1))
        rounds = session.play_plans([plan])
        policy.judge(rounds, session.judged)
        longest = max(longest, int(rounds.accepted[0]))
    assert session.texts == wanted
    assert longest > 1


def test_a_model_that_ignores_masks_is_found_out() -> None:
    model = model_of("llama")
    heard = model.forward

    def deaf(*args: Any, attention_mask: Any = None, position_ids: Any = None, **more: Any) -> Any:
        return heard(*args, **more)

    model.forward = deaf
    assert not can_branch(model)


def test_what_cannot_be_played_is_refused_and_leaves_the_text(target: Target) -> None:
    session = session_of(target)
    for plan, said in (
        (Plan(model=0, depth=1), "cannot be had here"),
        (Plan(model=9, depth=1), "cannot be had here"),
        (Plan(model=2, depth=6), "cannot be had here"),
    ):
        with pytest.raises(UsageError, match=said):
            session.play_plans([plan])
    with pytest.raises(UsageError, match="2 plans for one lane"):
        session.play_plans([Plan(), Plan()])
    with pytest.raises(UsageError, match="cannot be had here"):
        session_of(target, temperature=0.5).play_plans([Plan(model=2, depth=1)])
    drafters, pool = drafters_for(target, tiny.near(tiny.llama(7, 3, torch.float32)))
    arms = LiveSession(target, drafters, pool, PROMPTS, max_new_tokens=BUDGET)
    with pytest.raises(UsageError, match="make it with plans=True"):
        arms.play_plans([Plan()])
    assert session.texts == [[], [], []]


def test_what_a_target_ships_holds_on_every_path() -> None:
    """Penalties depend on the tokens before: each node's are those of its own path."""
    target = shipped.llama(**shipped.TOGETHER)
    wanted = [shipped.generated(target, prompt) for _, prompt in shipped.PROMPTS]
    drafters, pool = shipped.build(target)
    session = LiveSession(target, drafters, pool, shipped.PROMPTS, max_new_tokens=shipped.BUDGET, plans=True)
    rng = np.random.default_rng(2)
    while not session.done:
        at = session.at[0]
        session.play_plans([random_plan(rng, wanted[at][len(session.texts[at]) :], models=False)])
    assert session.texts == wanted


@pytest.mark.parametrize("greedy", [True, False])
def test_a_planner_asks_no_model_where_its_tokens_are_drawn(greedy: bool) -> None:
    target = as_target(model_of("llama"), tiny.tokenizer(), "tiny")
    session = session_of(target, temperature=0.0 if greedy else 0.8)
    drafting = session.context.drafting
    assert drafting is not None
    assert np.isinf(drafting[0, :2, 1:]).all()
    assert np.isfinite(drafting[0, 2, 1:4]).all() == greedy


def test_a_pass_that_fails_can_be_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    target = as_target(model_of("llama"), tiny.tokenizer(), "tiny")
    wanted, session = plain(target), session_of(target)
    lane = session._plans
    assert lane is not None
    fork = Plan((wanted[0][1], wanted[0][0], wanted[0][1]), (-1, -1, 1), model=2, depth=2)
    heard = target.model.forward

    def broken(*args: Any, **more: Any) -> Any:
        heard(*args, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(target.model, "forward", broken)
    with pytest.raises(KeyboardInterrupt):
        session.play_plans([fork])
    monkeypatch.undo()
    before = session.context.position[0], lane.suggest[0].tail
    assert before == (0, tuple(PROMPTS[0][1]))
    rounds = session.play_plans([fork])
    assert int(rounds.accepted[0]) >= 2
    while not session.done:
        session.play_plans([Plan()])
    assert session.texts == wanted
