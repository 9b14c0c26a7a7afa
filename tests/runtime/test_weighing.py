"""What is said of a checkpoint before it is read, and the bar on a terminal; stdout stays the result's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import tiny
import torch

from metasd.runtime import weighing
from metasd.runtime.load import load_target
from metasd.runtime.weighing import Weight, weigh


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("weighed") / "m"
    tiny.llama(dtype=torch.bfloat16, tie_word_embeddings=False).save_pretrained(made, max_shard_size="4KB")
    tiny.tokenizer().save_pretrained(made)
    return made


def test_a_checkpoint_weighs_what_its_tensors_do(folder: Path) -> None:
    """Shards are added up, and files of other kinds left out."""
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    shutil.copy(next(folder.glob("model-*.safetensors")), folder / "consolidated.safetensors")
    parameters = tiny.llama(tie_word_embeddings=False).num_parameters()
    assert weigh(folder) == Weight(parameters, 2 * parameters, "BF16")


def test_a_damaged_file_is_the_loaders_business(tmp_path: Path) -> None:
    assert weigh(tmp_path) is None
    for data in (b"version https://git-lfs.github.com/spec/v1", b"", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{"):
        (tmp_path / "model.safetensors").write_bytes(data)
        assert weigh(tmp_path) is None


def test_a_large_model_is_announced_and_a_small_one_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_target(str(folder))
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(weighing, "QUIET", 1)
    load_target(str(folder))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"loading {folder}: 0 million parameters, 0.00 GB in BF16, to float32\n"


def test_a_terminal_shows_how_far_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    class Bar:
        def __init__(self, total: int, label: str) -> None:
            steps.append(f"{label} {total}")

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            steps.append("end")

        def __call__(self) -> None:
            steps.append("step")

    monkeypatch.setattr(weighing, "QUIET", 1)
    monkeypatch.setattr(weighing.progress, "bar", Bar)
    load_target(str(folder))
    assert steps == []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load_target(str(folder))
    tensors = len(tiny.llama(tie_word_embeddings=False).state_dict())
    assert steps == [f"loading (weights) {tensors}", *["step"] * tensors, "end"]
    assert capsys.readouterr().out == ""
