"""GGUF files: converted once for each dtype, hashed once, with a word on size and place."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
library = pytest.importorskip("gguf")
pytest.importorskip("accelerate")

import tiny
import torch

from metasd.core.errors import FileError
from metasd.runtime import gguf, kept
from metasd.runtime.load import load_target

LAYERS = 2
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write(model: Any, path: Path) -> None:
    """``model``, a tiny Llama of two heads, as llama.cpp would keep it, with letters for tokens."""
    writer, config = library.GGUFWriter(str(path), "llama"), model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // 2)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<unk>", "<eos>", *"abcdefghijklmnopqrst", "cd", "ab"])
    writer.add_token_types([3, 3] + [1] * (config.vocab_size - 2))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)  # transformers 5.16 reads no file without
    writer.add_eos_token_id(1)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    names |= {f"model.layers.{i}.{a}": f"blk.{i}.{b}" for i in range(LAYERS) for a, b in NAMES.items()}
    for key, value in model.state_dict().items():
        array = value.numpy()
        for part, heads in (("q_proj", 2), ("k_proj", 1)):
            if part in key:  # llama.cpp turns neighbours where transformers turns halves
                array = array.reshape(heads, 2, len(array) // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names[key.removesuffix(".weight")] + ".weight", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_file_is_converted_once_for_each_dtype_it_is_used_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, file = tiny.llama(7, LAYERS, torch.float32), tmp_path / "little.gguf"
    write(model, file)
    loaded = load_target(str(file))
    ids = torch.tensor([loaded.encode("abcab", raw=True)])
    assert ids.tolist() == [[23, 4, 23]]
    torch.testing.assert_close(loaded.model(ids).logits, model(ids).logits)
    said = capsys.readouterr()
    assert said.out == ""
    for word in ("little.gguf", "to float32", " MB", str(gguf.cache_folder()), "21/21"):
        assert word in said.err
    (float32, bytes32), *others = kept.kept("models")
    assert "float32" in float32
    assert not others

    gguf.sha256.cache_clear()  # a new process
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("hashed again"))
    monkeypatch.setattr(gguf, "_read", lambda *_: pytest.fail("converted again"))
    assert load_target(str(file)).revision == loaded.revision
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("transformers.__version__", "5.99.0")
    assert load_target(str(file)).revision == loaded.revision, "what an earlier release converted is taken"
    monkeypatch.setattr("transformers.__version__", "5.0.0")
    with pytest.raises(pytest.fail.Exception, match="converted again"):  # of a later release nobody knows
        load_target(str(file))
    monkeypatch.undo()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load_target(str(file), dtype="bfloat16").dtype == "bfloat16"
    sizes = dict(kept.kept("models"))
    assert len(sizes) == 2
    half = next(size for name, size in sizes.items() if name != float32)
    assert half < bytes32, "kept in the dtype it is used in"
    file.write_bytes(file.read_bytes() + b"\0")
    assert gguf.sha256(file) != gguf.sha256.__wrapped__(file), "a file that changed is hashed anew"
    kept.remove([float32])
    assert float32 not in dict(kept.kept("models"))


@pytest.mark.parametrize("library_says", [True, False])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    library_says: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError
    from transformers import PreTrainedModel

    def full(self: PreTrainedModel, out: Path) -> None:
        out.mkdir()
        (out / "model.safetensors").write_bytes(b"half")
        if library_says:
            raise SafetensorError(f"Error while serializing: I/O error: full (os error {errno.ENOSPC})")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    file = tmp_path / "little.gguf"
    write(tiny.llama(7, LAYERS, torch.float32), file)
    with pytest.raises(FileError) as caught:
        load_target(str(file))
    assert str(caught.value).startswith(str(gguf.cache_folder() / "little-"))
    assert str(caught.value).endswith("cannot be written: No space left on device; free some space")
    assert [p.name for p in gguf.cache_folder().iterdir()] == [gguf.HASHES]
