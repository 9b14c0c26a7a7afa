"""Compressed shards: the same arrays in a fifth of the bytes, and as hard to damage unnoticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.cli import main
from metasd.core.errors import TraceError
from metasd.traces import Trace, open_trace, save_trace, shard, synthetic, validate
from metasd.traces import format as fmt
from metasd.traces.reader import read_index
from metasd.traces.rows import ROW_FIELDS
from metasd.traces.shipped import shipped


def shard_of(folder: Path) -> Path:
    (file,) = (folder / fmt.SHARDS).iterdir()
    return file


def test_the_arrays_are_the_same(source: Trace, tmp_path: Path) -> None:
    plain, packed = (save_trace(source, tmp_path / name, packed=name == "packed") for name in ("plain", "packed"))
    assert shard_of(packed).suffix == shard.PACKED
    ours, theirs = open_trace(packed), open_trace(plain)
    for name in ("offsets", "ended", "prompt_lengths", "prompt_tokens", "tokens", *ROW_FIELDS):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert [validate(packed)[i] for i in (0, 2, 3, 4, 5)] == [validate(plain)[i] for i in (0, 2, 3, 4, 5)]
    assert not ours.tokens.flags.writeable


def test_the_command_packs_and_says_how_small(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["trace", "pack", "reference", "--out", str(tmp_path / "small")]) == 0
    assert "48 prompts, 4491 positions" in capsys.readouterr().out
    assert 4 * shard_of(tmp_path / "small").stat().st_size < read_index(shipped()).size
    assert main(["trace", "show", str(tmp_path / "small")]) == 0
    assert main(["trace", "pack", "reference", "--out", str(tmp_path / "small")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_recording_that_was_killed_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = save_trace(synthetic("iid", prompts=4, length=9, arms=2), tmp_path / "t")
    manifest = fmt.read_manifest(folder)
    fmt.write_json(folder / fmt.MANIFEST, {k: v for k, v in manifest.items() if k != "digest"} | {"complete": False})
    assert main(["trace", "pack", str(folder), "--out", str(tmp_path / "small")]) == 2
    assert "is not complete; finish it with metasd record --resume" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_the_same_trace_gives_the_same_bytes(source: Trace, tmp_path: Path) -> None:
    first, second = (shard_of(save_trace(source, tmp_path / name, packed=True)) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trace(synthetic("iid", prompts=4, length=9, arms=2), tmp_path_factory.mktemp("p") / "t", packed=True)


@settings(max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_is_refused_by_name(packed: Path, where: float, bit: int) -> None:
    file = shard_of(packed)
    kept = file.read_bytes()
    data = bytearray(kept)
    data[int(where * len(data))] ^= 1 << bit
    file.write_bytes(data)
    try:
        for check in (open_trace, validate):
            with pytest.raises(TraceError, match=file.name):
                check(packed)
    finally:
        file.write_bytes(kept)


@pytest.mark.parametrize("damaged", [b"", b"no xz at all", "cut"])
def test_what_cannot_be_unpacked_is_refused_without_a_hash(tmp_path: Path, damaged: bytes | str) -> None:
    """Above 64 MB nobody reads the hash first, so what is not whole must be found by unpacking it."""
    file = tmp_path / f"000000.safetensors{shard.PACKED}"
    shard.write(file, {"tokens": np.arange(9, dtype=np.int32)}, {})
    file.write_bytes(file.read_bytes()[:-20] if isinstance(damaged, str) else damaged)
    with pytest.raises(TraceError, match=file.name):
        shard.read(file)
