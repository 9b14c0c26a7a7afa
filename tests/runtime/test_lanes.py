"""Several texts decoded at once: each is what it is alone, whatever is drafted beside it, and run is replay."""

from __future__ import annotations

import dataclasses
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import shipped
import tiny
import torch
from far import FarDevice, far
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Rounds
from metasd.drafters import LookupDrafter
from metasd.drafters.base import Drafter
from metasd.policies import POLICIES
from metasd.record import run as recording
from metasd.runtime import contenders as live
from metasd.runtime.load import Target, as_target
from metasd.runtime.models import ModelDrafter
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession
from metasd.sim.replay.fidelity import check
from metasd.traces import open_trace

from .sessions import generated
from .test_trees import KIND, model_of

PROMPTS = [("a", [5, 9, 7]), ("b", [3]), ("c", [8, 8, 8, 12, 5, 8, 8, 8]), ("d", [4, 3, 9, 11]), ("e", [6, 2] * 5)]
BUDGET, LANES = 10, 3
LOOKUP, SHORT, MODEL, PLAIN = range(4)
ARMS = [(0, 6), (0, 2), (1, 3), (-1, 0)]


@cache
def near() -> Any:
    return tiny.near(tiny.llama(7, 3, torch.float32))


def build(sampling: Sampling | None = None) -> tuple[list[Drafter], Pool]:
    info = DrafterInfo("near", "model", free=False, deterministic=False)
    model = ModelDrafter(info, near(), vocab_size=tiny.VOCABULARY, sampling=sampling)
    drafters: list[Drafter] = [LookupDrafter(draft_length=6), model]
    return drafters, Pool([d.info for d in drafters], ARMS)


def opened(target: Target, lanes: int = LANES, prompts: Any = PROMPTS, **how: Any) -> LiveSession:
    sets = [build(how.get("sampling")) for _ in range(lanes)]
    beside = [drafters for drafters, _ in sets[1:]]
    return LiveSession(target, *sets[0], prompts, beside=beside, **{"max_new_tokens": BUDGET} | how)


def arms_of(session: LiveSession) -> np.ndarray:
    """A choice by text and position, so that a text is drafted alike on any lane."""
    where = [(prompt, len(session.texts[prompt])) for prompt in session.at]
    return np.array([(7 * prompt + 3 * position) % len(ARMS) for prompt, position in where])


def decoded(session: LiveSession) -> list[Rounds]:
    played = []
    while not session.done:
        session.context  # noqa: B018 - as a policy looks
        played.append(session.play(arms_of(session)))
    return played


def gemma3() -> Any:
    """Two kinds of layers, so one mask each."""
    torch.manual_seed(4)
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
    more = {"num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 5, "query_pre_attn_scalar": 8}
    kinds = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**shape, **more, **KIND, layer_types=kinds, max_position_embeddings=160)
    model = Gemma3ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model.eval().requires_grad_(False)


@cache
def target_of(kind: str) -> Target:
    return as_target(gemma3() if kind == "gemma3" else model_of(kind), tiny.tokenizer(), "tiny")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "window", "gemma3"])
def test_every_text_is_the_one_that_transformers_decodes_alone(kind: str) -> None:
    target = target_of(kind)
    expected = [generated(target, prompt, BUDGET) for _, prompt in PROMPTS]
    session = opened(target)
    played = decoded(session)
    assert session.texts == expected
    assert [r.lane.tolist() for r in played[:1]] == [[0, 1, 2]]
    assert {len(r) for r in played} >= {1, LANES}, "texts end at different times, and lanes go on without the others"
    widths = [{*r.drafted.tolist()} for r in played]
    assert any(len(w) > 1 for w in widths), "drafts of different lengths in one pass"
    accepted = sum(int(r.accepted.sum()) for r in played)
    assert accepted > 0 or kind == "gemma3"


