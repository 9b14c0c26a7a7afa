"""Model drafters: what they propose, what they must catch up with, and whose weights they use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo
from metasd.record.reader import PackedReader, StepReader
from metasd.runtime.load import Target
from metasd.runtime.models import ModelDrafter, SkipDrafter, parse_layers, without_layers
from metasd.runtime.registry import DRAFTERS, build_drafters
from metasd.runtime.sampling import Sampling

from .conftest import VOCAB, tiny_model

INFO = DrafterInfo("m", "model", free=False, deterministic=False)


def greedy(model: Any, text: list[int], length: int) -> list[int]:
    text = list(text)
    for _ in range(length):
        with torch.inference_mode():
            text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
    return text[-length:]


def test_greedy_drafts_are_the_models_own_continuation(tiny_drafter: Any) -> None:
    drafter = ModelDrafter(INFO, tiny_drafter, vocab_size=VOCAB)
    drafter.begin([5, 6, 7])
    draft = drafter.draft(4)
    assert draft.tokens == greedy(tiny_drafter, [5, 6, 7], 4)
    with torch.inference_mode():
        logits = tiny_drafter(torch.tensor([[5, 6, 7, *draft.tokens]])).logits[0, 2:-1]
    torch.testing.assert_close(draft.logits, logits, rtol=0, atol=1e-10)
    chance = torch.softmax(logits, -1).gather(1, torch.tensor(draft.tokens)[:, None])[:, 0]
    np.testing.assert_allclose(draft.confidence, chance.numpy(), atol=1e-10)
    assert draft.probs is None
    assert drafter.draft(4).tokens == draft.tokens, "drafting must not change what a later draft says"


def test_catch_up_is_what_others_produced(tiny_drafter: Any) -> None:
    drafter = ModelDrafter(INFO, tiny_drafter, vocab_size=VOCAB)
    prompt = [5, 6, 7, 8]
    drafter.begin(prompt)
    assert drafter.lag == 3
    first = drafter.draft(3)
    assert first.catch_up == 3
    assert first.catch_up_seconds > 0
    assert drafter.lag == 0
    other = next(t for t in range(2, VOCAB) if t != first.tokens[1])
    drafter.extend([first.tokens[0], other])  # one accepted, the second rejected
    assert drafter.lag == 0, "the accepted token was read while drafting, the new one is the draft's own input"
    second = drafter.draft(3)
    assert (second.catch_up, second.catch_up_seconds) == (0, 0.0)
    drafter.extend([*second.tokens, 9])  # all three accepted: the last was never fed back
    assert drafter.lag == 1
    drafter.extend([10, 11])
    assert drafter.lag == 3
    third = drafter.draft(1)
    assert third.catch_up == 3
    assert third.tokens == greedy(tiny_drafter, drafter.text.tolist(), 1)


def test_a_new_text_shares_nothing_with_the_old_one(tiny_drafter: Any) -> None:
    drafter = ModelDrafter(INFO, tiny_drafter, vocab_size=VOCAB)
    drafter.begin([5, 6, 7])
    drafter.draft(1)
    drafter.begin([5, 6, 7, 8])
    assert drafter.lag == 3, "the common prompt must be charged again, as a replay charges it"


def test_sampled_drafts_come_from_the_probs_they_state(tiny_drafter: Any) -> None:
    sampling = Sampling(0.8, top_k=12, top_p=0.9)
    drafter = ModelDrafter(INFO, tiny_drafter, vocab_size=VOCAB, sampling=sampling, seed=4)
    drafter.begin([5, 6, 7])
    draft = drafter.draft(6)
    with torch.inference_mode():
        logits = tiny_drafter(torch.tensor([[5, 6, 7, *draft.tokens]])).logits[0, 2:-1]
    torch.testing.assert_close(draft.probs, sampling.probs(logits), rtol=0, atol=1e-9)
    chosen = draft.probs.gather(1, torch.tensor(draft.tokens)[:, None])[:, 0]
    assert (chosen > 0).all()
    np.testing.assert_allclose(draft.confidence, chosen.numpy())
    again = ModelDrafter(INFO, tiny_drafter, vocab_size=VOCAB, sampling=sampling, seed=4)
    again.begin([5, 6, 7])
    assert again.draft(6).tokens == draft.tokens
    drawn = set()
    for seed in range(12):
        other = ModelDrafter(INFO, tiny_drafter, vocab_size=VOCAB, sampling=sampling, seed=seed)
        other.begin([5, 6, 7])
        drawn.add(tuple(other.draft(6).tokens))
    assert len(drawn) > 3


@pytest.mark.parametrize("own", [VOCAB - 8, VOCAB + 8])
def test_vocabularies_padded_differently(own: int) -> None:
    drafter = ModelDrafter(INFO, tiny_model(1, vocab=own), vocab_size=VOCAB, sampling=Sampling(1.0))
    drafter.begin([5, 6])
    draft = drafter.draft(5)
    assert draft.logits.shape == draft.probs.shape == (5, VOCAB)
    assert max(draft.tokens) < min(own, VOCAB)
    torch.testing.assert_close(draft.probs.sum(-1), torch.ones(5, dtype=torch.float64))


def test_skip_shares_the_targets_weights_and_leaves_it_alone(tiny_target: Target) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    before = tiny_target.model(ids).logits.clone()
    drafter = SkipDrafter(tiny_target, "1-2")
    skipped = drafter.cached.model
    own = {p.data_ptr() for p in tiny_target.model.parameters()}
    assert {p.data_ptr() for p in skipped.parameters()} < own
    assert len(skipped.model.layers) == 2
    assert [layer.self_attn.layer_idx for layer in skipped.model.layers] == [0, 1]
    drafter.begin([5, 6, 7, 8])
    drafter.draft(3)
    assert torch.equal(tiny_target.model(ids).logits, before)
    assert [layer.self_attn.layer_idx for layer in tiny_target.model.model.layers] == [0, 1, 2, 3]
    assert len(tiny_target.model.model.layers) == tiny_target.model.config.num_hidden_layers == 4


def test_skip_is_the_model_without_those_layers(tiny_target: Target) -> None:
    short = tiny_model(1, layers=2)
    weights = tiny_target.model.state_dict()
    renamed = {k.replace("layers.3.", "layers.1."): v for k, v in weights.items() if ".1." not in k and ".2." not in k}
    short.load_state_dict(renamed)
    drafter = SkipDrafter(tiny_target, "2")
    assert drafter.info.settings == {"layers": "1-2", "of": 4}
    drafter.begin([5, 6, 7])
    assert drafter.draft(6).tokens == greedy(short, [5, 6, 7], 6)


def small(kind: str, **settings: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")(vocab_size=VOCAB, hidden_size=16, **settings)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Mamba", {"num_hidden_layers": 3, "state_size": 8}),
        ("Mamba2", {"num_hidden_layers": 3, "state_size": 8, "num_heads": 8, "head_dim": 4, "n_groups": 1}),
        ("Bloom", {"n_layer": 3, "n_head": 2}),
    ],
)
def test_layers_that_cannot_be_left_out_are_one_line(kind: str, settings: dict[str, Any]) -> None:
    model = small(kind, **settings)
    if kind == "Bloom":
        model.transformer.h.append(torch.nn.Identity())  # a list of layers of a length nobody would look for
    with pytest.raises(UsageError, match=f"skip cannot leave layers out of a {kind}ForCausalLM") as caught:
        without_layers(model, 1, 1)
    assert "\n" not in str(caught.value)


def test_layers_named_otherwise_are_left_out() -> None:
    shape = {"num_layers": 4, "num_heads": 2, "attention_types": [[["global", "local"], 2]], "window_size": 4}
    model = small("GPTNeo", max_position_embeddings=64, intermediate_size=16, **shape)
    skipped = without_layers(model, 1, 2)
    assert [block.attn.attention.layer_id for block in skipped.transformer.h] == [0, 1]
    assert skipped.config.num_hidden_layers == 2
    assert model.config.num_hidden_layers == 4


def test_a_text_may_hold_tokens_the_drafter_lacks() -> None:
    """They are read as its last token, in drafting and in recording, so both say the same."""
    own = VOCAB - 8
    model = tiny_model(1, vocab=own)
    drafter = ModelDrafter(INFO, model, vocab_size=VOCAB)
    drafter.begin([5, VOCAB - 2, 6])
    assert drafter.draft(4).tokens == greedy(model, [5, own - 1, 6], 4)
    drafter.extend([VOCAB - 1])
    assert drafter.draft(2).tokens == greedy(model, [5, own - 1, 6, own - 1], 2)
    for reader in (PackedReader(model, drafter.causal.fit), StepReader(model, drafter.causal.fit)):
        rows = torch.cat([logits for _, logits in reader.read([5, VOCAB - 2, 6], 3, 8)])
        assert rows.shape[-1] == VOCAB
        assert int(rows.argmax()) == greedy(model, [5, own - 1, 6], 1)[0]
        assert reader.grow([VOCAB - 1], [3], [-1]).isfinite().any()


def test_layers_are_checked() -> None:
    assert parse_layers("8-20", 30) == (8, 20)
    assert parse_layers("10", 30) == (10, 19)
    assert parse_layers("3", 4) == (0, 2)
    for spec in ("20-8", "8-30", "0-29", "30", "0", "", "a", "1-", "-1", "1-2-3", "4-b"):
        with pytest.raises(UsageError, match=r"layers=.*30 layers"):
            parse_layers(spec, 30)


def test_a_model_whose_layers_cannot_be_found_is_refused() -> None:
    with pytest.raises(UsageError, match="LlamaModel"):
        without_layers(tiny_model(1).model, 0, 0)


def test_build_gives_arms_in_order(tiny_target: Target) -> None:
    specs = ["lookup:draft_length=1+3", "skip:layers=1-2,name=half", "plain", "table:draft_length=2"]
    drafters, pool = build_drafters(specs, tiny_target, draft_length=5)
    assert pool.names == ["lookup@1", "lookup@3", "half@5", "plain", "table@2"]
    assert [d.info for d in drafters] == list(pool.drafters)
    assert [d.info.free for d in drafters] == [True, False, True]
    _, default = build_drafters([], tiny_target, draft_length=4)
    assert default.names == ["lookup@4", "table@4", "plain"]
    _, bare = build_drafters([], tiny_target, draft_length=0)
    assert bare.names == ["plain"]


def test_a_model_from_a_folder(tiny_target: Target, tiny_drafter: Any, tmp_path: Any) -> None:
    tiny_drafter.save_pretrained(tmp_path / "small")
    tiny_target.tokenizer.save_pretrained(tmp_path / "small")
    specs = [f"model:path={tmp_path / 'small'}"]
    (one,), pool = build_drafters(specs, tiny_target, draft_length=3)
    (two,), _ = build_drafters(specs, tiny_target, draft_length=3)
    assert pool.names == ["small@3", "plain"]
    assert isinstance(one, ModelDrafter)
    assert isinstance(two, ModelDrafter)
    assert one.cached is not two.cached
    assert one.cached.model is two.cached.model, "contenders share weights"
    one.begin([5, 6, 7])
    assert one.draft(3).tokens == greedy(tiny_drafter, [5, 6, 7], 3)
    assert pool.drafters[0].settings["path"] == "small"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nosuch", ["'nosuch'", "lookup", "model"]),
        ("lookup:speed=3", ["'speed'", "min_match"]),
        ("lookup:draft_length=-1", ["'-1'"]),
        ("lookup:draft_length=1+x", ["'1+x'"]),
        ("skip", ["layers"]),
        ("skip:layers=0-9", ["'0-9'", "4 layers"]),
        ("model:path=/no/such/folder", ["/no/such/folder"]),
        ("plain:x=1", ["'x'"]),
        ("table:path=nosuch", ["'nosuch'"]),
    ],
)
def test_bad_specs_end_in_one_line(tiny_target: Target, spec: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        build_drafters([spec], tiny_target)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_every_kind_says_what_it_is() -> None:
    assert list(DRAFTERS) == ["lookup", "suffix", "table", "model", "skip", "head", "plain"]
    for kind in DRAFTERS.values():
        assert kind.help.endswith(".")
    assert DRAFTERS["model"].settings == {"path": None, "name": None, "revision": None}
