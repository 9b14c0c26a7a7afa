"""Every published format: what is read drafts as an implementation of its own says; what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from metasd.core.errors import UsageError
from metasd.runtime.heads.attach import build, candidates
from metasd.runtime.heads.files import read
from metasd.runtime.heads.module import Head

from ..conftest import tiny_model
from .published import FIXTURES, IDS, SPECFORGE, drafted, facts, nested, speculators, weights, write

TEXT = [5, 9, 7, 30, 44, 3, 19, 21, 8]
MODEL = tiny_model(2, layers=6)


def steps(head: Head, text: list[int], states: torch.Tensor, m: int) -> tuple[list[int], torch.Tensor]:
    """A greedy draft through the head's own module, the text read in two passes."""
    cache, n = head.cache(), len(text) - 1
    with torch.inference_mode():
        for a, b in ((0, n - 3), (n - 3, n)):
            features = head.fuse(states[a:b])
            logits, own = head(torch.tensor(text[a + 1 : b + 1]), features, torch.arange(a, b), cache)
        row, feature, tokens, rows = logits[-1:], own[-1:], list[int](), list[torch.Tensor]()
        for j in range(m):
            rows.append(row[0])
            token = head.tokens(row.argmax(-1))
            tokens.append(int(token))
            row, feature = head(token, feature, torch.tensor([n + j]), cache)
    return tokens, torch.stack(rows)


