"""What stands in a model's way between its products may be exchanged only for what says the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm, apply_rotary_pos_emb

from metasd.runtime.engine import attend, packed, slim
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.engine import Engine
from metasd.runtime.engine.features import FINAL, Features
from metasd.runtime.engine.norms import norm_of
from metasd.runtime.engine.straight import Parts
from metasd.runtime.engine.tree import TreePass, can_branch
from metasd.runtime.models import without_layers

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")

WINDOW = {"sliding_window": 16}
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": WINDOW,
    "Qwen2": WINDOW | {"use_sliding_window": True} | MIXED,
    "Qwen3": {"head_dim": 8},
    "Phi3": WINDOW,
    "Granite": {},
    "Gemma3Text": WINDOW | {"head_dim": 8, "query_pre_attn_scalar": 8} | MIXED,
    "Cohere2": WINDOW | MIXED,
    "Olmo3": WINDOW | MIXED,
    "GptOss": WINDOW | MIXED | {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 160},
}
STRAIGHT = {"Llama", "Mistral", "Qwen2"}


def family(name: str, **settings: Any) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    common = {"vocab_size": 24, "num_key_value_heads": 2, "max_position_embeddings": 160, "initializer_range": 0.3}
    ends = {"eos_token_id": 1, "bos_token_id": None, "pad_token_id": 0}
    config = getattr(transformers, f"{name}Config")(
        **({} if name == "GPT2" else sizes | {"num_key_value_heads": 2}) | common | ends | FAMILIES[name] | settings
    )
    kind = getattr(transformers, {"GPT2": "GPT2LMHeadModel"}.get(name, f"{name.removesuffix('Text')}ForCausalLM"))
    torch.manual_seed(3)
    model = kind(config).eval().requires_grad_(False)
    for module in model.modules():  # norms of a new model are all ones
        weight = module._parameters.get("weight")
        if weight is not None and weight.dim() == 1:
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def greedy(model: Any, tokens: int) -> list[int]:
    cached, text = CachedModel(model), [3, 4, 5, 3, 4]
    while len(text) < tokens:
        text.append(int(cached.forward(text, 1).argmax()))
    return text


@torch.inference_mode()
def readings(model: Any) -> Iterator[torch.Tensor]:
    """Logits of every kind of pass: a prompt, one token, a draft, a tree, two texts of which one is padded."""
    cached, text = CachedModel(model), [(7 * i + 3) % 24 for i in range(40)]
    yield cached.forward(text[:20], 20)
    yield cached.forward(text[:21], 1)
    yield cached.forward(text[:30], 9)
    yield cached.forward([*text[:25], *text[30:36]], 6)
    if can_branch(model):
        tree = TreePass(cached)
        yield tree.step(text[:28], [5, 6, 7, 8], [-1, -1, 0, 1])
        tree.keep([1, 3])
        yield cached.forward([*text[:28], 6, 8, 9], 1)
    engine, mask = Engine(model), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    at = (mask.cumsum(1) - 1).clamp(min=0)
    yield engine.step(torch.tensor([[0, 0, 5, 6, 7], [3, 4, 5, 6, 7]]), 1, mask=mask, positions=at)
    mask = torch.cat([mask, mask[:, -1:]], 1)
    yield engine.step(torch.tensor([[8], [9]]), 1, mask=mask, positions=at[:, -1:] + 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_slim_model_says_what_it_said(name: str) -> None:
    model = family(name)
    before = copy.deepcopy(model)
    packed.pack(model)
    assert slim.install(model)
    assert any(isinstance(vars(m).get("_parts"), Parts) for m in model.modules()) == (name in STRAIGHT)
    for got, expected in zip(readings(model), readings(before), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert greedy(model, 60) == greedy(before, 60)
    assert set(model.state_dict()) == set(before.state_dict())


class Calls(TorchDispatchMode):
    """Counts the calls of PyTorch's operations that Python makes."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "share"), [("Llama", 0.7), ("Olmo3", 0.75)])
def test_a_pass_makes_fewer_calls(name: str, share: float) -> None:
    model = family(name)
    packed.pack(model)
    counts = []
    for _ in range(2):
        cached = CachedModel(model)
        cached.read([5] * 20)
        for width in (1, 8):
            with Calls() as calls:
                cached.forward([5] * 20 + [7] * width, width)
            counts.append(calls.count)
        slim.install(model)
    assert counts[2] < share * counts[0]
    assert counts[3] < share * counts[1]


def test_a_model_that_would_say_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family("Llama")
    packed.pack(model)
    kinds = [type(m) for m in model.modules()]
    monkeypatch.setattr(slim, "straight", lambda kind, *_: lambda self, hidden_states, **_: 1.01 * hidden_states)
    assert not slim.install(model)
    assert [type(m) for m in model.modules()] == kinds
    assert not any("_parts" in vars(m) for m in model.modules())