def test_lanes_take_the_next_prompt_as_they_come_free() -> None:
    target = target_of("llama")
    session, heard = opened(target), []
    session.on_tokens = lambda prompt, tokens, arm, accepted: heard.append((prompt, tokens))
    played = decoded(session)
    began = [p for r in played for p, position in zip(r.prompt, r.position, strict=True) if not position]
    assert began == sorted(began) == list(range(len(PROMPTS)))
    assert session.at == [-1] * LANES
    assert [s.tokens for s in session.starts] == [len(tokens) for _, tokens in PROMPTS]
    assert all(s.first_token_seconds is not None for s in session.starts)
    assert [p for p, _ in heard] == sorted(p for p, _ in heard), "one text after the other is handed on"
    assert [[t for p, said in heard for t in said if p == at] for at in range(len(PROMPTS))] == session.texts


def test_the_seconds_of_all_rounds_are_the_time_that_passed() -> None:
    session = opened(target_of("llama"))
    played = decoded(session)
    charged = sum(float(r.seconds.sum()) for r in played if r.seconds is not None)
    assert charged == pytest.approx(session.seconds, rel=1e-9)
    for r in played:
        assert r.verify_seconds is not None
        assert len({*r.verify_seconds.tolist()}) == 1, "checked together, charged alike"


