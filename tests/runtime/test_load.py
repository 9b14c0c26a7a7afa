"""What a target knows, and what is refused with one line that names the value."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from metasd.core.errors import UsageError
from metasd.runtime import kept, locate
from metasd.runtime.load import NO_LIMIT, Target, as_target, check_fits, load_target, same_tokenizer
from metasd.runtime.tokenizers import hashes

from .conftest import EOS, VOCAB, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def saved(tiny_target: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny-saved"
    tiny_target.model.save_pretrained(folder)
    tiny_target.tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_loads_as_what_was_saved(tiny_target: Target, saved: Path) -> None:
    loaded = load_target(str(saved), dtype="float64")
    assert (loaded.name, loaded.dtype, loaded.vocab_size) == ("tiny-saved", "float64", VOCAB)
    assert loaded.tokenizer_hash == tiny_target.tokenizer_hash
    assert loaded.eos_ids == {EOS}
    assert loaded.max_length == 256
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded.model(ids).logits, tiny_target.model(ids).logits)
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_revision_follows_the_weights(saved: Path, tmp_path: Path) -> None:
    before = locate.locate(str(saved))
    assert before == locate.locate(str(saved))
    other = tmp_path / "tiny-saved"
    other.mkdir()
    for file in saved.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert locate.locate(str(other))[2] == before[2]
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(bytes(weights))
    assert locate.locate(str(other))[2] != before[2]


def test_encoding_uses_the_chat_template_unless_raw() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "w2 {{ messages[0]['content'] }} w3"
    target = as_target(tiny_model(1), tokenizer, "tiny")
    assert target.encode("w9") == [2, 9, 3]
    assert target.encode("w9", raw=True) == [9]
    assert target.decode([9, EOS]) == "w9"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: load_target(device="tpu"), ["'tpu'", "cpu or cuda"]),
        (lambda: load_target(device="cuda:99"), ["'cuda:99'", "use cpu"]),
        (lambda: load_target(dtype="int3"), ["'int3'", "bfloat16"]),
        (lambda: load_target("no/such/folder"), ["'no/such/folder'", ".gguf"]),
        (lambda: load_target("nothing.gguf"), ["'nothing.gguf'", ".gguf file"]),
        (lambda: load_target(""), ["''", "folder"]),
        (lambda: load_target(".", revision="main"), ["'main'", "Hugging Face"]),
    ],
)
def test_refusals_name_the_value_and_the_mend(call: object, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot load model"):
        load_target(str(tmp_path))


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(UsageError, match=r"cannot read bad\.gguf"):
        load_target(str(file))
    assert kept.kept("models") == []


def test_context_is_checked_by_prompt_id(tiny_target: Target) -> None:
    check_fits(tiny_target, "q1", 200, 56)
    with pytest.raises(UsageError, match=r"'q1'.*200 tokens.*57.*256.*56 new tokens"):
        check_fits(tiny_target, "q1", 200, 57)
    with pytest.raises(UsageError, match=r"'q2'.*300 tokens.*shorten"):
        check_fits(tiny_target, "q2", 300)
    with pytest.raises(UsageError, match="'q3' has no tokens"):
        check_fits(tiny_target, "q3", 0)


def test_another_tokenizer_is_refused(tiny_target: Target) -> None:
    same_tokenizer(tiny_target, "twin", tiny_tokenizer())
    with pytest.raises(UsageError, match=r"'other' has another tokenizer than target tiny"):
        same_tokenizer(tiny_target, "other", tiny_tokenizer(VOCAB - 1))


def test_added_tokens_make_no_other_tokenizer(tiny_target: Target) -> None:
    padded = tiny_tokenizer()
    padded.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<user>"]})
    same_tokenizer(tiny_target, "padded", padded)
    same_tokenizer(as_target(tiny_target.model, padded, "padded"), "base", tiny_tokenizer())
    assert hashes(padded)[0] != tiny_target.tokenizer_hash
    assert tiny_target.tokenizer_hash in hashes(padded), "a table made for the base serves it"


def saved_with(saved: Path, folder: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> str:
    """A copy of the model in ``saved`` whose configuration and weights were changed."""
    shutil.copytree(saved, folder)
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    change(config, weights)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def without(*keys: str) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    return lambda config, weights: [weights.pop(key) for key in keys] and None


QK = [f"model.layers.{i}.self_attn.{x}_proj.weight" for i in (0, 1) for x in "qk"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without(*QK), ["lacks model.layers.0.self_attn.k_proj.weight", "and 1 more", "whole"]),
        (without("lm_head.weight"), ["lacks lm_head.weight"]),
        (lambda c, w: w.update({"score.weight": torch.zeros(1, 16)}), ["does not use: score.weight"]),
        (lambda c, w: c.update(model_type="t5", architectures=["T5ForConditionalGeneration"]), ["T5Config", "decoder"]),
        (lambda c, w: c.update(model_type="vit"), ["ViTConfig", "no causal language model"]),
        (
            lambda c, w: c.update(model_type="mine", auto_map={"AutoConfig": "conf.Mine"}),
            ["code of its own", "not supported", "use a model"],
        ),
    ],
)
def test_checkpoints_that_are_not_whole_or_no_causal_model_are_refused(
    saved: Path, tmp_path: Path, change: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved_with(saved, tmp_path / "changed", change)
    with pytest.raises(UsageError) as caught:
        load_target(folder)
    assert "\n" not in str(caught.value)
    for word in ["'" + folder, *words]:
        assert word in str(caught.value)
    assert capsys.readouterr().out == ""


def test_how_it_is_loaded_is_told(saved: Path) -> None:
    assert load_target(str(saved)).dtype == "float32", "auto on a CPU"
    own = load_target(str(saved), attention="eager", device_map="cpu")
    assert own.dtype == "float64", "auto where layers are placed: the checkpoint's own"
    assert own.arithmetic == {"attention": "eager", "linear": "torch"}
    assert load_target(str(saved), attention="sdpa").arithmetic["attention"] == "sdpa"
    with pytest.raises(UsageError, match=r"FlashAttention|flash_att"):
        load_target(str(saved), attention="flash_attention_2")


def test_a_model_without_a_limit_reads_anything() -> None:
    sizes: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 16, "n_layer": 1, "n_head": 2}
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(**sizes))
    target = as_target(bloom, tiny_tokenizer(), "bloom")
    assert target.max_length == NO_LIMIT
    check_fits(target, "q", 100_000, 1000)


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_texts_do_not_cross_a_rotary_switch(kind: str) -> None:
    model = tiny_model(2)
    own = {"short_factor": [1.0] * 4, "long_factor": [1.0, 3.0, 9.0, 27.0]} if kind == "longrope" else {"factor": 2.0}
    model.config.rope_parameters = {
        "rope_type": kind,
        "rope_theta": 1e4,
        "original_max_position_embeddings": 64,
        **own,
    }
    switch = 64 if kind == "longrope" else 256
    target = as_target(model, tiny_tokenizer(), "rope")
    assert target.switch == switch
    target = dataclasses.replace(target, max_length=1000)
    check_fits(target, "q", switch - 8, 8)
    check_fits(target, "q", switch + 2, 8)
    for prompt, budget in ((switch - 8, 9), (switch + 1, 8), (switch, 1)):
        with pytest.raises(UsageError, match=rf"'q' has {prompt} tokens.*rotary factors.*change at {switch}"):
            check_fits(target, "q", prompt, budget)


def test_a_missing_package_is_one_line() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from metasd.core.errors import UsageError\n"
        "try:\n    import metasd.runtime.load\nexcept UsageError as e:\n    print(e)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "torch" in out
    assert "metasd[live]" in out
    assert out.count("\n") == 1


def test_a_token_that_the_model_has_no_row_for_is_refused_before_it_is_read() -> None:
    """A tokenizer with added tokens that the model's embedding was never enlarged for."""
    tokenizer = tiny_tokenizer(VOCAB + 2)
    target = as_target(tiny_model(1), tokenizer, "tiny")
    assert target.encode("w9", raw=True) == [9]
    with pytest.raises(UsageError, match=rf"tiny makes token {VOCAB} \('w{VOCAB}'\).*knows {VOCAB} tokens"):
        target.encode(f"w9 w{VOCAB}", raw=True)


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = tiny_model(1)
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    with pytest.raises(UsageError, match=r"no numbers \(NaN\): its weights are damaged; get the checkpoint whole"):
        as_target(model, tiny_tokenizer(), "tiny")
    with pytest.raises(UsageError, match="too narrow for it; try --dtype float32"):
        as_target(model.to(torch.bfloat16), tiny_tokenizer(), "tiny")