@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.parametrize("extra", [{}, {"embed": True, "fc_bias": True}], ids=["bare", "whole"])
def test_a_head_drafts_as_plain_functions_say(name: str, extra: dict[str, bool], tmp_path: Path) -> None:
    config, f = FIXTURES[name], facts(FIXTURES[name])
    if extra and "fc.weight" not in weights(config):
        extra = {"embed": True}
    tensors = weights(config, **extra)
    head = build(read(str(write(tmp_path, config, tensors, pickled=name in ("eagle1", "eagle3")))), MODEL)
    states = torch.randn(len(TEXT), f["A"] * f["Ht"], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    embed, unembed = MODEL.get_input_embeddings().weight, MODEL.get_output_embeddings().weight
    expected, logits = drafted(config, tensors, TEXT, states, 5, embed, unembed)
    mine, rows = steps(head, TEXT, states, 5)
    assert mine == expected
    assert torch.allclose(rows, logits, atol=1e-4, rtol=0)


def test_the_switches_of_the_fixtures_matter(tmp_path: Path) -> None:
    """Each is read: with the opposite of it the first logits differ."""
    base = FIXTURES["speculators-qwen3-8b"]
    states = torch.randn(len(TEXT), 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen = []
    for i, change in enumerate([{}, {"norm_before_residual": False}, {"norm_output": True}]):
        folder = write(tmp_path / str(i), base | change, weights(base))
        seen.append(steps(build(read(str(folder)), MODEL), TEXT, states, 3)[1])
    assert not torch.allclose(seen[0][0], seen[1][0], atol=1e-3)
    assert torch.allclose(seen[0][0], seen[2][0], atol=1e-9)
    assert not torch.allclose(seen[0][1], seen[2][1], atol=1e-3)


OWN = FIXTURES["eagle3"]
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # change of the configuration, of the tensors (None: left out), what the message says
    "mla": ({"architectures": ["Eagle3DeepseekV3ForCausalLM"]}, {}, "latent attention"),
    "peagle": ({"architectures": ["PEagleDraftModel"]}, {}, "parallel-draft"),
    "parallel": ({"parallel_drafting": True}, {}, "parallel-draft"),
    "dflash": ({"architectures": ["DFlashDraftModel"]}, {}, "block-diffusion"),
    "medusa": ({"model_type": "medusa"}, {}, "Medusa"),
    "type": ({"speculators_model_type": "mtp"}, {}, "type 'mtp'"),
    "quantised": ({"quantization_config": {"quant_method": "compressed-tensors"}}, {}, "quantised"),
    "packed": ({}, {"midlayer.self_attn.q_proj.weight": torch.zeros(16, 32, dtype=torch.int8)}, "quantised"),
    "unknown": ({}, {"midlayer.extra.weight": torch.zeros(3)}, "no known head has: layers.0.extra.weight"),
    "missing": ({}, {"midlayer.self_attn.o_proj.weight": None}, "lacks layers.0.self_attn.o_proj.weight"),
    "no-map": ({}, {"d2t": None, "t2d": None}, "lacks d2t"),
    "odd-map": ({}, {"d2t": torch.zeros(40, dtype=torch.long)}, "do not map"),
    "far-map": ({}, {"d2t": torch.full((40,), 30), "t2d": None}, "do not map"),
    "shape": ({}, {"norm.weight": torch.ones(17)}, r"norm.weight has shape \[17\]"),
    "width": ({"target_hidden_size": 14}, {}, "width 14"),
    "target": (
        {"target_hidden_size": 12},
        {"midlayer.x": None, "fc.weight": torch.zeros(16, 36), "embed_tokens.weight": torch.zeros(64, 16)},
        "width 12, but the target's is 16",
    ),
    "fc": ({}, {"fc.weight": torch.zeros(16, 40)}, "fc reads 40 inputs"),
    "vocabulary": ({"vocab_size": 70}, {"t2d": None}, "vocabulary of 70, but the target's is 64"),
    "draft-vocabulary": ({"draft_vocab_size": 41}, {}, "draft_vocab_size is 41"),
    "norm": ({"norm_before_fc": True}, {}, "input_norm.weight is missing"),
    "hidden-norm": ({"norm_before_fc": False}, {"input_norm.weight": torch.ones(48)}, "input_norm.weight is there"),
    "q-norm": ({}, {"midlayer.self_attn.q_norm.weight": torch.ones(4)}, "q_norm is there"),
    "ids": (nested(1, 2), {}, r"\[1, 2\], but fc reads the states of 3"),
    "two-ids": ({IDS: [1, 2, 3], **nested(2, 3, 4)}, {}, "say which"),
    "layers": ({"num_hidden_layers": 2}, {}, "num_hidden_layers is 2"),
    "rope": ({"rope_scaling": {"rope_type": "su"}}, {}, "rope_type 'su'"),
    "size": ({"hidden_size": "16"}, {}, "hidden_size is '16'"),
    "width-of-layer": ({"hidden_size": 18}, {}, "reads 32 inputs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    config, tensors, said = REFUSED[name]
    mixed = weights(OWN) | tensors
    folder = write(tmp_path, OWN | config, {n: t for n, t in mixed.items() if t is not None})
    with pytest.raises(UsageError, match=said) as raised:
        build(read(str(folder)), MODEL)
    assert "\n" not in str(raised.value)
    assert ";" in str(raised.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for spec, said in ((str(tmp_path / "no"), "no head"), ("", "no head"), (str(tmp_path), "no config.json")):
        with pytest.raises(UsageError, match=said):
            read(spec)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        read(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="neither"):
        read(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(UsageError, match="cannot be read"):
        read(str(tmp_path))


def test_readings_of_layer_ids(tmp_path: Path) -> None:
    def of(change: dict[str, Any], layers: str | None = None, ids: str | None = None) -> list[tuple[int, ...]]:
        folder = write(tmp_path, SPECFORGE | change, weights(SPECFORGE))
        config = build(read(str(folder)), MODEL).config
        return [c.indices for c in candidates(config, 30, layers, ids)]

    assert of({}) == [(2, 15, 27)]
    assert of(nested(1, 14, 26)) == [(1, 14, 26), (2, 15, 27)]
    assert of(nested(1, 14, 26), ids="outputs") == [(2, 15, 27)]
    assert of(nested(24, 27, 30)) == [(24, 27, 30)]
    assert of({IDS: [1, 14, 26]}, layers="3+4+5") == [(3, 4, 5)]
    with pytest.raises(UsageError, match="not 3 numbers"):
        of({}, layers="1+2")
    with pytest.raises(UsageError, match="target has 30"):
        of({}, layers="1+2+31")
    with pytest.raises(UsageError, match="ids=x"):
        of({}, ids="x")
    stated = speculators({}, **{IDS: [1, 3, 4]})
    config = build(read(str(write(tmp_path, stated, weights(stated)))), MODEL).config
    assert [c.indices for c in candidates(config, 30, None, None)] == [(1, 3, 4)]