class Halved(LlamaAttention):
    """In a file that knows the rotary function, as those of models do."""

    turn = staticmethod(apply_rotary_pos_emb)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> Any:  # type: ignore[override]
        out, weights = super().forward(hidden_states, **kwargs)
        return 0.5 * out, weights


def test_a_layer_with_code_of_its_own_runs_it() -> None:
    model = family("Llama")
    for layer in model.model.layers:
        layer.self_attn.__class__ = Halved
    before = copy.deepcopy(model)
    packed.pack(model)
    assert slim.install(model), "what else is exchanged stays so"
    assert not any("_parts" in vars(m) for m in model.modules())
    torch.testing.assert_close(next(readings(model)), next(readings(before)), rtol=0, atol=1e-4)


def test_layers_left_out_and_states_taken_are_those_of_the_model_as_it_was() -> None:
    model = family("Llama", num_hidden_layers=4)
    before = copy.deepcopy(model)
    packed.pack(model)
    slim.install(model)
    assert greedy(without_layers(model, 1, 2), 40) == greedy(without_layers(before, 1, 2), 40)
    features = [Features((0, 2, 4, FINAL)) for _ in range(2)]
    for one, kept in zip((model, before), features, strict=True):
        CachedModel(one, kept).read([3, 4, 5, 6])
    rows = [kept.rows((0, 2, 4, FINAL), 0, 4) for kept in features]
    torch.testing.assert_close(*rows, rtol=0, atol=1e-4)


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.rand(6)), 1e-5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(-1, keepdim=True)
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def test_a_norm_is_known_by_what_it_makes() -> None:
    norm = LlamaRMSNorm(6, eps=1e-2)
    found = norm_of(norm)
    assert found is not None
    assert found[0] is norm.weight
    assert found[1] == 1e-2
    norm.variance_epsilon, norm.other = 1e-2, 1e-5
    assert norm_of(norm) is None, "which of two numbers it is nobody says"
    assert norm_of(GemmaRMSNorm(6)) is None, "1 + weight"
    assert norm_of(LlamaRMSNorm(6).double()) is None
    assert norm_of(Centred()) is None
    assert norm_of(nn.LayerNorm(6, bias=False)) is None


@pytest.mark.parametrize("width", [1, 3, attend.FEW + 1])
@pytest.mark.parametrize("mask", ["none", "bool", "additive", "by text", "by head"])
@torch.inference_mode()
def test_attention_is_that_of_the_library(width: int, mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, length = nn.Module(), 70
    module.num_key_value_groups = 3  # type: ignore[assignment]
    query, key, value = (torch.randn(2, heads, n, 8) for heads, n in ((6, width), (2, length), (2, length)))
    seen = torch.arange(length)[None, :] <= torch.arange(length - width, length)[:, None]
    given: Any = {"none": None, "bool": seen[None, None]}.get(mask)
    if mask in ("additive", "by text", "by head"):
        given = torch.zeros(1, 1, width, length).masked_fill_(~seen, torch.finfo(torch.float32).min)
    if mask == "by text":
        given = torch.cat([given, given.roll(1, -1)])
    if mask == "by head":
        given = given + torch.rand(1, 6, 1, length)
    shared = attend.Shared()
    expected, _ = sdpa_attention_forward(module, query, key, value, given, scaling=0.3)
    for _ in range(2):
        got, _ = shared.attend(module, query, key, value, given, scaling=0.3)
        torch.testing.assert_close(got, expected)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(attend, "sdpa_attention_forward", lambda *of, **more: told.append(more))
    shared.attend(module, query, key, value, given, softcap=1.0)
    assert [more["softcap"] for more in told] == [1.0], "the library takes or refuses what is not known here"


def test_heads_are_turned_as_by_the_function_that_was_there() -> None:
    own = transformers.models.llama.modeling_llama.apply_rotary_pos_emb
    assert attend.turns_halves(own)
    assert not attend.turns_halves(lambda q, k, cos, sin: (q * cos + q * sin, k * cos + k * sin))
    ours = attend.Rotary().of(own)
    for dim, shape in ((1, (2, 4, 3, 8)), (2, (2, 3, 4, 8))):
        for _ in range(2):  # new factors every time
            q, k, cos, sin = torch.randn(shape), torch.randn(shape), torch.randn(2, 3, 8), torch.randn(2, 3, 8)
            for got, expected in zip(
                ours(q, k, cos, sin, unsqueeze_dim=dim), own(q, k, cos, sin, unsqueeze_dim=dim), strict=True
            ):
                torch.testing.assert_close(got, expected)
