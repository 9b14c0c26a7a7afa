"""What a target knows, and what is refused with one line that names the value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metasd.core.errors import UsageError
from metasd.runtime import gguf, load
from metasd.runtime.load import Target, as_target, check_fits, load_target, same_tokenizer

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
    before = load.locate(str(saved))
    assert before == load.locate(str(saved))
    other = tmp_path / "tiny-saved"
    other.mkdir()
    for file in saved.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert load.locate(str(other))[2] == before[2]
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(bytes(weights))
    assert load.locate(str(other))[2] != before[2]


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
    assert list(gguf.cache_folder().iterdir()) == []


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