def _edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def _shards(folder: Path) -> None:
    """The same checkpoint in several files, the second of which did not arrive."""
    (folder / "model.safetensors").unlink()
    tiny_model(1).save_pretrained(folder, max_shard_size="5KB")
    (second,) = folder.glob("model-00002-of-*.safetensors")
    second.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: _edit(f, vocab_size=VOCAB + 8), r"has in another shape lm_head.weight, model.embed_tokens.weight"),
        (lambda f: _edit(f, hidden_act="zzz"), r"its configuration says 'zzz', which transformers does not know"),
        (
            lambda f: (f / "tokenizer.json").write_text("{"),
            r"one of its JSON files is broken .*get the checkpoint whole",
        ),
        (
            lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
            r"cut short, or the pointer that Git LFS left for it; get the checkpoint whole",
        ),
        (
            lambda f: (f / "generation_config.json").write_text("{"),
            r"generation_config.json is broken.*mend or remove it",
        ),
        (_shards, r"model-00002-of-\d+.safetensors; get the checkpoint whole"),
        (
            lambda f: (f / "config.json").rename(f / "adapter_config.json"),
            r"is an adapter without the model it changes; merge it into that one",
        ),
    ],
    ids=["shape", "unknown word", "JSON", "LFS", "settings", "a shard is missing", "adapter"],
)
def test_what_is_wrong_with_a_folder_is_said_with_the_mend(
    spoil: Callable[[Path], object], said: str, saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(saved, folder)
    spoil(folder)
    with pytest.raises(UsageError, match=said):
        load_target(str(folder))