def test_the_turns_of_others_are_in_no_round(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    texts = [(name, "d", tokens) for name, tokens in PROMPTS]
    (entrant,) = live.contenders(["random"], build, baseline=False, prior=None, lanes=LANES)
    entrant.prepare(target_of("llama"), texts, live.Decoding(BUDGET, lanes=LANES), None)
    waiting = 0
    while not entrant.session.done:
        entrant.decode_one()
        now += 1000.0  # somebody else's turn; time stands still in ours
        begun = [len(t) for t in entrant.session.texts if t]
        waiting += len(begun) == len(texts) and not entrant.session.done
    assert waiting > 0  # texts were under way and no prompt was read, which begins a round anew
    assert entrant.session.seconds == entrant.ledger.totals().seconds == 0.0
    assert entrant.ledger.totals().emitted == sum(map(len, entrant.session.texts))
    assert all(len(r) == 1 for r in entrant.rounds)


def test_above_temperature_0_a_text_is_its_own_on_any_lane() -> None:
    target = as_target(tiny.llama(7, 3, eos_token_id=12), tiny.tokenizer(), "tiny")
    warm = {"sampling": Sampling(0.9), "seed": 3}
    texts = []
    for lanes in (1, LANES):
        session = opened(target, lanes, **warm)
        decoded(session)
        texts.append(session.texts)
    assert texts[0] == texts[1]
    assert len({tuple(t) for t in texts[0]}) == len(PROMPTS)


def test_generation_settings_see_their_own_text() -> None:
    target = shipped.llama(**shipped.TOGETHER)
    prompts = [*shipped.PROMPTS, ("b", [8, 8, 8])]
    session = opened(target, 3, prompts, max_new_tokens=shipped.BUDGET)
    decoded(session)
    assert session.texts == [shipped.generated(target, prompt) for _, prompt in prompts]


def test_a_pass_that_fails_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of("llama")
    expected = [generated(target, prompt, BUDGET) for _, prompt in PROMPTS]
    session, calls = opened(target), 0
    forward = torch.nn.Linear.forward

    def ringing(module: Any, x: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (40, 150, 333):
            raise KeyboardInterrupt
        return forward(module, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", ringing)
    rang = 0
    while not session.done:
        try:
            session.play(arms_of(session))
        except KeyboardInterrupt:
            rang += 1
    assert rang == 3
    assert session.texts == expected


# -- what cannot be decoded together is named ----------------------------------------------------------------------


def test_what_cannot_be_decoded_at_once_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="plans are made for one text at a time, not for 3; use --lanes 1"):
        opened(target_of("llama"), plans=True)
    deaf = as_target(tiny.llama(7, 3, torch.float32), tiny.tokenizer(), "tiny")
    deaf.model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UsageError, match="attends by flash_attention_2, which takes no mask of several texts"):
        opened(deaf)
    turning = dataclasses.replace(target_of("llama"), switch=12)
    with pytest.raises(UsageError, match="rotary factors of tiny follow the longest text of a pass beyond 12 tokens"):
        opened(turning, prompts=[("e", [6] * 14)])
    opened(turning, prompts=[("b", [3]), ("c", [4])])


def test_a_model_whose_windows_go_by_places_is_refused() -> None:
    from ..record.test_families import made

    target = as_target(made("GPTNeo", False), tiny.tokenizer(), "GPTNeo")
    with pytest.raises(UsageError, match="GPTNeoForCausalLM does not attend as a mask of several texts tells it"):
        opened(target)


# -- run = replay ---------------------------------------------------------------------------------------------------


def costs(target: Target, drafters: Any, pool: Pool, text: Any) -> CostModel:
    """A clock that nobody measured."""
    n = len(drafters)
    one = {"draft_fixed": 0.2, "draft_per_token": 0.3, "catch_up_fixed": 0.1, "catch_up_per_token": 0.05}
    by_drafter = {key: np.full(n, value) for key, value in one.items()}
    names = tuple(d.info.name for d in drafters)
    widths, seconds = np.array([1.0, 4.0, 32.0]), np.array([1.0, 1.4, 4.0])
    return CostModel(names, widths=widths, verify_seconds=seconds, **by_drafter, context=4.0)


SPECS = [
    "default", "default:objective=time", "metasd-ucb", "metasd-ucb:reset=never", "hedgespec", "lookup-first", "random",
    "exp3",
]  # fmt: skip
MANY = [(f"p{i}", [int(t) for t in np.random.default_rng(i).integers(2, 24, 2 + i % 5)] * 2) for i in range(11)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lanes") / "t"
    prompts = [(name, "d", tokens) for name, tokens in MANY]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "measure_costs", costs)  # seconds are no part of it
        recording.record(target_of("llama"), *build(), prompts, out, max_new_tokens=BUDGET)
    return out


@pytest.mark.parametrize("spec", SPECS)
def test_a_run_of_eight_lanes_is_its_replay(spec: str, recorded: Path) -> None:
    name, _, reset = spec.partition(":reset=")
    assert name.split(":")[0] in POLICIES
    trace = open_trace(recorded)
    assert trace.costs is not None
    clock = trace.costs.shared(8)
    (entrant,) = live.contenders([name], build, baseline=False, prior=None, lanes=8)
    texts = [(name, "d", tokens) for name, tokens in MANY]
    how = live.Decoding(BUDGET, clock="model", costs=clock, lanes=8)
    live.run(target_of("llama"), [entrant], texts, how, reset=reset or None)
    assert entrant.session.lanes == 8
    same = {"reset": reset or None, "budget": BUDGET, "costs": clock, "texts": entrant.session.texts}
    found = check(entrant.rounds, [n for n, _ in MANY], trace, name, **same, lanes=8)
    assert found.identical, found
    assert found.rounds == sum(entrant.ledger.rounds_of()) > 11
    assert len({int(r.lane[0]) for r in entrant.rounds}) == 8
    if reset:
        alone = check(entrant.rounds, [n for n, _ in MANY], trace, name, **same)
        assert alone.differing > 0, "a lane knows what was learned on itself"


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8, top_k=12)], ids=["greedy", "sampled"])
def test_a_round_of_all_lanes_reads_the_device_once(sampling: Sampling) -> None:
    def session_on(move: Any) -> LiveSession:
        target = as_target(move(tiny.llama(7, 3, torch.float32, eos_token_id=12)), tiny.tokenizer(), "tiny")
        sets = [[LookupDrafter(draft_length=4)] for _ in range(LANES)]
        pool = Pool([d.info for d in sets[0]], [(0, 4), (-1, 0)])
        return LiveSession(target, sets[0], pool, PROMPTS[:LANES], beside=sets[1:], max_new_tokens=6, sampling=sampling)

    near = session_on(lambda model: model)
    while not near.done:
        near.play(np.zeros(LANES, np.int64))
    with FarDevice() as device:
        session = session_on(far)
        session.context  # noqa: B018 - prompts are read before the first round
        while not session.done:
            before = device.reads
            session.play(np.zeros(LANES, np.int64))
            assert device.reads - before == 1
    assert session.texts == near.texts
